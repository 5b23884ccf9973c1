//! What was measured, as JSON for programs and as Markdown for people.

mod summary;
mod table;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

pub(crate) use self::table::Table;
use crate::measure::throughput::SCENARIOS;
use crate::measure::{Settings, latency, reload, streams, throughput};
use crate::stats::Figure;
use crate::target::{self, Target};

/// All of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What the figures are worth: a build without optimisation says nothing.
    pub build: &'static str,
    pub processor: String,
    pub cores: usize,
    pub settings: Settings,
    pub throughput: Vec<throughput::Row>,
    pub direct: Vec<latency::Direct>,
    pub latency: Vec<latency::Row>,
    pub streams: Vec<streams::Row>,
    pub reload: Option<reload::Outcome>,
    /// Peers without figures, and why.
    pub left_out: Vec<(&'static str, String)>,
    pub targets: Vec<Target>,
}

impl Report {
    /// Compares with the targets; called once, when all figures are there.
    pub(crate) fn judge(&mut self) {
        self.targets = target::targets(self);
    }

    pub(crate) fn missed(&self) -> Vec<&Target> {
        self.targets.iter().filter(|target| !target.met).collect()
    }

    /// Writes everything as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("writing the report as JSON")?;
        std::fs::write(path, json).with_context(|| format!("writing {}", path.display()))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "# Bench\n\n{} build on {} cores of {}; each proxy on one core. Medians of {} rounds of {} s, least and most in \
             brackets; ratios are taken round by round.\n",
            self.build, self.cores, self.processor, self.settings.rounds, self.settings.seconds
        );
        section(&mut text, "Summary", &summary::table(self));
        for scenario in SCENARIOS {
            let mut rows = self
                .throughput
                .iter()
                .filter(|row| row.scenario == scenario.name)
                .peekable();
            if rows.peek().is_none() {
                continue;
            }
            let table = rows.fold(
                Table::new(&[
                    "Proxy",
                    "CPU µs/request",
                    "by bare pingora's",
                    "requests/s",
                    "failed",
                ]),
                |table, row| {
                    table.row([
                        row.subject.name(),
                        spread(&row.cpu_us, 1),
                        spread(&row.ratio, 2),
                        spread(&row.requests_per_second, 0),
                        failures(row.failed, row.reason.as_deref()),
                    ])
                },
            );
            section(&mut text, &format!("At saturation: {}", scenario.name), &table);
        }
        for direct in &self.direct {
            let kind = if direct.streamed {
                "streamed"
            } else {
                "not streamed"
            };
            let rows = self.latency.iter().filter(|row| row.streamed == direct.streamed);
            let none = Table::new(&["Proxy", "added p50 µs", "by bare pingora's", "added p99 µs"]);
            let table = rows.fold(none, |table, row| {
                table.row([
                    row.subject.name(),
                    spread(&row.added_p50_us, 0),
                    spread(&row.ratio, 2),
                    spread(&row.added_p99_us, 0),
                ])
            });
            let title = format!(
                "One request at a time: 1 KiB, {kind} (the engine alone: p50 {:.0} µs, p99 {:.0} µs)",
                direct.p50_us.median, direct.p99_us.median
            );
            section(&mut text, &title, &table);
        }
        if let Some(first) = self.streams.first() {
            let table = self
                .streams
                .iter()
                .fold(Table::new(&["Proxy", "KiB/stream"]), |table, row| {
                    let kib = Figure::of(row.bytes_per_stream.rounds.iter().map(|bytes| bytes / 1024.0));
                    let figure = row.failed.clone().unwrap_or_else(|| spread(&kib, 1));
                    table.row([row.subject.name(), figure])
                });
            section(
                &mut text,
                &format!("Memory of {} open streams", first.streams),
                &table,
            );
        }
        if let Some(reload) = &self.reload {
            // Writing to a string cannot fail, here and below.
            let _ok = writeln!(
                text,
                "\n## Reload\n\n{} changes of routes and endpoints in {:.1} s: {} short requests ({:.0}/s), {} failed; {} slow \
                 streams, {} broken{}.",
                reload.changes,
                reload.seconds,
                reload.requests,
                reload.requests_per_second,
                reload.failed,
                reload.streams,
                reload.broken_streams,
                reload
                    .reason
                    .as_ref()
                    .map_or_else(String::new, |reason| format!(" ({reason})")),
            );
        }
        for (name, reason) in &self.left_out {
            let _ok = writeln!(text, "\nWithout {name}: {reason}");
        }
        section(&mut text, "Targets", &targets_table(&self.targets));
        text
    }
}

/// Limits and what was measured.
pub(crate) fn targets_table(targets: &[Target]) -> Table {
    targets.iter().fold(
        Table::new(&["Target", "limit", "measured", ""]),
        |table, target| {
            let met = if target.met { "met" } else { "MISSED" };
            table.row([
                target.what.clone(),
                format!("{}", target.limit),
                format!("{:.2}", target.measured),
                met.to_owned(),
            ])
        },
    )
}

pub(crate) fn section(text: &mut String, title: &str, table: &Table) {
    let _ok = write!(text, "\n## {title}\n\n{table}");
}

/// The median, and the spread where there is one.
pub(crate) fn spread(figure: &Figure, digits: usize) -> String {
    if figure.rounds.is_empty() {
        return "–".to_owned();
    }
    let Figure { median, min, max, .. } = figure;
    if figure.rounds.len() == 1 {
        return format!("{median:.digits$}");
    }
    format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
}

fn failures(count: u64, reason: Option<&str>) -> String {
    match (count, reason) {
        (0, _) | (_, None) => count.to_string(),
        (_, Some(reason)) => {
            let line = reason.lines().next().unwrap_or_default();
            format!("{count}: {}", line.chars().take(80).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_shown_where_there_is_one() {
        assert_eq!(spread(&Figure::of([1.25, 2.0, 1.0]), 1), "1.2 (1.0–2.0)");
        assert_eq!(spread(&Figure::of([41.5]), 0), "42");
        assert_eq!(spread(&Figure::default(), 2), "–");
    }

    #[test]
    fn failures_name_the_first_reason() {
        assert_eq!(failures(0, None), "0");
        assert_eq!(
            failures(3, Some("answered HTTP/1.1 503\r\nmore")),
            "3: answered HTTP/1.1 503"
        );
    }
}
