//! `least-request`: prefers engines with few requests of this proxy in flight.

use super::Registration;
use crate::schedule::{Candidate, Request, Score};

/// Scores 100 for an engine without requests, 0 for the one with most.
#[derive(Debug, Default)]
pub struct LeastRequest;

pub(super) const PLUGIN: Registration = Registration {
    name: "least-request",
    scorer: || Box::new(LeastRequest),
};

impl Score for LeastRequest {
    fn score(&self, _: &Request<'_>, candidates: &[Candidate<'_>], scores: &mut [f64]) {
        let most = candidates
            .iter()
            .map(|one| one.in_flight)
            .max()
            .unwrap_or(0)
            .max(1);
        for (score, one) in scores.iter_mut().zip(candidates) {
            *score = 100.0 * f64::from(most - one.in_flight.min(most)) / f64::from(most);
        }
    }
}
