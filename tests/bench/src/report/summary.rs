//! Everything about a proxy in one line: the table for a README.

use super::Report;
use super::table::Table;
use crate::measure::throughput::SCENARIOS;
use crate::subject::Subject;

/// One row for each proxy, medians only; what was not measured is a dash.
pub(super) fn table(report: &Report) -> Table {
    let mut subjects: Vec<Subject> = Vec::new();
    let measured = report.throughput.iter().map(|row| row.subject);
    let measured = measured.chain(report.latency.iter().map(|row| row.subject));
    for subject in measured.chain(report.streams.iter().map(|row| row.subject)) {
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    let [first, second, third] = SCENARIOS.map(|scenario| format!("CPU/request: {}", scenario.name));
    let head = Table::new(&[
        "Proxy",
        &first,
        &second,
        &third,
        "added latency p50 / p99",
        "memory/open stream",
    ]);
    subjects.into_iter().fold(head, |table, subject| {
        let [first, second, third] = SCENARIOS.map(|scenario| cpu(report, subject, scenario.name));
        let name = subject.name();
        table.row([
            name,
            first,
            second,
            third,
            latency(report, subject),
            memory(report, subject),
        ])
    })
}

fn cpu(report: &Report, subject: Subject, scenario: &str) -> String {
    let mut rows = report.throughput.iter();
    let row = rows.find(|row| row.subject == subject && row.scenario == scenario);
    row.map_or_else(none, |row| {
        format!("{:.0} µs (× {:.2})", row.cpu_us.median, row.ratio.median)
    })
}

fn latency(report: &Report, subject: Subject) -> String {
    let mut rows = report.latency.iter();
    let row = rows.find(|row| row.subject == subject && !row.streamed);
    row.map_or_else(none, |row| {
        let (p50, p99) = (row.added_p50_us.median, row.added_p99_us.median);
        format!("{p50:.0} / {p99:.0} µs (× {:.2})", row.ratio.median)
    })
}

fn memory(report: &Report, subject: Subject) -> String {
    let row = report.streams.iter().find(|row| row.subject == subject);
    row.filter(|row| row.failed.is_none()).map_or_else(none, |row| {
        format!("{:.0} KiB", row.bytes_per_stream.median / 1024.0)
    })
}

fn none() -> String {
    "–".to_owned()
}
