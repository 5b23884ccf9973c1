//! One round of one controller.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::Settings;
use super::bed::Bed;
use super::count::{Counts, Times};
use super::subject::{Subject, Subjects};
use super::work::{self, Size};

/// All that was measured of a controller.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub subject: Subject,
    pub rounds: Vec<Round>,
    /// Of the last round.
    pub large: Option<Large>,
}

/// From nothing until everything runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub seconds: Times,
    pub counts: Counts,
    /// CPU time of the controller since its start.
    pub cpu_seconds: f64,
    /// The most memory that it had at any time.
    pub peak_mib: f64,
}

/// What many ModelServings cost, at work and when there is nothing to do.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Large {
    pub groups: usize,
    pub pods: usize,
    /// From the first round's end until all of these run.
    pub seconds: Times,
    /// CPU time since its start.
    pub cpu_seconds: f64,
    /// The most memory that it had at any time.
    pub peak_mib: f64,
    /// How long idleness was watched.
    pub idle_seconds: u64,
    /// CPU time meanwhile, of one core.
    pub idle_percent: f64,
    /// Requests meanwhile.
    pub idle_requests: Counts,
}

impl Outcome {
    /// Nothing yet.
    pub(crate) const fn of(subject: Subject) -> Self {
        Self {
            subject,
            rounds: Vec::new(),
            large: None,
        }
    }
}

/// Runs a round on a control plane of its own and, where asked for, goes on to so many ModelServings.
pub(crate) async fn round(
    subjects: &Subjects,
    subject: Subject,
    settings: &Settings,
    large: Option<usize>,
) -> Result<(Round, Option<Large>)> {
    let mut bed = Bed::start(subjects, subject).await?;
    let size = settings.size;
    let (seconds, counts) = grow(&mut bed, 0, size).await?;
    let round = Round {
        seconds,
        counts,
        cpu_seconds: cpu_seconds(&bed)?,
        peak_mib: peak_mib(&bed)?,
    };
    let Some(servings) = large else {
        return Ok((round, None));
    };
    let all = Size { servings, ..size };
    let (seconds, _counts) = grow(&mut bed, size.servings, all).await?;
    let (cpu, peak_mib) = (cpu_seconds(&bed)?, peak_mib(&bed)?);
    let (before, mark) = (bed.group().cpu_ns()?, bed.mark()?);
    let clock = kthena_tests::stopwatch::Stopwatch::start();
    tokio::time::sleep(Duration::from_secs(settings.idle_seconds)).await;
    let spent = bed.group().cpu_ns()?.saturating_sub(before);
    let share = spent as f64 / clock.elapsed().as_nanos() as f64;
    bed.check()?;
    let large = Large {
        groups: all.all_groups(),
        pods: all.pods(),
        seconds,
        cpu_seconds: cpu,
        peak_mib,
        idle_seconds: settings.idle_seconds,
        idle_percent: share * 100.0,
        idle_requests: Counts::of(&bed.since(mark)?, bed.user()),
    };
    Ok((round, Some(large)))
}

/// Creates ModelServings up to a number, and waits until all run and the controller is done.
async fn grow(bed: &mut Bed, from: usize, size: Size) -> Result<(Times, Counts)> {
    let mark = bed.mark()?;
    work::create(&bed.space, from..size.servings, size.groups).await?;
    bed.until_done(size).await?;
    let entries = bed.since(mark)?;
    let (names, ready) = work::pods(&bed.space).await?;
    ensure!(
        [names.len(), ready] == [size.pods(); 2],
        "{} pods were expected, {} are there and {ready} are ready",
        size.pods(),
        names.len()
    );
    Ok((Times::of(&entries, bed.user())?, Counts::of(&entries, bed.user())))
}

fn cpu_seconds(bed: &Bed) -> Result<f64> {
    Ok(bed.group().cpu_ns()? as f64 / 1e9)
}

fn peak_mib(bed: &Bed) -> Result<f64> {
    Ok(bed.group().peak_memory()? as f64 / f64::from(1 << 20))
}
