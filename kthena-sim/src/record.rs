//! The requests an engine was sent, byte for byte.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use crate::http::date;
use crate::http::request::Request;
use crate::http::respond::StatusCell;

/// One request as it arrived.
#[derive(Debug, Clone, Serialize)]
pub struct Recorded {
    /// Counts all requests of the engine, from 0.
    pub seq: u64,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header names and values, in the order and the case they were sent in.
    pub headers: Vec<(String, String)>,
    /// The body. In JSON it is text, with replacement characters where it is not UTF-8.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// When it had arrived, in seconds since 1970.
    pub at: f64,
    /// When it had arrived, on the runtime's clock.
    #[serde(skip)]
    pub received: Instant,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct End {
    /// Status of the answer; none if no head was sent.
    pub status: Option<u16>,
    /// Whether the answer was sent to its end. Otherwise the client went away, a fault cut it, or the engine
    /// ended.
    pub complete: bool,
    /// How long after its arrival, in milliseconds.
    pub after_ms: f64,
    /// When it ended, on the runtime's clock.
    #[serde(skip)]
    pub ended: Instant,
}

/// The last requests of each path.
#[derive(Debug)]
pub(crate) struct Recorder {
    keep: usize,
    table: Mutex<Table>,
}

/// A request that is being answered; its end is noted when this goes.
pub(crate) struct Open<'a> {
    recorder: &'a Recorder,
    path: String,
    seq: u64,
    received: Instant,
    status: StatusCell,
    pub(crate) complete: bool,
}

/// Bytes of bodies that a path's requests may hold together; the oldest go first.
const BODIES: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
struct Table {
    next: u64,
    paths: HashMap<String, List>,
}

#[derive(Debug, Default)]
struct List {
    requests: VecDeque<Recorded>,
    bytes: usize,
}

impl Recorder {
    pub(crate) fn new(keep: usize) -> Self {
        Self {
            keep,
            table: Mutex::default(),
        }
    }

    pub(crate) fn open(&self, request: &Request, status: StatusCell) -> Open<'_> {
        let received = Instant::now();
        let path = request.path().to_owned();
        let mut table = self.table.lock();
        let seq = table.next;
        table.next += 1;
        if self.keep > 0 {
            let recorded = Recorded {
                seq,
                method: request.method.clone(),
                target: request.target.clone(),
                headers: request.headers.clone(),
                body: request.body.clone(),
                at: date::unix_now_f64(),
                received,
                end: None,
            };
            let list = table.paths.entry(path.clone()).or_default();
            list.bytes += recorded.body.len();
            list.requests.push_back(recorded);
            while list.requests.len() > self.keep || (list.bytes > BODIES && list.requests.len() > 1) {
                list.bytes -= list.requests.pop_front().map_or(0, |oldest| oldest.body.len());
            }
        }
        Open {
            recorder: self,
            path,
            seq,
            received,
            status,
            complete: false,
        }
    }

    /// The requests of a path, oldest first.
    pub(crate) fn path(&self, path: &str) -> Vec<Recorded> {
        self.table
            .lock()
            .paths
            .get(path)
            .map(|list| list.requests.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// All remembered requests, oldest first.
    pub(crate) fn all(&self) -> Vec<Recorded> {
        let mut all: Vec<_> = self
            .table
            .lock()
            .paths
            .values()
            .flat_map(|list| &list.requests)
            .cloned()
            .collect();
        all.sort_by_key(|recorded| recorded.seq);
        all
    }

    pub(crate) fn clear(&self) {
        self.table.lock().paths.clear();
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        let ended = Instant::now();
        let end = End {
            status: Some(self.status.load(Ordering::Relaxed)).filter(|&status| status != 0),
            complete: self.complete,
            after_ms: (ended - self.received).as_secs_f64() * 1000.0,
            ended,
        };
        let mut table = self.recorder.table.lock();
        let list = table.paths.get_mut(&self.path);
        let recorded = list.and_then(|list| {
            list.requests
                .iter_mut()
                .rev()
                .find(|recorded| recorded.seq == self.seq)
        });
        if let Some(recorded) = recorded {
            recorded.end = Some(end);
        }
    }
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
