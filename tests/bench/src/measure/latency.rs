//! What a proxy adds to the latency of one request at a time: its latency less the mock engine's own in the same round.

use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;

use super::Settings;
use crate::bed::{Bed, Running, chat};
use crate::load::{self, Outcome, Plan};
use crate::request::{Answer, Chat};
use crate::stats::Figure;
use crate::subject::Subject;

/// One proxy with one kind of answer.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub subject: Subject,
    pub streamed: bool,
    pub added_p50_us: Figure,
    pub added_p99_us: Figure,
    /// The added median by bare pingora's of the same round.
    pub ratio: Figure,
    pub failed: u64,
}

/// The engine itself, to which nothing is added.
#[derive(Debug, Serialize)]
pub(crate) struct Direct {
    pub streamed: bool,
    pub p50_us: Figure,
    pub p99_us: Figure,
}

/// Measures all, round by round.
pub(crate) async fn run(
    bed: &Bed,
    all: &[(Subject, Running)],
    settings: &Settings,
) -> Result<(Vec<Direct>, Vec<Row>)> {
    let (mut directs, mut rows) = (Vec::new(), Vec::new());
    for answer in [Answer::Json, Answer::Stream] {
        let mut direct = Vec::new();
        let mut outcomes: Vec<Vec<Outcome>> = all.iter().map(|_| Vec::new()).collect();
        for round in 1..=settings.rounds {
            eprintln!("latency, {answer:?}: round {round} of {}", settings.rounds);
            direct.push(load::run(&plan(bed.engine(0), "bench", answer, settings)).await?);
            for ((_, running), outcomes) in all.iter().zip(&mut outcomes) {
                outcomes.push(load::run(&plan(running.address, running.model, answer, settings)).await?);
            }
        }
        let direct = Direct {
            streamed: answer == Answer::Stream,
            p50_us: p50(&direct),
            p99_us: p99(&direct),
        };
        let bare = all.iter().position(|(subject, _)| *subject == Subject::BARE);
        let base = bare
            .map(|at| p50(&outcomes[at]).above(&direct.p50_us))
            .unwrap_or_default();
        rows.extend(all.iter().zip(&outcomes).map(|((subject, _), outcomes)| {
            let added_p50_us = p50(outcomes).above(&direct.p50_us);
            Row {
                subject: *subject,
                streamed: direct.streamed,
                ratio: added_p50_us.ratio_to(&base),
                added_p50_us,
                added_p99_us: p99(outcomes).above(&direct.p99_us),
                failed: outcomes.iter().map(|outcome| outcome.failed).sum(),
            }
        }));
        directs.push(direct);
    }
    Ok((directs, rows))
}

fn p50(outcomes: &[Outcome]) -> Figure {
    Figure::of(outcomes.iter().map(|outcome| outcome.p50_us))
}

fn p99(outcomes: &[Outcome]) -> Figure {
    Figure::of(outcomes.iter().map(|outcome| outcome.p99_us))
}

fn plan(target: SocketAddr, model: &str, answer: Answer, settings: &Settings) -> Plan {
    Plan {
        target,
        request: Chat {
            model,
            ..chat(answer)
        }
        .bytes(target),
        answer,
        connections: 1,
        warmup: settings.warmup(),
        time: settings.time(),
        group: None,
    }
}
