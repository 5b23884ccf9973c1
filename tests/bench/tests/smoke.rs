//! The bench works: a run of a few seconds gives every figure, and nothing fails. How fast anything is does not matter here.

use std::path::Path;
use std::process::Command;

use kthena_tests::command::output;
use serde_json::Value;

#[test]
fn a_short_run_gives_every_figure_and_loses_no_request() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bench.json");
    let proxy = kthena_tests::cargo::binary("kthena-proxy").unwrap();
    let told = run(&proxy, &out).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();

    let subjects = 3; // bare pingora, kthena-proxy, kthena-proxy with pairs
    for (part, rows) in [
        ("throughput", 3 * subjects),
        ("latency", 2 * subjects),
        ("streams", subjects),
    ] {
        assert_eq!(report[part].as_array().unwrap().len(), rows, "{part}");
    }
    for row in report["throughput"].as_array().unwrap() {
        for figure in ["cpu_us", "ratio", "requests_per_second"] {
            assert!(row[figure]["median"].as_f64().unwrap() > 0.0, "{figure}: {row}");
        }
        assert_eq!(row["failed"], 0, "{row}");
    }
    for row in report["latency"].as_array().unwrap() {
        // What is added is a difference: on a busy machine it may be negative, but it is there.
        assert!(
            row["added_p50_us"]["median"].is_number() && row["failed"] == 0,
            "{row}"
        );
    }
    for row in report["streams"].as_array().unwrap() {
        assert!(
            row["bytes_per_stream"]["median"].is_number() && row["failed"].is_null(),
            "{row}"
        );
    }
    let reload = &report["reload"];
    assert!(reload["requests"].as_u64().unwrap() > 0, "{reload}");
    assert_eq!(
        (&reload["failed"], &reload["broken_streams"]),
        (&0.into(), &0.into()),
        "{reload}"
    );
    for heading in ["kthena-proxy, PD", "Reload", "Targets"] {
        assert!(told.contains(heading), "no {heading} in\n{told}");
    }
}

fn run(proxy: &Path, out: &Path) -> anyhow::Result<String> {
    output(
        Command::new(env!("CARGO_BIN_EXE_kthena-bench"))
            .args(["run", "--extent", "smoke", "--proxy"])
            .arg(proxy)
            .arg("--out")
            .arg(out),
    )
}
