//! What kthena-controller has to reach.

use super::measure::{Outcome, Round};
use super::report::Report;
use super::subject::Subject;
use crate::stats::Figure;
use crate::target::{Target, at_most};

/// Requests for each ModelServing, besides those for pods and events.
const OTHERS: f64 = 5.0;
/// Events for each ServingGroup.
const EVENTS: f64 = 2.0;
/// Time until all pods are ready, by the other controller's. The rest of the control plane takes most of it, and varies more.
const TIME: f64 = 1.1;
/// CPU time and memory by the other controller's.
const COST: f64 = 0.5;
/// CPU time when there is nothing to do, of one core.
const IDLE_PERCENT: f64 = 0.5;

/// All targets whose figures are in the report.
pub(crate) fn targets(report: &Report) -> Vec<Target> {
    let find = |subject| report.outcomes.iter().find(|outcome| outcome.subject == subject);
    let Some(ours) = find(Subject::Ours) else {
        return Vec::new();
    };
    let size = report.settings.size;
    let most = |take: fn(&Round) -> usize| ours.rounds.iter().map(take).max().unwrap_or_default() as f64;
    let mut targets = vec![
        at_most(
            "pods asked for twice".to_owned(),
            0.0,
            most(|round| round.counts.pods_again),
        ),
        at_most(
            "other requests for each ModelServing".to_owned(),
            OTHERS,
            most(|round| round.counts.others) / size.servings as f64,
        ),
        at_most(
            "events for each ServingGroup".to_owned(),
            EVENTS,
            most(|round| round.counts.events) / size.all_groups() as f64,
        ),
    ];
    if let Some(reference) = find(Subject::Reference) {
        let ratio = |take: fn(&Round) -> f64| figure(ours, take).ratio_to(&figure(reference, take)).median;
        let of = "by the Go controller's";
        targets.extend([
            at_most(
                format!("time until all pods are ready {of}"),
                TIME,
                ratio(|round| round.seconds.ready),
            ),
            at_most(format!("CPU time {of}"), COST, ratio(|round| round.cpu_seconds)),
            at_most(format!("peak memory {of}"), COST, ratio(|round| round.peak_mib)),
        ]);
    }
    if let Some(large) = &ours.large {
        let what = format!("percent of a core when idle, with {} ServingGroups", large.groups);
        targets.push(at_most(what, IDLE_PERCENT, large.idle_percent));
    }
    targets
}

/// A figure of all rounds.
pub(crate) fn figure(outcome: &Outcome, take: impl Fn(&Round) -> f64) -> Figure {
    Figure::of(outcome.rounds.iter().map(take))
}
