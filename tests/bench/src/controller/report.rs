//! What was measured of controllers, as JSON for programs and as Markdown for people.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::Settings;
use super::measure::{Large, Outcome, Round};
use super::target::figure;
use super::work::PODS;
use crate::report::{Table, section, spread, targets_table};
use crate::target::Target;

/// A line of the first table: its name, the digits of its figures, where they are.
type Line = (&'static str, usize, fn(&Round) -> f64);
/// A line of the last table: its name and what stands there.
type LargeLine = (&'static str, fn(&Large) -> String);

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub processor: String,
    pub cores: usize,
    pub settings: Settings,
    pub outcomes: Vec<Outcome>,
    pub targets: Vec<Target>,
}

impl Report {
    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("writing the report as JSON")?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn markdown(&self) -> String {
        let Settings { rounds, size, .. } = &self.settings;
        let mut text = format!(
            "# Bench of controllers\n\n{} ModelServings of {} ServingGroups with {PODS} pods, so {} pods, on {} cores of {}. Medians of \
             {rounds} rounds, least and most in brackets.\n",
            size.servings,
            size.groups,
            size.pods(),
            self.cores,
            self.processor
        );
        section(&mut text, "Until everything runs", &self.rounds());
        section(&mut text, "Requests", &self.requests());
        if self.outcomes.iter().any(|outcome| outcome.large.is_some()) {
            section(&mut text, "Many ModelServings", &self.large());
        }
        for outcome in &self.outcomes {
            let failed = outcome.rounds.last().map(|round| &round.counts.failed);
            for (what, count) in failed.into_iter().flatten() {
                // Writing to a string cannot fail.
                let _ok = writeln!(text, "\n{}: {what} × {count}", outcome.subject.name());
            }
        }
        section(&mut text, "Targets", &targets_table(&self.targets));
        text
    }

    fn rounds(&self) -> Table {
        let rows: [Line; 8] = [
            ("all pods created after, s", 1, |round| round.seconds.created),
            ("all pods ready after, s", 1, |round| round.seconds.ready),
            ("last status after, s", 1, |round| round.seconds.settled),
            ("CPU, s", 2, |round| round.cpu_seconds),
            ("peak memory, MiB", 1, |round| round.peak_mib),
            ("requests to create pods", 0, |round| {
                round.counts.pod_creates as f64
            }),
            ("events", 0, |round| round.counts.events as f64),
            ("other requests", 0, |round| round.counts.others as f64),
        ];
        let head = self.head("");
        rows.into_iter().fold(head, |table, (name, digits, take)| {
            table.row(self.cells(name, |outcome| spread(&figure(outcome, take), digits)))
        })
    }

    fn requests(&self) -> Table {
        let rounds = self.outcomes.iter().flat_map(|outcome| &outcome.rounds);
        let kinds: BTreeSet<&String> = rounds.flat_map(|round| round.counts.by_kind.keys()).collect();
        kinds.into_iter().fold(self.head("Request"), |table, kind| {
            let count = |round: &Round| round.counts.by_kind.get(kind).copied().unwrap_or_default() as f64;
            table.row(self.cells(kind, |outcome| spread(&figure(outcome, count), 0)))
        })
    }

    fn large(&self) -> Table {
        let rows: [LargeLine; 7] = [
            ("ServingGroups", |large| large.groups.to_string()),
            ("pods", |large| large.pods.to_string()),
            ("the rest of the pods ready after, s", |large| {
                format!("{:.1}", large.seconds.ready)
            }),
            ("CPU until then, s", |large| format!("{:.2}", large.cpu_seconds)),
            ("peak memory, MiB", |large| format!("{:.1}", large.peak_mib)),
            ("CPU when idle, % of a core", |large| {
                format!("{:.2}", large.idle_percent)
            }),
            ("requests when idle", |large| {
                large.idle_requests.all().to_string()
            }),
        ];
        rows.into_iter().fold(self.head(""), |table, (name, show)| {
            table.row(self.cells(name, |outcome| {
                outcome.large.as_ref().map_or_else(|| "–".to_owned(), show)
            }))
        })
    }

    fn head(&self, first: &str) -> Table {
        let names = self.outcomes.iter().map(|outcome| outcome.subject.name());
        Table::new(&std::iter::once(first).chain(names).collect::<Vec<_>>())
    }

    fn cells(&self, name: &str, show: impl Fn(&Outcome) -> String) -> Vec<String> {
        let cells = self.outcomes.iter().map(show);
        std::iter::once(name.to_owned()).chain(cells).collect()
    }
}
