//! The engine's own metrics.

use crate::engine::Engine;
use crate::generate::{Sampling, Times};
use crate::http::respond::Reply;

/// Everything that `/metrics` shows beyond gauges.
#[derive(Debug, Default)]
pub(crate) struct Metrics;

pub(crate) fn page(_engine: &Engine) -> Reply { Reply::empty(200) }
impl Metrics {
    pub(crate) fn first_token(&self, _times: &Times) {}
    pub(crate) fn tokens(&self, _tokens: usize, _times: &Times, _total: usize) {}
    pub(crate) fn finished(&self, _times: &Times, _generated: usize, _stop: bool, _sampling: &Sampling) {}
}
