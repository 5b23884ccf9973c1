//! What is measured. Proxies take turns within each round, so that a busy spell of the machine hits all of them alike.

pub(crate) mod latency;
pub(crate) mod reload;
pub(crate) mod streams;
pub(crate) mod throughput;

use std::time::Duration;

use serde::Serialize;

/// How long and how often.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    /// How often each figure is taken.
    pub rounds: usize,
    /// How long each takes, after a warm-up of a quarter of it.
    pub seconds: f64,
    /// Connections of the load at saturation.
    pub connections: usize,
    /// Streams that are open at once.
    pub streams: usize,
    /// How often memory is measured, each time on a fresh process.
    pub stream_rounds: usize,
    /// Changes of routes and endpoints under load.
    pub changes: usize,
    /// Requests a second meanwhile.
    pub reload_rate: u32,
}

impl Settings {
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(crate) fn warmup(&self) -> Duration {
        self.time() / 4
    }
}
