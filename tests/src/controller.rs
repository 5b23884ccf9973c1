//! `kthena-controller` as a process, run as a pod of its own would run: with the permissions of a service account.
//!
//! It looks after all namespaces, so a test that starts one needs a cluster of its own.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::{
    cargo,
    cluster::{Cluster, Identity, Namespace},
    process::Process,
};

/// The permissions that the controller needs, as a ClusterRole called [`ROLE_NAME`].
pub const ROLE: &str = include_str!("controller/role.yaml");
/// The name of [`ROLE`], and of the service account.
pub const ROLE_NAME: &str = "kthena-controller";

/// A running controller. Dropping it kills it.
#[derive(Debug)]
pub struct Controller {
    process: Process,
}

impl Controller {
    /// A service account of the namespace that may do what [`ROLE`] says.
    pub async fn account(cluster: &Cluster, space: &Namespace) -> Result<Identity> {
        cluster.apply(ROLE).await?;
        let account = cluster.service_account(space.name(), ROLE_NAME).await?;
        let binding = format!(
            "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {ROLE_NAME}}},
              roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {ROLE_NAME}}},
              subjects: [{{kind: ServiceAccount, name: {ROLE_NAME}, namespace: {}}}]}}",
            space.name()
        );
        cluster.apply(&binding).await?;
        Ok(account)
    }

    /// A controller without webhooks. It finds its API server through the identity's kubeconfig.
    pub async fn start(identity: &Identity) -> Result<Self> {
        let program: PathBuf = tokio::task::spawn_blocking(|| cargo::binary("kthena-controller"))
            .await
            .context("building the controller")??;
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(identity.kubeconfig())
            .args(["--enable-webhook=false", "--controllers=modelserving"]);
        let log = identity.kubeconfig().with_file_name("controller.log");
        Ok(Self {
            process: Process::start("kthena-controller", &mut command, log)?,
        })
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
