//! A control plane on loopback: etcd, kube-apiserver and, where a test needs them, the controllers around them.
//!
//! | Part | Start | Asked for by |
//! |---|---|---|
//! | etcd, kube-apiserver (RBAC, audit log) | always | |
//! | kube-controller-manager | garbage collection, namespaces, endpoints, node health | [`Builder::controller_manager`] |
//! | kube-scheduler | places pods on nodes | [`Builder::scheduler`] |
//! | KWOK | plays nodes labelled `type=kwok` and their pods | [`Builder::kwok`] |
//! | Volcano | gang scheduling | [`Builder::volcano`] |
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use kthena_tests::cluster::{Cluster, Filter};
//!
//! let cluster = Cluster::shared().await?;          // one for all tests of this process
//! let space = cluster.namespace("routes").await?;  // one for this test
//! let before = cluster.audit().mark()?;
//! space.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}").await?;
//! assert_eq!(cluster.audit().count(before, &Filter::default())?, 0); // the bed's own requests are left out
//! # Ok(())
//! # }
//! ```
//!
//! The data and logs are in a folder below the system's temporary folder, which goes away with the process. To keep it
//! for a look, stop the test with a debugger or a long sleep: nothing is removed before the process ends.

mod access;
mod apply;
mod audit;
mod component;
mod identity;
mod namespace;
mod parts;
mod pki;
mod shared;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use kube::{Client, api::DynamicObject};
use parking_lot::Mutex;

pub use self::{
    apply::{documents, documents_at, yaml_files},
    audit::{Audit, Entry, Filter, Mark, ObjectRef, ResponseStatus, Stage, User},
    identity::{Identity, USER_AGENT},
    namespace::Namespace,
    parts::Builder,
    shared::Shared,
};
use self::{component::Component, identity::Endpoint, pki::Authority};
use crate::{process, reserve::Port, setting, tools, wait};

/// A running control plane; it ends with the last handle.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

struct Inner {
    /// Declared before the folder: programs end before their files go.
    components: Mutex<Vec<Component>>,
    admin: Identity,
    endpoint: Endpoint,
    authority: Authority,
    audit: Audit,
    namespaces: AtomicU32,
    /// Held as long as the cluster lives: a stopped server starts again where it was.
    #[expect(dead_code, reason = "their locks matter, not their numbers")]
    ports: [Port; 3],
    dir: Arc<Dir>,
}

/// A folder that goes with its last owner, or with the process where that is a static.
#[derive(Debug)]
struct Dir(PathBuf);

impl Cluster {
    /// What a cluster consists of is decided first.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The cluster of this process: etcd and kube-apiserver with our CRDs. Tests tell their objects apart by namespace
    /// and leave the cluster itself alone.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: Shared = Shared::new(Cluster::builder);
        SHARED.get().await
    }

    /// The administrator, a member of `system:masters`.
    pub fn admin(&self) -> &Identity {
        &self.0.admin
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        self.admin().kubeconfig()
    }

    /// The administrator's client, for the current runtime.
    pub async fn client(&self) -> Result<Client> {
        self.admin().client().await
    }

    /// Where the API server listens, as in `https://127.0.0.1:20001`.
    pub fn url(&self) -> &str {
        &self.0.endpoint.url
    }

    /// `kubectl` as the administrator; built if this is the first use.
    pub fn kubectl(&self) -> Result<Command> {
        Ok(self.command(&tools::kubectl()?))
    }

    /// `helm` as the administrator; built if this is the first use.
    pub fn helm(&self) -> Result<Command> {
        Ok(self.command(&tools::helm()?))
    }

    /// A program that finds the cluster through `KUBECONFIG` and keeps what it writes for itself in the cluster's folder.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir());
        command
    }

    /// A folder for files of a test that should go with the cluster: the logs of the components are there as well.
    pub fn dir(&self) -> &Path {
        &self.0.dir.0
    }

    /// The requests that the API server has answered.
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// A fresh namespace whose name begins with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace> {
        let number = self.0.namespaces.fetch_add(1, Ordering::Relaxed);
        Namespace::create(self.admin().clone(), &format!("{prefix}-{number}")).await
    }

    /// Applies all objects of a YAML text; those without a namespace go to `default`.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        apply::apply(&self.client().await?, "default", documents(yaml)?).await
    }

    /// Applies a YAML file, or all of a folder.
    pub async fn apply_path(&self, path: impl AsRef<Path>) -> Result<Vec<DynamicObject>> {
        apply::apply(&self.client().await?, "default", documents_at(path.as_ref())?).await
    }

    /// Installs the CRDs of our charts and says how many there are.
    pub async fn install_crds(&self) -> Result<usize> {
        let charts = setting::checkout().join("charts/kthena/charts");
        let mut installed = 0;
        let Ok(entries) = std::fs::read_dir(&charts) else {
            return Ok(0);
        };
        for entry in entries {
            let crds = entry.context("listing the charts")?.path().join("crds");
            if crds.is_dir() {
                installed += self.apply_path(&crds).await?.len();
            }
        }
        Ok(installed)
    }

    /// Stops the API server: its port refuses connections afterwards, its data stays.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.stop(parts::API_SERVER).await
    }

    /// Starts it again on the same port and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.restart(parts::API_SERVER).await?;
        self.until_ready().await
    }

    /// Stops etcd: the API server lives but fails most requests.
    pub async fn stop_etcd(&self) -> Result<()> {
        self.stop(parts::ETCD).await
    }

    /// Starts etcd again with its data, and waits until the API server is ready again.
    pub async fn start_etcd(&self) -> Result<()> {
        self.restart(parts::ETCD).await?;
        self.until_ready().await
    }

    /// Waits until the API server says that it is ready.
    pub async fn until_ready(&self) -> Result<()> {
        let client = self.client().await?;
        self.until("the API server to be ready", || async {
            let request = http::Request::get("/readyz")
                .body(Vec::new())
                .context("making a request")?;
            client
                .request_text(request)
                .await
                .map(|_| Some(()))
                .context("GET /readyz")
        })
        .await
    }

    /// Like [`wait::until`], but ends at once when a component has ended, and shows the logs of all in its error.
    pub async fn until<T, F, Fut>(&self, what: &str, look: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<T>>>,
    {
        let found = wait::within_while(wait::PATIENCE, what, || self.check(), look);
        found.await.map_err(|error| self.explain(error))
    }

    /// An error if a component has ended that should be running.
    pub fn check(&self) -> Result<()> {
        self.0.components.lock().iter_mut().try_for_each(Component::check)
    }

    /// Adds the ends of all component logs to an error.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let tails: Vec<String> = self.0.components.lock().iter().map(Component::tail).collect();
        error.context(format!("the components' last lines:\n{}", tails.join("\n")))
    }

    fn add(&self, component: Component) {
        self.0.components.lock().push(component);
    }

    async fn stop(&self, name: &str) -> Result<()> {
        let running = self.component(name, Component::take)?;
        if let Some(mut process) = running {
            process.stop(component::GRACE).await;
        }
        Ok(())
    }

    async fn restart(&self, name: &str) -> Result<()> {
        self.stop(name).await?;
        self.component(name, Component::start)?
    }

    fn component<T>(&self, name: &str, act: impl FnOnce(&mut Component) -> T) -> Result<T> {
        let mut components = self.0.components.lock();
        let found = components.iter_mut().find(|component| component.name() == name);
        found
            .map(act)
            .with_context(|| format!("this cluster has no {name}"))
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.endpoint.url)
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Dir {
    fn create() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("kthena-")
            .tempdir()
            .context("creating a temporary folder")?;
        let path = dir.keep();
        process::remove_at_exit(&path);
        Ok(Self(path))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok(); // what is left goes at the end of the process
    }
}
