//! Controllers of ModelServings side by side: how long, with how many requests, with how much CPU and memory.
//!
//! ```text
//! bench ──60 ModelServings──→ kube-apiserver ──audit log──→ counts
//!                               ▲    ▲    ▲
//!                  controller ──┘    │    └── kube-controller-manager
//!              kube-scheduler, KWOK ─┘
//! ```
//!
//! Each controller gets a control plane of its own, made for it and ended with it, and the same work. Rounds take turns.

mod bed;
mod count;
mod measure;
mod report;
mod subject;
mod target;
mod work;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use self::measure::Outcome;
use self::report::Report;
use self::subject::{Subject, Subjects};
use self::work::Size;
use crate::machine;

/// How to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kthena-controller to measure.
    #[arg(long)]
    controller: PathBuf,
    /// Where everything that was measured goes, as JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Fail if kthena-controller misses a target.
    #[arg(long)]
    check: bool,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["reference", "ours"])]
    subjects: Vec<Subject>,
    /// How often each figure is taken.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// ModelServings that are created at once.
    #[arg(long, default_value_t = 60)]
    servings: usize,
    /// ServingGroups of each, with four pods each.
    #[arg(long, default_value_t = 4)]
    groups: usize,
    /// ModelServings that there are in the end, in the last round, when idleness is measured; 0 for none.
    #[arg(long, default_value_t = 200)]
    large: usize,
    /// How long idleness is watched, in seconds.
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// Requests a second that the controller written in Go allows itself, with bursts of twice as many; 0 for its own limit, which is
    /// 5 and 10.
    #[arg(long, default_value_t = 500)]
    reference_qps: u32,
}

/// How much was asked for.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settings {
    pub rounds: usize,
    pub size: Size,
    /// ModelServings in the end.
    pub large: usize,
    pub idle_seconds: u64,
    pub reference_qps: u32,
}

/// Measures all, prints the tables and writes the report.
pub(crate) async fn run(args: &Args) -> Result<()> {
    let controller = args.controller.canonicalize();
    let controller = controller.with_context(|| format!("finding {}", args.controller.display()))?;
    let settings = Settings {
        rounds: args.rounds.max(1),
        size: Size {
            servings: args.servings,
            groups: args.groups,
        },
        large: args.large,
        idle_seconds: args.idle_seconds,
        reference_qps: args.reference_qps,
    };
    let subjects = Subjects::prepare(&args.subjects, controller, settings.reference_qps).await?;
    let mut report = Report {
        processor: machine::processor(),
        cores: machine::Cores::find()?.count(),
        outcomes: args.subjects.iter().copied().map(Outcome::of).collect(),
        settings,
        targets: Vec::new(),
    };
    for number in 1..=report.settings.rounds {
        for outcome in &mut report.outcomes {
            eprintln!("round {number}: {}", outcome.subject.name());
            let is_last = number == report.settings.rounds;
            let large = is_last
                .then_some(report.settings.large)
                .filter(|large| *large > 0);
            let (round, large) = measure::round(&subjects, outcome.subject, &report.settings, large)
                .await
                .with_context(|| format!("measuring {}", outcome.subject.name()))?;
            outcome.rounds.push(round);
            outcome.large = large;
        }
    }
    report.targets = target::targets(&report);
    println!("{}", report.markdown());
    if let Some(path) = &args.out {
        report.write(path)?;
        eprintln!("written to {}", path.display());
    }
    let missed = report.targets.iter().filter(|target| !target.met);
    let missed: Vec<_> = missed.map(|target| target.what.as_str()).collect();
    if args.check && !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}
