//! The kubelet's main loop: watches its pods and hands them to their workers.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{WatchStreamExt, watcher},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    address::Addresses,
    node,
    worker::{Action, Update, Worker},
};
use crate::cluster::Identity;

/// What a kubelet is told from outside.
#[derive(Debug)]
pub(super) enum Order {
    Pod {
        namespace: String,
        name: String,
        action: Action,
        done: oneshot::Sender<Result<()>>,
    },
    Vanish,
}

#[derive(Debug)]
pub(super) struct Settings {
    pub(super) identity: Identity,
    pub(super) node: String,
    pub(super) labels: Vec<(String, String)>,
    pub(super) binds: Option<String>,
    pub(super) address: Ipv4Addr,
    pub(super) dir: PathBuf,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) probe_every: Duration,
}

/// What all workers share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) addresses: Mutex<Addresses>,
}

/// The way to one pod's worker.
struct Line {
    updates: watch::Sender<Update>,
    actions: mpsc::Sender<(Action, oneshot::Sender<Result<()>>)>,
}

struct Dispatch {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
    /// By UID: a pod of the same name may come before the old one's worker is done.
    lines: HashMap<String, Line>,
    /// During a list: what it has named so far.
    listed: HashSet<String>,
}

type PodEvent = Result<watcher::Event<Pod>, watcher::Error>;

/// Runs until it is told to vanish or its handle is gone. Dropping the workers kills their processes.
pub(super) async fn run(
    settings: Settings,
    addresses: Addresses,
    mut orders: mpsc::Receiver<Order>,
    ready: oneshot::Sender<Result<()>>,
) {
    let shared = match prepare(settings, addresses).await {
        Ok(shared) => shared,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let mut background = JoinSet::new();
    background.spawn(node::keep_alive(
        shared.client.clone(),
        shared.settings.node.clone(),
    ));
    if let Some(namespace) = &shared.settings.binds {
        background.spawn(bind(Arc::clone(&shared), namespace.clone()));
    }
    let mut pods = pods(Api::all(shared.client.clone()), &shared.settings.node);
    let mut dispatch = Dispatch {
        shared,
        workers: JoinSet::new(),
        lines: HashMap::new(),
        listed: HashSet::new(),
    };
    ready.send(Ok(())).ok();
    loop {
        tokio::select! {
            Some(event) = pods.next() => dispatch.pod(event),
            Some(_) = dispatch.workers.join_next() => {}
            order = orders.recv() => match order {
                Some(Order::Pod { namespace, name, action, done }) => dispatch.order(&namespace, &name, action, done),
                Some(Order::Vanish) | None => return,
            },
        }
    }
}

async fn prepare(settings: Settings, addresses: Addresses) -> Result<Arc<Shared>> {
    let client = settings.identity.client().await?;
    node::register(&client, &settings.node, &settings.labels, settings.address).await?;
    Ok(Arc::new(Shared {
        settings,
        client,
        addresses: Mutex::new(addresses),
    }))
}

/// The pods of one node, or those of no node if `node` is empty.
fn pods(api: Api<Pod>, node: &str) -> impl Stream<Item = PodEvent> + Unpin + use<> {
    let selection = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    Box::pin(watcher(api, selection).default_backoff())
}

/// The scheduler of a namespace without one.
async fn bind(shared: Arc<Shared>, namespace: String) {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), &namespace);
    let mut unbound = pods(api.clone(), "");
    while let Some(event) = unbound.next().await {
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else {
            continue;
        };
        let gated = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some());
        if pod.metadata.deletion_timestamp.is_some() || gated {
            continue;
        }
        let name = pod.metadata.name.unwrap_or_default();
        let binding = json!({
            "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "uid": pod.metadata.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": shared.settings.node},
        });
        // A conflict means that somebody was faster.
        api.create_subresource::<_, Value>("binding", &name, &PostParams::default(), &binding)
            .await
            .ok();
    }
}

impl Dispatch {
    fn pod(&mut self, event: PodEvent) {
        match event {
            Ok(watcher::Event::Init) => self.listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => {
                self.listed.extend(pod.metadata.uid.clone());
                self.applied(pod);
            }
            Ok(watcher::Event::InitDone) => {
                // What is not in the list went while the API server was away.
                let listed = std::mem::take(&mut self.listed);
                self.lines.retain(|uid, line| {
                    let is_there = listed.contains(uid);
                    if !is_there {
                        line.updates.send(Update::Gone).ok();
                    }
                    is_there
                });
            }
            Ok(watcher::Event::Apply(pod)) => self.applied(pod),
            Ok(watcher::Event::Delete(pod)) => {
                if let Some(line) = pod.metadata.uid.and_then(|uid| self.lines.remove(&uid)) {
                    line.updates.send(Update::Gone).ok();
                }
            }
            Err(_) => {} // the watcher comes back by itself
        }
    }

    fn applied(&mut self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        if let Some(line) = self.lines.get(&uid) {
            line.updates.send(Update::Pod(Box::new(pod))).ok();
            return;
        }
        let (updates, inbox) = watch::channel(Update::Pod(Box::new(pod.clone())));
        let (actions, orders) = mpsc::channel(16);
        self.lines.insert(uid, Line { updates, actions });
        self.workers
            .spawn(Worker::new(Arc::clone(&self.shared), pod).run(inbox, orders));
    }

    /// An order for a pod that is not here is dropped, and its sender notices that.
    fn order(&mut self, namespace: &str, name: &str, action: Action, done: oneshot::Sender<Result<()>>) {
        let wanted = |line: &&Line| match &*line.updates.borrow() {
            Update::Pod(pod) => {
                pod.metadata.namespace.as_deref() == Some(namespace)
                    && pod.metadata.name.as_deref() == Some(name)
            }
            Update::Gone => false,
        };
        if let Some(line) = self.lines.values().find(wanted) {
            line.actions
                .try_send((action, done))
                .context("the pod is busy")
                .ok();
        }
    }
}
