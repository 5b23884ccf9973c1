//! What a cluster is made of, and with which arguments.

mod controllers;

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU32},
};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use super::{
    Audit, Cluster, Dir, Identity, Inner,
    audit::{LOG, POLICY},
    component::Component,
    identity::{Credential, Endpoint},
    pki::Authority,
};
use crate::{reserve::Port, tools};

pub(super) const ETCD: &str = "etcd";
pub(super) const API_SERVER: &str = "kube-apiserver";

/// The choice of parts. Etcd and the API server are always there.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    controller_manager: bool,
    scheduler: bool,
    kwok: bool,
    volcano: bool,
    without_crds: bool,
}

/// The reserved ports of one attempt.
struct Ports {
    etcd_client: Port,
    etcd_peer: Port,
    api_server: Port,
}

impl Builder {
    /// With kube-controller-manager: owner references, namespaces, services and node health are looked after.
    pub fn controller_manager(mut self) -> Self {
        self.controller_manager = true;
        self
    }

    /// With kube-scheduler.
    pub fn scheduler(mut self) -> Self {
        self.scheduler = true;
        self
    }

    /// With KWOK for nodes labelled `type=kwok`.
    pub fn kwok(mut self) -> Self {
        self.kwok = true;
        self
    }

    /// With Volcano's scheduler and controller manager; brings kube-controller-manager as well.
    pub fn volcano(mut self) -> Self {
        self.volcano = true;
        self.controller_manager()
    }

    /// Without the CRDs of our charts, for a test that installs them itself.
    pub fn without_crds(mut self) -> Self {
        self.without_crds = true;
        self
    }

    /// Starts all parts and waits until they work. Programs that are not in the cache are built first.
    pub async fn start(&self) -> Result<Cluster> {
        self.build_tools().await?;
        // Ports are reserved among test processes, but another program may still take one.
        let mut attempt = self.attempt().await;
        for _ in 0..2 {
            match attempt {
                Err(error) if format!("{error:#}").contains("address already in use") => {
                    attempt = self.attempt().await;
                }
                settled => return settled,
            }
        }
        attempt
    }

    /// Builds outside the runtime's thread: this may take minutes, and other tests' tasks go on meanwhile.
    async fn build_tools(&self) -> Result<()> {
        let parts = self.clone();
        let build = move || -> Result<()> {
            tools::etcd()?;
            tools::kube_apiserver()?;
            if parts.controller_manager {
                tools::kube_controller_manager()?;
            }
            if parts.scheduler {
                tools::kube_scheduler()?;
            }
            if parts.kwok {
                tools::kwok()?;
            }
            if parts.volcano {
                tools::volcano_controller_manager()?;
                tools::volcano_scheduler()?;
            }
            Ok(())
        };
        tokio::task::spawn_blocking(build)
            .await
            .context("building the tools")?
    }

    async fn attempt(&self) -> Result<Cluster> {
        let dir = Arc::new(Dir::create()?);
        let ports = Ports {
            etcd_client: Port::reserve()?,
            etcd_peer: Port::reserve()?,
            api_server: Port::reserve()?,
        };
        let authority = Authority::create(&dir.0.join("pki"))?;
        let endpoint = Endpoint {
            url: format!("https://127.0.0.1:{}", ports.api_server.number()),
            authority: authority.certificate(),
        };
        let pair = authority.client("admin", "kthena-tests-admin", Some("system:masters"))?;
        let admin = Identity::write(&dir, "admin", &endpoint, &Credential::Certificate(&pair))?;
        let components = vec![
            etcd(&dir.0, &ports)?.started()?,
            api_server(&dir.0, &ports, &authority)?.started()?, // it waits for etcd itself
        ];
        let cluster = Cluster(Arc::new(Inner {
            components: Mutex::new(components),
            audit: Audit::of(&dir.0),
            namespaces: AtomicU32::new(0),
            ports: [ports.etcd_client, ports.etcd_peer, ports.api_server],
            admin,
            endpoint,
            authority,
            dir,
        }));
        cluster.until_ready().await?;
        let rest = async {
            if !self.without_crds {
                cluster.install_crds().await.context("installing our CRDs")?;
            }
            self.start_controllers(&cluster).await
        };
        rest.await.map_err(|error| cluster.explain(error))?;
        Ok(cluster)
    }
}

fn etcd(dir: &Path, ports: &Ports) -> Result<Component> {
    let client = format!("http://127.0.0.1:{}", ports.etcd_client.number());
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer.number());
    let component = Component::new(ETCD, tools::etcd()?, dir)
        .path("data-dir", &dir.join("etcd"))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok(component)
}

fn api_server(dir: &Path, ports: &Ports, authority: &Authority) -> Result<Component> {
    let server = authority.server("kube-apiserver")?;
    let signing_key = authority.signing_key("service-account")?;
    let policy = dir.join("audit-policy.yaml");
    std::fs::write(&policy, POLICY).context("writing the audit policy")?;
    let component = Component::new(API_SERVER, tools::kube_apiserver()?, dir)
        .arg(format!(
            "--etcd-servers=http://127.0.0.1:{}",
            ports.etcd_client.number()
        ))
        .arg(format!("--secure-port={}", ports.api_server.number()))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .path("tls-cert-file", &server.certificate)
        .path("tls-private-key-file", &server.key)
        .path("client-ca-file", &authority.certificate())
        .path("service-account-key-file", &signing_key.public)
        .path("service-account-signing-key-file", &signing_key.private)
        .path("cert-dir", &dir.join("pki"))
        .path("audit-policy-file", &policy)
        .path("audit-log-path", &dir.join(LOG))
        .args([
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--authorization-mode=RBAC",
            // Pods need no account here, and its controller may be missing.
            "--disable-admission-plugins=ServiceAccount",
            // The address is loopback, which no endpoint may be.
            "--endpoint-reconciler-type=none",
            // Webhooks behind Services are reached by pod address: nothing routes cluster addresses.
            "--enable-aggregator-routing=true",
            "--audit-log-maxsize=4000",
            "--allow-privileged=true",
            "--profiling=false",
        ]);
    Ok(component)
}
