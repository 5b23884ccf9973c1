//! What kthena-proxy has to reach.

use serde::Serialize;

use crate::report::Report;
use crate::subject::Subject;

/// CPU time for each request by bare pingora's, in the order of the scenarios.
const CPU: [(Subject, [f64; 3]); 2] = [
    (Subject::OURS, [0.6, 1.5, 1.8]),
    (Subject::OURS_SPLIT, [1.1, 2.6, 3.5]),
];
/// Added latency at the median by bare pingora's, not streamed.
const LATENCY: [(Subject, f64); 2] = [(Subject::OURS, 1.2), (Subject::OURS_SPLIT, 2.0)];
/// Memory for each open stream.
const STREAM_KIB: f64 = 40.0;
/// Requests a second that a reload has to be under.
const RELOAD_RATE: f64 = 500.0;

/// A limit, and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    pub what: String,
    pub limit: f64,
    pub measured: f64,
    pub met: bool,
}

/// All targets whose figures are in the report.
pub(crate) fn targets(report: &Report) -> Vec<Target> {
    let mut targets = Vec::new();
    for (subject, limits) in CPU {
        let rows = report.throughput.iter().filter(|row| row.subject == subject);
        targets.extend(rows.zip(limits).map(|(row, limit)| {
            let what = format!("{}: CPU by bare pingora's, {}", subject.name(), row.scenario);
            at_most(what, limit, row.ratio.median)
        }));
    }
    let measured = report
        .throughput
        .iter()
        .filter(|row| CPU.iter().any(|(subject, _)| *subject == row.subject));
    let failed: u64 = measured.map(|row| row.failed).sum();
    targets.push(at_most(
        "failed requests at saturation".to_owned(),
        0.0,
        failed as f64,
    ));
    for (subject, limit) in LATENCY {
        let rows = report
            .latency
            .iter()
            .filter(|row| row.subject == subject && !row.streamed);
        targets.extend(rows.map(|row| {
            let what = format!("{}: added latency p50 by bare pingora's", subject.name());
            at_most(what, limit, row.ratio.median)
        }));
    }
    for row in report
        .streams
        .iter()
        .filter(|row| [Subject::OURS, Subject::OURS_SPLIT].contains(&row.subject))
    {
        let what = format!(
            "{}: KiB for each of {} open streams",
            row.subject.name(),
            row.streams
        );
        let kib = row.bytes_per_stream.median / 1024.0;
        let target = at_most(what, STREAM_KIB, kib);
        targets.push(Target {
            met: target.met && row.failed.is_none(),
            ..target
        });
    }
    if let Some(reload) = &report.reload {
        let lost = (reload.failed + reload.broken_streams) as f64;
        targets.push(at_most(
            "reload: failed requests and broken streams".to_owned(),
            0.0,
            lost,
        ));
        targets.push(Target {
            what: "reload: requests a second, at least".to_owned(),
            limit: RELOAD_RATE,
            measured: reload.requests_per_second,
            met: reload.requests_per_second >= RELOAD_RATE,
        });
    }
    targets
}

/// A figure that has to stay below a limit.
pub(crate) fn at_most(what: String, limit: f64, measured: f64) -> Target {
    Target {
        what,
        limit,
        measured,
        met: measured <= limit,
    }
}
