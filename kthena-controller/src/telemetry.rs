//! What operators see: the log, metrics, readiness.

pub(crate) mod log;
mod metrics;
mod readiness;
mod request;

pub(crate) use metrics::Metrics;
pub(crate) use readiness::{Phase, Readiness};
