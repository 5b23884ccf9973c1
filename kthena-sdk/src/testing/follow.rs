//! Watches, as streams of lines.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::refusal::Refusal;
use super::request::Request;
use super::selector::Filter;
use super::server::Shared;
use super::store::{Change, Store};

/// A watch.
pub(super) struct Follower {
    shared: Arc<Shared>,
    news: watch::Receiver<u64>,
    filter: Filter,
    /// Group and resource, for the kind of bookmarks.
    kind: (String, String),
    with_bookmarks: bool,
    /// Everything up to this version was told.
    version: u64,
    /// Which turn of connections this one is of.
    turn: u64,
    lines: VecDeque<Bytes>,
}

impl Follower {
    pub(super) fn of(request: &Request, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let flag = |name| {
            request
                .parameter(name)
                .is_some_and(|it| it == "true" || it == "1")
        };
        let filter = Filter::of(request)?;
        let news = shared.news.subscribe();
        let state = shared.state.lock();
        let store = &state.store;
        let mut lines = VecDeque::new();
        let since = match request.parameter("resourceVersion") {
            None | Some("0") => None,
            Some(text) => Some(
                text.parse::<u64>()
                    .map_err(|error| Refusal::bad_request(error.to_string()))?,
            ),
        };
        let kind = (request.group.clone(), request.resource.clone());
        let sends_initial = flag("sendInitialEvents");
        if since.is_none() || sends_initial {
            let all = store.all().filter(|(place, object)| filter.takes(place, object));
            lines.extend(all.map(|(_, object)| line("ADDED", object)));
        }
        if sends_initial {
            let mut bookmark = bookmark(store, &kind);
            bookmark["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
            lines.push_back(line("BOOKMARK", &bookmark));
        }
        let version = match since {
            Some(since) if !sends_initial => since.min(store.version),
            _ => store.version,
        };
        Ok(Self {
            shared: shared.clone(),
            news,
            filter,
            kind,
            with_bookmarks: flag("allowWatchBookmarks"),
            version,
            turn: state.turn,
            lines,
        })
    }

    /// Lines, one for each event, until the connection is broken.
    pub(super) fn stream(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut this| async move {
            loop {
                if let Some(line) = this.lines.pop_front() {
                    return Some((line, this));
                }
                this.news.borrow_and_update();
                if !this.read() {
                    return None;
                }
                if this.lines.is_empty() {
                    this.news.changed().await.ok()?;
                }
            }
        })
    }

    /// Reads what is new. `false` at the end.
    fn read(&mut self) -> bool {
        let state = self.shared.state.lock();
        let store = &state.store;
        if state.turn != self.turn || self.version == u64::MAX {
            return false;
        }
        if self.version < store.compacted {
            self.lines.push_back(line("ERROR", &Refusal::expired().status()));
            self.version = u64::MAX;
            return true;
        }
        let from = store
            .history
            .partition_point(|change| change.version <= self.version);
        let news = &store.history[from..];
        self.lines
            .extend(news.iter().filter_map(|change| event(&self.filter, change)));
        if self.with_bookmarks && self.lines.is_empty() && !news.is_empty() {
            self.lines
                .push_back(line("BOOKMARK", &bookmark(store, &self.kind)));
        }
        self.version = store.version;
        true
    }
}

/// What a change is to those who follow some objects.
fn event(filter: &Filter, change: &Change) -> Option<Bytes> {
    let takes = |object: &&Arc<Value>| filter.takes(&change.place, object);
    let before = change.before.as_ref().filter(takes);
    let after = change.after.as_ref().filter(takes);
    Some(match (before, after) {
        (None, None) => return None,
        (None, Some(after)) => line("ADDED", after),
        (Some(_), Some(after)) => line("MODIFIED", after),
        (Some(before), None) => {
            let mut last = Value::clone(before);
            last["metadata"]["resourceVersion"] = change.version.to_string().into();
            line("DELETED", &last)
        }
    })
}

fn bookmark(store: &Store, (group, resource): &(String, String)) -> Value {
    let (api_version, kind) = store.kind(group, resource);
    let metadata = json!({ "resourceVersion": store.version.to_string() });
    json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata })
}

/// In the order in which API servers write the members: what an object is is known before it is read.
fn line(kind: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}
