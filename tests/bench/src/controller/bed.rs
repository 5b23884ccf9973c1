//! A control plane for one controller and one round, with nodes for all pods, and the controller on it.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Node;
use kthena_tests::cluster::{Cluster, Entry, Filter, Mark, Namespace};
use kthena_tests::process::Process;
use kthena_tests::stopwatch::Stopwatch;
use kthena_tests::wait;
use kube::Api;
use kube::api::ListParams;

use super::subject::{Subject, Subjects};
use super::work::{self, Size};
use crate::machine::Group;

/// Nodes that KWOK plays.
const NODES: usize = 10;
/// How long the work may take: the controller written in Go needs minutes with its usual limit of requests.
const PATIENCE: Duration = Duration::from_secs(1800);
/// The pause between two looks; they are requests to the same API server.
const LOOK: Duration = Duration::from_millis(250);
/// A controller that has asked for nothing for so long, although everything runs, is done.
const QUIET: Duration = Duration::from_secs(5);

/// A controller at work.
#[derive(Debug)]
pub(crate) struct Bed {
    cluster: Cluster,
    pub space: Namespace,
    user: String,
    process: Process,
}

impl Bed {
    /// Starts everything. The controller is there once it watches what it looks after.
    pub(crate) async fn start(subjects: &Subjects, subject: Subject) -> Result<Self> {
        let parts = Cluster::builder().controller_manager().scheduler().kwok();
        let cluster = parts.start().await.context("starting a control plane")?;
        cluster.apply(&nodes()).await.context("making nodes")?;
        until_nodes_are_ready(&cluster).await?;
        let space = cluster.namespace("scale").await?;
        // Not of a group that the API server serves before all others.
        let account = cluster.service_account(space.name(), subject.account()).await?;
        cluster
            .apply(&administrator(space.name(), subject.account()))
            .await
            .context("granting permissions")?;
        let process = subjects.start(subject, &cluster, &account)?;
        let mut bed = Self {
            cluster,
            space,
            user: account.name().to_owned(),
            process,
        };
        for resource in ["modelservings", "pods"] {
            let watches = Filter::default().user(&bed.user).verb("watch").resource(resource);
            let cluster = bed.cluster.clone();
            let look = || async { Ok((cluster.audit().count(Mark::default(), &watches)? > 0).then_some(())) };
            let what = format!("{} to watch {resource}", subject.name());
            bed.process.until(&what, look).await?;
        }
        bed.until_quiet(LOOK * 4).await?;
        Ok(bed)
    }

    /// The controller's name in the audit log.
    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// The controller's process.
    pub(crate) fn group(&self) -> Group {
        Group(self.process.id())
    }

    /// Now, as a place in the audit log.
    pub(crate) fn mark(&self) -> Result<Mark> {
        self.cluster.audit().mark()
    }

    /// All requests after a place in the audit log.
    pub(crate) fn since(&self, mark: Mark) -> Result<Vec<Entry>> {
        self.cluster.audit().since(mark)
    }

    /// Waits until the controller says that all groups of so many ModelServings are available, and has nothing more to ask.
    pub(crate) async fn until_done(&mut self, size: Size) -> Result<()> {
        let clock = Stopwatch::start();
        while !work::is_available(&self.space, size).await? {
            self.check()?;
            anyhow::ensure!(
                clock.elapsed() < PATIENCE,
                "the groups are not available after {PATIENCE:?}; its last lines:\n{}",
                self.process.tail()
            );
            tokio::time::sleep(LOOK).await;
        }
        self.until_quiet(QUIET).await
    }

    /// An error if a program has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.cluster.check()?;
        self.process.check()
    }

    /// Waits until the controller has asked for nothing but watches for so long.
    async fn until_quiet(&mut self, time: Duration) -> Result<()> {
        let clock = Stopwatch::start();
        let mut mark = self.mark()?;
        let mut since = clock.elapsed();
        while clock.elapsed() - since < time {
            self.check()?;
            anyhow::ensure!(clock.elapsed() < PATIENCE, "the controller never rests");
            tokio::time::sleep(LOOK).await;
            let next = self.mark()?;
            let new = self.since(mark)?;
            let asks = |entry: &Entry| entry.user.username == self.user && entry.verb != "watch";
            if new.iter().any(asks) {
                since = clock.elapsed();
            }
            mark = next;
        }
        Ok(())
    }
}

fn nodes() -> String {
    let node = |number| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: node-{number}, labels: {{type: kwok}}}}, status: {{
              allocatable: {{cpu: '1000', memory: 1000Gi, pods: '2000'}}, capacity: {{cpu: '1000', memory: 1000Gi, pods: '2000'}}}}}}"
        )
    };
    (0..NODES).map(node).collect::<Vec<_>>().join("\n---\n")
}

fn administrator(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {{name: {name}}},
          roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}},
          subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]}}"
    )
}

async fn until_nodes_are_ready(cluster: &Cluster) -> Result<()> {
    let api: Api<Node> = Api::all(cluster.client().await?);
    let is_open = |node: &Node| {
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
        let mut conditions = node
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten());
        taints.is_none_or(Vec::is_empty) && conditions.any(|it| it.type_ == "Ready" && it.status == "True")
    };
    let look = || async {
        let nodes = api.list(&ListParams::default()).await?.items;
        Ok((nodes.len() == NODES && nodes.iter().all(is_open)).then_some(()))
    };
    wait::until("the nodes to take pods", look).await
}
