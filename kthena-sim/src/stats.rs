//! What an engine counts for tests: the body of `GET /sim/stats`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::config::{Kind, Role};

/// Aborts that are remembered one by one.
const ABORTS: usize = 10_000;

/// The part a request plays in a hand-over, told by its own parameters; without any, the engine's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// No hand-over.
    Plain,
    /// Computes a prompt and hands it over.
    Prefill,
    /// Takes over a prompt and generates.
    Decode,
}

/// A snapshot of an engine's counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    /// The engine's id in hand-over parameters.
    pub engine_id: String,
    /// What it imitates.
    pub kind: Kind,
    /// Its role.
    pub role: Role,
    /// Inference requests without a hand-over.
    pub plain: PhaseStats,
    /// Inference requests that hand over.
    pub prefill: PhaseStats,
    /// Inference requests that take over.
    pub decode: PhaseStats,
    /// Requests whose client went away, oldest first.
    pub aborts: Vec<Abort>,
    /// Requests on a decode engine that computed their prompt themselves.
    pub decode_recomputed: u64,
    /// Sequences being computed now.
    pub running: u64,
    /// Sequences waiting now.
    pub waiting: u64,
    /// KV blocks.
    pub kv: KvStats,
    /// Hand-overs this engine refused or could not get, by reason; a decode engine counts what it was told.
    pub refused: Refused,
    /// Prompt tokens of all requests.
    pub prompt_tokens: u64,
    /// Prompt tokens that the prefix cache had.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Faults that hit a request or a connection.
    pub faults: u64,
}

/// Requests of one phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseStats {
    /// Begun.
    pub received: u64,
    /// Answered in full.
    pub finished: u64,
    /// Answered with an error, or cut by a fault.
    pub failed: u64,
    /// Given up by the client, or cut when the engine ended.
    pub aborted: u64,
}

/// A request whose client went away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Abort {
    /// The answer's id.
    pub request_id: String,
    /// The part it played.
    pub phase: Phase,
    /// When, in seconds since 1970.
    pub at: f64,
    /// How long after it began, in milliseconds.
    pub after_ms: f64,
}

/// KV blocks of one engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvStats {
    /// All blocks.
    pub total: u64,
    /// Blocks in use, pinned ones included.
    pub used: u64,
    /// Blocks that wait for a decode engine to read them.
    pub pinned: u64,
    /// Blocks of this engine that a decode engine has read.
    pub handed_over: u64,
    /// Hand-overs of this engine that a decode engine has read.
    pub transfers_out: u64,
    /// Blocks this engine has read from another one.
    pub received: u64,
    /// Hand-overs this engine has read from another one.
    pub transfers_in: u64,
    /// Blocks whose lease ended before anyone read them.
    pub leaked: u64,
    /// Hand-overs whose lease ended before anyone read them.
    pub leaked_transfers: u64,
    /// Blocks given back unread because a side gave up: the prefill request, or the decode request.
    pub released_unread: u64,
}

/// Hand-overs that did not take place, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The prefill engine never made them, or has forgotten them.
    pub unknown: u64,
    /// They were read before.
    pub used: u64,
    /// Their lease was over.
    pub expired: u64,
    /// They belong to another engine.
    pub foreign: u64,
    /// The prefill engine could not be reached.
    pub unreachable: u64,
    /// The other side did not come in time.
    pub timeout: u64,
}

impl PhaseStats {
    /// Begun and not over yet.
    pub fn in_flight(&self) -> u64 {
        self.received
            .saturating_sub(self.finished + self.failed + self.aborted)
    }
}

impl Stats {
    /// Requests of all phases that are begun and not over yet. A request is over a moment after its answer has left, so a
    /// client may be faster.
    pub fn in_flight(&self) -> u64 {
        self.plain.in_flight() + self.prefill.in_flight() + self.decode.in_flight()
    }
}

impl Refused {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.unknown + self.used + self.expired + self.foreign + self.unreachable + self.timeout
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Finished,
    Failed,
}

/// The live counters.
#[derive(Debug)]
pub(crate) struct Counters {
    table: Mutex<Table>,
    /// Changes whenever something here does; what waits for conditions watches it.
    version: watch::Sender<u64>,
    pub(crate) prompt_tokens: AtomicU64,
    pub(crate) cached_tokens: AtomicU64,
    pub(crate) generated_tokens: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    phases: [PhaseStats; 3],
    aborts: VecDeque<Abort>,
    recomputed: u64,
    kv: KvStats,
    refused: Refused,
}

impl Phase {
    pub(crate) fn of(role: Role) -> Self {
        match role {
            Role::Plain => Self::Plain,
            Role::Prefill => Self::Prefill,
            Role::Decode => Self::Decode,
        }
    }
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            table: Mutex::default(),
            version: watch::Sender::new(0),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            generated_tokens: AtomicU64::new(0),
        }
    }

    pub(crate) fn received(&self, phase: Phase) {
        self.change(|t| t.phases[phase as usize].received += 1);
    }

    pub(crate) fn ended(&self, phase: Phase, outcome: Outcome) {
        self.change(|t| {
            let phase = &mut t.phases[phase as usize];
            match outcome {
                Outcome::Finished => phase.finished += 1,
                Outcome::Failed => phase.failed += 1,
            }
        });
    }

    pub(crate) fn aborted(&self, abort: Abort) {
        self.change(|t| {
            t.phases[abort.phase as usize].aborted += 1;
            if t.aborts.len() == ABORTS {
                t.aborts.pop_front();
            }
            t.aborts.push_back(abort);
        });
    }

    pub(crate) fn recomputed(&self) {
        self.change(|t| t.recomputed += 1);
    }

    pub(crate) fn kv(&self, update: impl FnOnce(&mut KvStats)) {
        self.change(|t| update(&mut t.kv));
    }

    pub(crate) fn refused(&self, update: impl FnOnce(&mut Refused)) {
        self.change(|t| update(&mut t.refused));
    }

    /// Tells those who wait that something has changed elsewhere.
    pub(crate) fn touch(&self) {
        self.version.send_modify(|v| *v += 1);
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The part of a snapshot that is counted here.
    pub(crate) fn snapshot(&self) -> Stats {
        let table = self.table.lock();
        let [plain, prefill, decode] = table.phases;
        Stats {
            plain,
            prefill,
            decode,
            aborts: table.aborts.iter().cloned().collect(),
            decode_recomputed: table.recomputed,
            kv: table.kv,
            refused: table.refused,
            prompt_tokens: self.prompt_tokens.load(Ordering::Relaxed),
            cached_tokens: self.cached_tokens.load(Ordering::Relaxed),
            generated_tokens: self.generated_tokens.load(Ordering::Relaxed),
            ..Stats::default()
        }
    }

    fn change(&self, update: impl FnOnce(&mut Table)) {
        update(&mut self.table.lock());
        self.touch();
    }
}
