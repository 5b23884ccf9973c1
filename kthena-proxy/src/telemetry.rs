//! What operators see: metrics and the access log.

pub mod access_log;
pub mod log;
pub mod metrics;
