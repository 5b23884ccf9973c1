//! Faults that tests put into a running engine.
//!
//! There is one list of faults, [`Fault`], and one table of [`Rule`]s. A rule says which requests it is for;
//! all rules that fit a request apply to it together. The `/sim` endpoints are never disturbed, apart from
//! connections that [`Fault::Refuse`] turns away before anyone knows what they ask for: give the engine an
//! `admin` address to reach it then.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::duration;
use crate::stats::Phase;

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// New connections are reset as soon as they are accepted. Only `times` and `skip` of the rule count.
    Refuse,
    /// The answer begins later.
    Delay {
        /// How much later.
        #[serde(with = "duration")]
        by: Duration,
    },
    /// Every event of a stream comes later.
    DelayEvents {
        /// How much later than the one before.
        #[serde(with = "duration")]
        by: Duration,
    },
    /// The engine answers this and does nothing else.
    Status {
        /// The status code.
        status: u16,
        /// The body, sent as JSON.
        #[serde(default)]
        body: String,
        /// More headers, such as `retry-after`.
        #[serde(default)]
        headers: Vec<(String, String)>,
    },
    /// The connection is reset instead of an answer. The request is read first, and not computed.
    ResetBeforeHead,
    /// The connection is reset after some events of a stream; a body that is no stream counts as one event.
    ResetAfterEvents {
        /// Events that are still sent.
        events: u64,
    },
    /// The connection is reset after some bytes of the body, framing not counted.
    ResetAfterBytes {
        /// Bytes that are still sent.
        bytes: u64,
    },
    /// The request is read and never answered.
    Hang,
    /// The stream stops after some events and the connection stays open.
    HangAfterEvents {
        /// Events that are still sent.
        events: u64,
    },
    /// One event of a stream is broken JSON.
    MalformedEvent {
        /// Its number, counted from 0.
        event: u64,
    },
    /// The connection is closed in an orderly way after some events, without the end of the body.
    Truncate {
        /// Events that are still sent.
        events: u64,
    },
    /// `content-length` is wrong by this many bytes; bodies with a length only.
    WrongLength {
        /// Added to the true length; may be negative.
        by: i64,
    },
    /// The body is compressed, whatever the client accepts.
    Gzip,
    /// More response headers; a name may repeat, and hop-by-hop headers are fair.
    Headers {
        /// Names and values.
        headers: Vec<(String, String)>,
    },
    /// Trailers after a chunked body.
    Trailers {
        /// Names and values.
        headers: Vec<(String, String)>,
    },
    /// The body drips.
    Drip {
        /// Bytes in a write.
        bytes: usize,
        /// Time between two writes.
        #[serde(with = "duration")]
        every: Duration,
    },
    /// All events of a stream leave in one write, at the end.
    Coalesce,
    /// Every byte of the body is a write of its own.
    Split,
}

/// A fault and the requests it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What goes wrong.
    pub fault: Fault,
    /// Only this path; a `*` at the end stands for any rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only requests in this part of a hand-over, told by their own parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Only requests for this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Fitting requests that pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// How many requests it hits; without a number, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

/// Names a rule in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FaultId(u64);

/// The faults of one engine.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Active>>,
    next: AtomicU64,
    hits: AtomicU64,
}

/// What a request looks like to the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) path: &'a str,
    pub(crate) phase: Phase,
    pub(crate) model: Option<&'a str>,
}

#[derive(Debug)]
struct Active {
    id: FaultId,
    rule: Rule,
}

// === impl Rule ===

impl Rule {
    /// A rule for every request.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            path: None,
            phase: None,
            model: None,
            skip: 0,
            times: None,
        }
    }

    /// Only for this path; a `*` at the end stands for any rest.
    #[must_use]
    pub fn path(self, path: impl Into<String>) -> Self {
        Self {
            path: Some(path.into()),
            ..self
        }
    }

    /// Only for requests in this part of a hand-over.
    #[must_use]
    pub fn phase(self, phase: Phase) -> Self {
        Self {
            phase: Some(phase),
            ..self
        }
    }

    /// Only for requests for this model.
    #[must_use]
    pub fn model(self, model: impl Into<String>) -> Self {
        Self {
            model: Some(model.into()),
            ..self
        }
    }

    /// Lets some fitting requests pass first.
    #[must_use]
    pub fn skip(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Ends after so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self {
            times: Some(times),
            ..self
        }
    }

    fn fits(&self, subject: &Subject<'_>) -> bool {
        let path = self
            .path
            .as_deref()
            .is_none_or(|path| match path.strip_suffix('*') {
                Some(prefix) => subject.path.starts_with(prefix),
                None => subject.path == path,
            });
        path && self.phase.is_none_or(|phase| phase == subject.phase)
            && self
                .model
                .as_deref()
                .is_none_or(|model| subject.model == Some(model))
    }

    /// Counts a fitting request; true when the fault hits it.
    fn take(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.times {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

// === impl Faults ===

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) -> FaultId {
        let id = FaultId(self.next.fetch_add(1, Ordering::Relaxed) + 1);
        self.rules.lock().push(Active { id, rule });
        id
    }

    /// Removes a rule; false if it is not there.
    pub fn remove(&self, id: FaultId) -> bool {
        let mut rules = self.rules.lock();
        let before = rules.len();
        rules.retain(|active| active.id != id);
        rules.len() != before
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.rules.lock().clear();
    }

    /// The rules that are set, spent ones included.
    pub fn list(&self) -> Vec<(FaultId, Rule)> {
        self.rules
            .lock()
            .iter()
            .map(|active| (active.id, active.rule.clone()))
            .collect()
    }

    /// How often a fault has hit.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Whether the connection that was just accepted is turned away.
    pub(crate) fn refuses(&self) -> bool {
        let mut rules = self.rules.lock();
        let hit = rules
            .iter_mut()
            .any(|active| active.rule.fault == Fault::Refuse && active.rule.take());
        if hit {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        hit
    }

    /// The faults that hit a request.
    pub(crate) fn strike(&self, subject: &Subject<'_>) -> Vec<Fault> {
        let mut rules = self.rules.lock();
        let mut faults = Vec::new();
        for active in rules.iter_mut() {
            if active.rule.fault != Fault::Refuse && active.rule.fits(subject) && active.rule.take() {
                faults.push(active.rule.fault.clone());
            }
        }
        self.hits.fetch_add(faults.len() as u64, Ordering::Relaxed);
        faults
    }
}

impl std::fmt::Display for FaultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for FaultId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests;
