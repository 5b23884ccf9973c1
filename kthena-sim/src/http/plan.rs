//! What faults do to one answer.

use std::time::Duration;

use super::respond::{JSON, Reply};
use crate::fault::Fault;

/// All faults of one request, in the form that the writer of its answer needs.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) delay: Duration,
    pub(crate) delay_events: Duration,
    pub(crate) status: Option<Reply>,
    pub(crate) reset_before_head: bool,
    pub(crate) hang: bool,
    pub(crate) stop: Option<(After, How)>,
    pub(crate) malformed: Option<u64>,
    pub(crate) length_by: i64,
    pub(crate) gzip: bool,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) pace: Pace,
    pub(crate) coalesce: bool,
}

/// Where an answer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Events(u64),
    Bytes(u64),
}

/// How an answer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Reset,
    Hang,
    Close,
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Pace {
    #[default]
    Whole,
    Split,
    Drip {
        bytes: usize,
        every: Duration,
    },
}

impl Plan {
    pub(crate) fn new(faults: Vec<Fault>) -> Self {
        let mut plan = Self::default();
        for fault in faults {
            plan.add(fault);
        }
        plan
    }

    fn add(&mut self, fault: Fault) {
        match fault {
            Fault::Refuse => {}
            Fault::Delay { by } => self.delay += by,
            Fault::DelayEvents { by } => self.delay_events += by,
            Fault::Status {
                status,
                body,
                headers,
            } => {
                let content_type = (!body.is_empty()).then_some(JSON);
                self.status = Some(Reply {
                    status,
                    content_type,
                    headers,
                    body: body.into_bytes(),
                });
            }
            Fault::ResetBeforeHead => self.reset_before_head = true,
            Fault::ResetAfterEvents { events } => self.stop = Some((After::Events(events), How::Reset)),
            Fault::ResetAfterBytes { bytes } => self.stop = Some((After::Bytes(bytes), How::Reset)),
            Fault::Hang => self.hang = true,
            Fault::HangAfterEvents { events } => self.stop = Some((After::Events(events), How::Hang)),
            Fault::MalformedEvent { event } => self.malformed = Some(event),
            Fault::Truncate { events } => self.stop = Some((After::Events(events), How::Close)),
            Fault::WrongLength { by } => self.length_by = by,
            Fault::Gzip => self.gzip = true,
            Fault::Headers { headers } => self.headers.extend(headers),
            Fault::Trailers { headers } => self.trailers.extend(headers),
            Fault::Drip { bytes, every } => {
                self.pace = Pace::Drip {
                    bytes: bytes.max(1),
                    every,
                }
            }
            Fault::Coalesce => self.coalesce = true,
            Fault::Split => self.pace = Pace::Split,
        }
    }

    /// Whether the request is turned away before anything is computed for it.
    pub(crate) fn is_early(&self) -> bool {
        self.reset_before_head || self.hang || self.status.is_some()
    }
}
