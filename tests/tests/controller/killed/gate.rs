//! The way of a controller to the API server. It ends at chosen writes, and it leads to one namespace only, so that many controllers can work
//! side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::task::{Context as Wakeup, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Uri};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::mpsc;
use tower::{Layer, Service};

/// Kinds that a controller watches in all namespaces.
const CONFINED: [&str; 6] = [
    "modelservings",
    "pods",
    "services",
    "controllerrevisions",
    "poddisruptionbudgets",
    "podgroups",
];

/// A request that changes something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Write {
    /// The step of the script during which it is sent.
    pub(super) step: &'static str,
    /// What it does.
    pub(super) what: String,
    /// The how manieth of its kind it is in this step.
    pub(super) number: usize,
}

/// When a controller is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Moment {
    /// The request was not sent.
    Before,
    /// It was answered, and the controller does not know.
    After,
}

/// What is known of all writes to a namespace, whichever controller sends them.
#[derive(Debug, Clone)]
pub(super) struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    space: String,
    moment: Moment,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    step: &'static str,
    written: Vec<Write>,
    counts: BTreeMap<(&'static str, String), usize>,
    deadly: BTreeSet<Write>,
    deaths: BTreeSet<Write>,
}

/// One controller's way: once it has been killed, nothing of it comes through any more.
#[derive(Clone)]
pub(super) struct Way {
    gate: Gate,
    /// Requests that write go one at a time, so that nothing is under way when the controller is killed.
    turn: Arc<tokio::sync::Mutex<()>>,
    kill: mpsc::Sender<()>,
}

/// A service behind it.
pub(super) struct Gated<S> {
    way: Way,
    inner: S,
}

impl Write {
    /// Whether it tells something only: a status, an event.
    pub(super) fn is_report(&self) -> bool {
        self.what.contains("/status ") || self.what.contains(" events ")
    }
}

impl Gate {
    /// A way that ends at these writes.
    pub(super) fn new(space: &str, moment: Moment, deadly: BTreeSet<Write>) -> Self {
        let state = State {
            deadly,
            ..State::default()
        };
        Self(Arc::new(Inner {
            space: space.to_owned(),
            moment,
            state: Mutex::new(state),
        }))
    }

    /// A new controller's way, and what tells that it is to be killed.
    pub(super) fn open(&self) -> (Way, mpsc::Receiver<()>) {
        let (kill, killed) = mpsc::channel(1);
        let way = Way {
            gate: self.clone(),
            turn: Arc::default(),
            kill,
        };
        (way, killed)
    }

    pub(super) fn begin(&self, step: &'static str) {
        self.0.state.lock().step = step;
    }

    /// All writes in their order.
    pub(super) fn written(&self) -> Vec<Write> {
        self.0.state.lock().written.clone()
    }

    /// Those at which a controller was killed.
    pub(super) fn deaths(&self) -> BTreeSet<Write> {
        self.0.state.lock().deaths.clone()
    }

    /// Takes note of a write. Returns whether it is a deadly one.
    fn note(&self, what: String) -> bool {
        let mut state = self.0.state.lock();
        let step = state.step;
        let number = state.counts.entry((step, what.clone())).or_default();
        *number += 1;
        let write = Write {
            step,
            number: *number,
            what,
        };
        state.written.push(write.clone());
        let is_deadly = state.deadly.remove(&write);
        if is_deadly {
            state.deaths.insert(write);
        }
        is_deadly
    }
}

impl<S> Layer<S> for Way {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            way: self.clone(),
            inner,
        }
    }
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>>,
    S::Future: Send + 'static,
    S::Response: Send,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, wakeup: &mut Wakeup<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(wakeup)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if request.method() == Method::GET {
            confine(request.uri_mut(), &self.way.gate.0.space);
            return self.inner.call(request).boxed();
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let body = request.body().try_clone();
        // Nothing is sent before this is polled.
        let sent = self.inner.call(request);
        let way = self.way.clone();
        async move {
            let body = match body {
                Some(body) => body.collect_bytes().await.unwrap_or_default(),
                None => Default::default(),
            };
            let _turn = way.turn.lock().await;
            let is_deadly = way.gate.note(describe(&method, &uri, &body));
            if is_deadly && way.gate.0.moment == Moment::Before {
                way.die().await;
            }
            let answer = sent.await;
            if is_deadly {
                way.die().await;
            }
            answer
        }
        .boxed()
    }
}

impl Way {
    /// Has the controller killed, which drops this future, too.
    async fn die(&self) {
        self.kill.send(()).await.ok(); // the receiver outlives the controller
        pending::<()>().await;
    }
}

/// Leads a list or a watch of all namespaces to one.
fn confine(uri: &mut Uri, space: &str) {
    let path = uri.path();
    let Some((group, resource)) = path.rsplit_once('/') else {
        return;
    };
    if path.contains("/namespaces/") || !CONFINED.contains(&resource) {
        return;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = format!("{group}/namespaces/{space}/{resource}{query}")
        .parse()
        .ok();
    *uri = Uri::from_parts(parts).expect("a path in place of a path");
}

/// A request in words that are the same in every namespace and at every time.
fn describe(method: &Method, uri: &Uri, body: &[u8]) -> String {
    let inside = uri.path().split_once("/namespaces/").map_or("", |(_, rest)| rest);
    let mut parts: Vec<&str> = inside.split('/').skip(1).collect();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let count = |name: &str| body["status"][name].to_string();
    let subject = match (method, parts.as_slice()) {
        (&Method::POST, ["events"]) => format!("{}: {}", text("/reason"), text("/note")),
        (&Method::POST, _) => text("/metadata/name").to_owned(),
        (_, [_, _, "status"]) => {
            let counts = ["replicas", "availableReplicas", "updatedReplicas"].map(count);
            parts = vec!["modelservings/status"];
            counts.join("/")
        }
        (_, [_]) => {
            let queries = uri.query().unwrap_or_default().split('&');
            let selector = queries.filter(|part| part.starts_with("labelSelector"));
            selector.collect()
        }
        _ => parts.pop().unwrap_or_default().to_owned(),
    };
    format!("{method} {} {subject}", parts.join("/"))
}
