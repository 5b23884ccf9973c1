//! What a kubelet is like, before it runs.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};

use super::{
    Kubelet,
    address::Addresses,
    dispatch::{self, Settings},
};
use crate::{
    cargo,
    cluster::{Cluster, Identity, Namespace},
    reserve::Range,
};

/// What every engine gets unless its pod says otherwise: it computes in no time.
const INSTANT: [&str; 4] = [
    "--prefill-tokens-per-second",
    "0",
    "--decode-tokens-per-second",
    "0",
];

/// Settings of a kubelet that does not run yet.
#[derive(Debug, Clone)]
pub struct Builder {
    identity: Identity,
    dir: PathBuf,
    node: String,
    labels: Vec<(String, String)>,
    binds: Option<String>,
    range: Range,
    program: Option<PathBuf>,
    probe_every: Duration,
}

impl Builder {
    pub(super) fn new(cluster: &Cluster, node: &str) -> Self {
        Self {
            identity: cluster.admin().clone(),
            dir: cluster.dir().join("pods"),
            node: node.to_owned(),
            labels: Vec::new(),
            binds: None,
            range: Range::default(),
            program: None,
            probe_every: Duration::from_millis(250),
        }
    }

    /// Binds every pod of a namespace to this node that no scheduler has bound.
    pub fn binding(mut self, space: &Namespace) -> Self {
        self.binds = Some(space.name().to_owned());
        self
    }

    /// One more label on the node.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Addresses from another range than loopback.
    pub fn range(mut self, range: Range) -> Self {
        self.range = range;
        self
    }

    /// Another program than the simulator of this workspace; it has to understand `--listen`.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// The pause between two probes of an engine.
    pub fn probe_every(mut self, period: Duration) -> Self {
        self.probe_every = period;
        self
    }

    /// Starts it and waits until its node is Ready.
    pub async fn start(self) -> Result<Kubelet> {
        std::fs::create_dir_all(&self.dir).with_context(|| format!("creating {}", self.dir.display()))?;
        let program = match self.program.clone() {
            Some(program) => program,
            None => tokio::task::spawn_blocking(|| cargo::binary("kthena-sim"))
                .await
                .context("building the sim")??,
        };
        let mut addresses = Addresses::new(self.range);
        let address = addresses.next()?;
        let (orders, inbox) = mpsc::channel(64);
        let (ready, started) = oneshot::channel();
        let settings = Settings {
            identity: self.identity,
            node: self.node.clone(),
            labels: self.labels,
            binds: self.binds,
            address,
            dir: self.dir,
            program,
            arguments: INSTANT.map(str::to_owned).into(),
            probe_every: self.probe_every,
        };
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime
                .expect("a runtime can be made")
                .block_on(dispatch::run(settings, addresses, inbox, ready));
        };
        let thread = std::thread::Builder::new()
            .name(self.node.clone())
            .spawn(work)
            .context("starting a thread")?;
        started.await.context("the kubelet has ended before it began")??;
        Ok(Kubelet {
            node: self.node,
            address,
            orders,
            thread: Some(thread),
        })
    }
}
