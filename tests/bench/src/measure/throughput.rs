//! CPU time of the proxy for each request, and how many requests a second it takes to fill its core.

use anyhow::Result;
use serde::Serialize;

use super::Settings;
use crate::bed::Running;
use crate::load::{self, Outcome, Plan};
use crate::request::{Answer, Chat};
use crate::stats::Figure;
use crate::subject::Subject;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub name: &'static str,
    pub prompt: usize,
    pub answer: Answer,
}

pub(crate) const SCENARIOS: [Scenario; 3] = [
    Scenario {
        name: "1 KiB, 64 events",
        prompt: 1024,
        answer: Answer::Stream,
    },
    Scenario {
        name: "1 KiB, not streamed",
        prompt: 1024,
        answer: Answer::Json,
    },
    Scenario {
        name: "220 KB, not streamed",
        prompt: 220_000,
        answer: Answer::Json,
    },
];

/// One proxy in one scenario.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub subject: Subject,
    pub scenario: &'static str,
    pub cpu_us: Figure,
    /// By bare pingora's of the same round.
    pub ratio: Figure,
    pub requests_per_second: Figure,
    pub failed: u64,
    pub reason: Option<String>,
}

/// Measures all, round by round.
pub(crate) async fn run(all: &[(Subject, Running)], settings: &Settings) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for scenario in SCENARIOS {
        let mut outcomes: Vec<Vec<Outcome>> = all.iter().map(|_| Vec::new()).collect();
        for round in 1..=settings.rounds {
            eprintln!("{}: round {round} of {}", scenario.name, settings.rounds);
            for ((_, running), outcomes) in all.iter().zip(&mut outcomes) {
                outcomes.push(load::run(&plan(scenario, running, settings)).await?);
            }
        }
        let figures = |outcomes: &[Outcome]| Figure::of(outcomes.iter().map(|outcome| outcome.cpu_us));
        let bare = all.iter().position(|(subject, _)| *subject == Subject::BARE);
        let base = bare.map(|at| figures(&outcomes[at])).unwrap_or_default();
        rows.extend(all.iter().zip(&outcomes).map(|((subject, _), outcomes)| {
            let cpu_us = figures(outcomes);
            Row {
                subject: *subject,
                scenario: scenario.name,
                ratio: cpu_us.ratio_to(&base),
                cpu_us,
                requests_per_second: Figure::of(outcomes.iter().map(|outcome| outcome.requests_per_second)),
                failed: outcomes.iter().map(|outcome| outcome.failed).sum(),
                reason: outcomes.iter().find_map(|outcome| outcome.reason.clone()),
            }
        }));
    }
    Ok(rows)
}

fn plan(scenario: Scenario, running: &Running, settings: &Settings) -> Plan {
    let chat = Chat {
        model: running.model,
        prompt: scenario.prompt,
        answer: scenario.answer,
        user: None,
    };
    Plan {
        target: running.address,
        request: chat.bytes(running.address),
        answer: scenario.answer,
        connections: settings.connections,
        warmup: settings.warmup(),
        time: settings.time(),
        group: Some(running.group()),
    }
}
