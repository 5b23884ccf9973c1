//! A kubelet for engine pods: every pod of its node becomes a `kthena-sim` process at an address of the pod's own.
//!
//! It does what a kubelet does, as far as the API shows it:
//! - a bound pod gets an address and goes from Pending to Running; it is Ready while its engine answers the readiness
//!   probe (`GET /health`, or what the container declares) and its readiness gates are true;
//! - a deleted pod gets its `preStop` pause and SIGTERM, then SIGKILL at the end of its grace period, and leaves the API
//!   when its process is gone. Until then the probe decides whether it is Ready, so a deleted pod may well be: it is
//!   the deletion timestamp that tells others to leave it alone;
//! - a container that ends is started again at the same address, as `restartPolicy` says;
//! - the node's lease is renewed, so that the node stays Ready.
//!
//! And it can be told to do what makes trouble: [`Kubelet::crash`], [`Kubelet::freeze`], [`Kubelet::set_ready`],
//! [`Kubelet::readdress`] and [`Kubelet::vanish`].
//!
//! # What runs in a pod
//! The engine is the first container with a port, or the one named by the annotation [`CONTAINER`]; all others only seem to
//! run. Its simulator gets, later ones winning: the kubelet's own defaults (an engine that computes in no time), then
//! either the annotation [`ARGUMENTS`] or what the container's own arguments say about a vLLM or SGLang engine. The container's
//! arguments are taken as they are when its image is called `kthena-sim`.
//!
//! Everything runs on a thread of its own: a test may block.

mod address;
mod builder;
mod container;
mod dispatch;
mod engine;
mod node;
mod pod;
mod probe;
mod report;
mod status;
mod worker;

use std::{net::Ipv4Addr, thread::JoinHandle};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use tokio::sync::{mpsc, oneshot};

pub use self::builder::Builder;
use self::{dispatch::Order, worker::Action};
use crate::cluster::{Cluster, Namespace};

/// Annotation of a pod: the simulator's arguments, separated by spaces. `--listen` is added.
pub const ARGUMENTS: &str = "sim.kthena.io/args";
/// Annotation of a pod: which container is the engine.
pub const CONTAINER: &str = "sim.kthena.io/container";
/// Annotation of a pod: the address it gets, for tests in which a new pod inherits an old one's.
pub const ADDRESS: &str = "sim.kthena.io/address";
/// Label of the nodes that this kubelet makes.
pub const NODE_LABEL: &str = "kthena.io/test-kubelet";

/// A running kubelet. Dropping it kills its engines and leaves their pods as they are.
#[derive(Debug)]
pub struct Kubelet {
    node: String,
    address: Ipv4Addr,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// A pod that answers.
#[derive(Debug, Clone)]
pub struct RunningPod {
    pub name: String,
    pub uid: String,
    pub ip: Ipv4Addr,
    /// The engine's port.
    pub port: u16,
}

impl Kubelet {
    /// A kubelet whose node takes every pod of a namespace that no scheduler has bound.
    pub fn on(cluster: &Cluster, space: &Namespace) -> Builder {
        Self::node(cluster, &format!("node-{}", space.name())).binding(space)
    }

    /// A kubelet for the pods that are bound to a node of this name.
    pub fn node(cluster: &Cluster, name: &str) -> Builder {
        Builder::new(cluster, name)
    }

    pub fn name(&self) -> &str {
        &self.node
    }

    /// The node's own address, which pods in the host's network share.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Waits until a pod is Ready.
    pub async fn until_ready(&self, space: &Namespace, name: &str) -> Result<RunningPod> {
        let pod: Pod = space.until(name, "the pod to be ready", pod::is_ready).await?;
        RunningPod::of(&pod)
    }

    /// Waits until so many pods that carry the label are Ready, and no other pod carries it.
    pub async fn until_all_ready(
        &self,
        space: &Namespace,
        selector: &str,
        count: usize,
    ) -> Result<Vec<RunningPod>> {
        let pods = space.api::<Pod>().await?;
        let parameters = kube::api::ListParams::default().labels(selector);
        let look = || async { Ok(pods.list(&parameters).await?.items) };
        let complete = |found: &Vec<Pod>| found.len() == count && found.iter().all(pod::is_ready);
        let what = format!("{count} ready pods with {selector}");
        let found = crate::wait::until_value(&what, look, complete).await?;
        found.iter().map(RunningPod::of).collect()
    }

    /// Kills the engine's process, as a segmentation fault would. It is started again unless its policy forbids that.
    pub async fn crash(&self, space: &Namespace, pod: &str) -> Result<()> {
        self.order(space, pod, Action::Crash).await
    }

    /// Stops the engine's process without ending it: connections stay open and nothing answers. `thaw` ends it.
    pub async fn freeze(&self, space: &Namespace, pod: &str) -> Result<()> {
        self.order(space, pod, Action::Freeze).await
    }

    /// Lets a frozen engine go on.
    pub async fn thaw(&self, space: &Namespace, pod: &str) -> Result<()> {
        self.order(space, pod, Action::Thaw).await
    }

    /// Says Ready or not, whatever the probe says.
    pub async fn set_ready(&self, space: &Namespace, pod: &str, readiness: Readiness) -> Result<()> {
        self.order(space, pod, Action::Ready(readiness)).await
    }

    /// Starts the pod anew at another address, as after its sandbox was lost.
    pub async fn readdress(&self, space: &Namespace, pod: &str) -> Result<()> {
        self.order(space, pod, Action::Readdress).await
    }

    /// The node is lost: all engines end at once, and the API hears nothing of it.
    pub async fn vanish(mut self) -> Result<()> {
        self.orders.send(Order::Vanish).await.ok();
        self.join()
    }

    async fn order(&self, space: &Namespace, pod: &str, action: Action) -> Result<()> {
        let (done, answer) = oneshot::channel();
        let order = Order::Pod {
            namespace: space.name().to_owned(),
            name: pod.to_owned(),
            action,
            done,
        };
        self.orders
            .send(order)
            .await
            .ok()
            .context("the kubelet has ended")?;
        match answer.await {
            Ok(result) => result,
            Err(_) => bail!("{}/{pod} does not run on {}", space.name(), self.node),
        }
    }

    fn join(&mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(_)) => bail!("the kubelet of {} has panicked", self.node),
        }
    }
}

/// What a pod's engine condition is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readiness {
    /// The probe decides.
    #[default]
    Probed,
    /// Ready, even if nothing answers, and without a pause before a restart.
    Always,
    /// Not ready, even if all is well.
    Never,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.orders.try_send(Order::Vanish).ok(); // if the queue is full, its end is noticed instead
            let (closed, _) = mpsc::channel(1);
            self.orders = closed;
            self.join().ok();
        }
    }
}

impl RunningPod {
    /// `http://<address>:<port>`
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.ip, self.port)
    }

    /// Whether the engine says that it is healthy, asked now.
    pub async fn answers(&self) -> bool {
        probe::Probe::health(self.port).passes(self.ip).await
    }

    fn of(pod: &Pod) -> Result<Self> {
        let ObjectMeta { name, uid, .. } = pod.metadata.clone();
        let status = pod.status.as_ref().context("the pod has no status")?;
        let ip = status.pod_ip.as_deref().context("the pod has no address")?;
        Ok(Self {
            name: name.unwrap_or_default(),
            uid: uid.unwrap_or_default(),
            ip: ip
                .parse()
                .with_context(|| format!("{ip} is not an address of version 4"))?,
            port: engine::of(pod).map_or(0, |engine| engine.port),
        })
    }
}
