//! `kthena-controller` as a process, run as a pod of its own would run: with the permissions of a service account.
//!
//! It looks after all namespaces, so a test that starts one needs a cluster of its own.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use anyhow::{Context, Result};
use kthena_controller::rbac::Part;
use kthena_sdk::rbac::Rights;

use crate::{
    cargo,
    cluster::{Cluster, Identity, Mark, Namespace},
    http,
    process::Process,
    reserve::Port,
    setting, wait,
};

/// The name of the roles, and of the service account.
pub const ROLE_NAME: &str = "kthena-controller";

/// A running controller. Dropping it kills it, and fails the test if it asked the API server for something that its roles do not allow.
#[derive(Debug)]
pub struct Controller {
    process: Process,
    account: Identity,
    /// Health and metrics, debugging.
    ports: [Port; 2],
}

impl Controller {
    /// A service account of the namespace that may do what the controller manager says that it does.
    pub async fn account(cluster: &Cluster, space: &Namespace) -> Result<Identity> {
        Self::account_for(cluster, space, &Part::all()).await
    }

    /// A service account of the namespace that may do what these parts of the controller manager say that they do.
    pub async fn account_for(cluster: &Cluster, space: &Namespace, parts: &[Part]) -> Result<Identity> {
        let rights: Rights = parts.iter().map(Part::rights).collect();
        cluster
            .apply(&serde_json::to_string(&rights.cluster_role(ROLE_NAME))?)
            .await?;
        let account = cluster.service_account(space.name(), ROLE_NAME).await?;
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {ROLE_NAME}}},
              roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {ROLE_NAME}}},
              subjects: [{{kind: ServiceAccount, name: {ROLE_NAME}, namespace: {}}}]}}",
            space.name()
        );
        cluster.apply(&binding).await?;
        space
            .apply(&serde_json::to_string(&rights.role(ROLE_NAME))?)
            .await?;
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: {ROLE_NAME}}},
              roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {ROLE_NAME}}},
              subjects: [{{kind: ServiceAccount, name: {ROLE_NAME}, namespace: {}}}]}}",
            space.name()
        );
        space.apply(&binding).await?;
        Ok(account)
    }

    /// A controller without webhooks. It finds its API server through the identity's kubeconfig.
    pub async fn start(identity: &Identity) -> Result<Self> {
        Self::with(identity, "controller", &["--enable-webhook=false"]).await
    }

    /// A controller with these flags, whose log is called so.
    pub async fn with(identity: &Identity, name: &str, flags: &[&str]) -> Result<Self> {
        let program: PathBuf = tokio::task::spawn_blocking(|| cargo::binary("kthena-controller"))
            .await
            .context("building the controller")??;
        let ports = [Port::reserve()?, Port::reserve()?];
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(identity.kubeconfig())
            .arg("--controllers=modelserving")
            .arg(format!("--metrics-bind-address=127.0.0.1:{}", ports[0].number()))
            .arg(format!("--debug-port={}", ports[1].number()))
            .args(flags);
        let log = identity.kubeconfig().with_file_name(format!("{name}.log"));
        Ok(Self {
            process: Process::start(name, &mut command, log)?,
            account: identity.clone(),
            ports,
        })
    }

    /// What it answers about its health and metrics at a path such as `/readyz`.
    pub async fn health(&self, path: &str) -> Result<http::Answer> {
        http::get(&format!("http://127.0.0.1:{}{path}", self.ports[0].number())).await
    }

    /// What it knows.
    pub async fn cache(&self) -> Result<http::Answer> {
        let port = self.ports[1].number();
        http::get(&format!("http://127.0.0.1:{port}/debug/modelserving/cache")).await
    }

    /// The values of all metrics whose lines contain every one of the texts.
    pub async fn metrics(&self, parts: &[&str]) -> Result<Vec<f64>> {
        let page = self.health("/metrics").await?.text();
        let lines = page
            .lines()
            .filter(|line| parts.iter().all(|part| line.contains(part)));
        let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok());
        Ok(values.collect())
    }

    /// Waits until `/readyz` says this.
    pub async fn until_ready(&self, expected: &str) -> Result<()> {
        let look = || async { Ok(self.health("/readyz").await?.text()) };
        let found = wait::until_value("readiness", look, |text| text == expected).await;
        found
            .map(drop)
            .with_context(|| format!("the last lines:\n{}", self.tail()))
    }

    /// SIGTERM, and the end that comes of it.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.stop(Duration::from_secs(30)).await
    }

    /// Waits until it ends by itself.
    pub async fn until_ended(&mut self) -> Result<ExitStatus> {
        let process = &mut self.process;
        let ended = async {
            loop {
                match process.exited() {
                    Some(status) => return status,
                    None => wait::a_moment().await,
                }
            }
        };
        let ended = tokio::time::timeout(wait::PATIENCE, ended).await;
        ended.with_context(|| format!("it goes on; the last lines:\n{}", self.tail()))
    }

    /// Ends it without a warning, as a node that loses its power would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The end of its log, for a test that fails.
    pub fn tail(&self) -> String {
        self.process.tail()
    }
}

impl Controller {
    /// Adds what the account has asked for to the file of [`setting::rights_used`], where there is one.
    fn tell_what_was_used(&self) -> Result<()> {
        let Some(path) = setting::rights_used() else {
            return Ok(());
        };
        let entries = self.account.audit().since(Mark::default())?.into_iter();
        let own = entries.filter(|entry| entry.user.username == self.account.name());
        let used: BTreeSet<String> = own
            .map(|entry| {
                let object = &entry.object_ref;
                let resource = object.full_resource();
                format!(
                    "{}\t{resource}\t{}\t{}\n",
                    object.api_group, entry.verb, object.name
                )
            })
            .collect();
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        let text: String = used.into_iter().collect();
        Ok(file.write_all(text.as_bytes())?)
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.process.kill();
        // A test that fails has something to say already.
        if std::thread::panicking() {
            return;
        }
        let refused = self.account.audit().refused(self.account.name());
        let refused = refused.expect("the audit log stays as long as the account's kubeconfig");
        assert!(refused.is_empty(), "the roles lack: {refused:?}");
        self.tell_what_was_used()
            .expect("what was used is told to the test command");
    }
}
