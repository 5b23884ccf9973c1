//! The tests, and what has to run for each.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use kthena_tests::stopwatch::Stopwatch;

use crate::{
    client,
    engine::{Engine, Library, Role},
    install::Vllm,
    matrix::{self, Bed},
    pair::Pair,
    proxy::{Connector, Proxy},
    question::{EXCEPTIONS, LEFT, Run},
    report,
};

/// What vLLM's NIXL prefill logs of a read that it did not expect, or no longer.
const LATE_READ: &str = "Potentially invalid KV blocks";

/// A test by its name. The order is that in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Test {
    AnswersThroughNixlEqualAPlainEngines,
    AnswersWithoutANamedConnectorEqualAPlainEngines,
    OfficialClientsSeeNoDifference,
    AnswersThroughMooncakeEqualAPlainEngines,
}

impl Test {
    fn library(self) -> Library {
        match self {
            Self::AnswersThroughMooncakeEqualAPlainEngines => Library::Mooncake,
            _ => Library::Nixl,
        }
    }

    fn connector(self) -> Connector {
        match self {
            Self::AnswersWithoutANamedConnectorEqualAPlainEngines => Connector::Unnamed,
            Self::AnswersThroughMooncakeEqualAPlainEngines => Connector::Mooncake,
            _ => Connector::Nixl,
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .expect("all tests have a name")
            .get_name()
            .to_owned()
    }

    fn run(self) -> Run {
        let name = match self {
            Self::AnswersThroughNixlEqualAPlainEngines => "First one",
            Self::AnswersWithoutANamedConnectorEqualAPlainEngines => "Somebody else",
            Self::OfficialClientsSeeNoDifference => "A client",
            Self::AnswersThroughMooncakeEqualAPlainEngines => "At last somebody",
        };
        Run {
            name,
            library: self.library(),
        }
    }
}

/// Runs the tests one after the other, and says at the end what came out.
pub(crate) async fn run(wanted: &[Test], filter: Option<&str>, dir: &Path) -> Result<()> {
    let clock = Stopwatch::start();
    let vllm = tokio::task::spawn_blocking(Vllm::install).await??;
    say(&clock, "vLLM is installed");
    let mut plain = Engine::start(&vllm, Role::Plain, dir)?;
    let (mut summaries, mut failed) = (Vec::new(), Vec::new());
    for library in [Library::Nixl, Library::Mooncake] {
        let tests: Vec<Test> = wanted
            .iter()
            .copied()
            .filter(|test| test.library() == library)
            .collect();
        if tests.is_empty() {
            continue;
        }
        let mut pair = Pair::start(&vllm, library, dir)?;
        let (one, two) = futures::join!(plain.until_ready(), pair.until_ready());
        one.and(two)
            .with_context(|| format!("starting the engines of {library:?}"))?;
        say(
            &clock,
            &format!("a plain engine and a pair run that hands over by {library:?}"),
        );
        for test in tests {
            println!("\n{}", test.name());
            match one_test(test, &plain, &mut pair, filter, dir).await {
                Ok(summary) => summaries.push(summary),
                Err(error) => {
                    println!("  FAILED: {error:#}");
                    summaries.push(format!("{}: FAILED: {error:#}", test.name()));
                    failed.push(test.name());
                }
            }
            say(&clock, "done");
        }
        pair.stop().await;
    }
    plain.stop().await;
    println!("\n{}", summaries.join("\n"));
    say(&clock, "in all");
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

async fn one_test(
    test: Test,
    plain: &Engine,
    pair: &mut Pair,
    filter: Option<&str>,
    dir: &Path,
) -> Result<String> {
    let proxy = Proxy::start(test.connector(), pair, dir).await?;
    let bed = Bed {
        plain,
        pair,
        proxy: &proxy,
    };
    let summary = match test {
        Test::OfficialClientsSeeNoDifference => {
            let lines = client::run(&bed).await?;
            lines.iter().for_each(|line| println!("{line}"));
            format!("{}: {} calls passed", test.name(), lines.len())
        }
        _ => {
            let rows = matrix::run(&bed, test.run(), filter).await?;
            let summary = report::summary(&test.name(), &rows);
            ensure!(rows.iter().all(report::Row::passed), "{summary}");
            let exceptions = rows
                .iter()
                .filter(|row| row.expected.exception().is_some())
                .count();
            ensure!(
                exceptions <= EXCEPTIONS,
                "{exceptions} exceptions, {EXCEPTIONS} are allowed"
            );
            summary
        }
    };
    proxy.stop().await;
    pair.check()?;
    // Blocks that decode reads after prefill has given them up may hold another prompt by then.
    // Decode itself tells prefill twice that it is done where a client went in between.
    let mut late = pair.prefill.said(LATE_READ);
    late.retain(|line| !line.contains(LEFT));
    ensure!(late.is_empty(), "prefill says:\n{}", late.join("\n"));
    Ok(summary)
}

fn say(clock: &Stopwatch, what: &str) {
    println!("[{:>6.1} s] {what}", clock.elapsed().as_secs_f64());
}
