//! The bench of controllers works: a small run gives every figure and counts right. How fast anything is does not matter here.

use std::{path::Path, process::Command};

use kthena_tests::{cargo, command::output};
use serde_json::Value;

#[test]
fn a_small_run_counts_every_pod_of_both_controllers() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("bench.json");
    let controller = cargo::binary("kthena-controller").unwrap();
    let bench = cargo::binary("kthena-bench").unwrap();
    let told = run(&bench, &controller, &out).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();

    let outcomes = report["outcomes"].as_array().unwrap();
    let subjects: Vec<&Value> = outcomes.iter().map(|outcome| &outcome["subject"]).collect();
    assert_eq!(subjects, ["reference", "ours"]);
    for outcome in outcomes {
        let round = &outcome["rounds"][0];
        let count = |what: &str| round["counts"][what].as_u64().unwrap();
        // 3 ModelServings × 2 groups × 4 pods; the one written in Go asks for some again.
        assert_eq!(count("pod_creates") - count("pods_again"), 24, "{outcome}");
        for figure in ["cpu_seconds", "peak_mib"] {
            assert!(round[figure].as_f64().unwrap() > 0.0, "{figure}: {outcome}");
        }
        for what in ["created", "ready", "settled"] {
            assert!(
                round["seconds"][what].as_f64().unwrap() > 0.0,
                "{what}: {outcome}"
            );
        }
        let large = &outcome["large"];
        assert_eq!((&large["groups"], &large["pods"]), (&8.into(), &32.into()));
        assert!(large["idle_percent"].is_number(), "{outcome}");
    }

    let ours = &outcomes[1]["rounds"][0]["counts"];
    assert_eq!(
        (&ours["pods_again"], &ours["failed"]),
        (&0.into(), &serde_json::json!({}))
    );
    assert_eq!(ours["by_kind"]["create controllerrevisions"], 3, "{ours}");
    assert!(
        ours["events"].as_u64().unwrap() <= 2 * 6,
        "two for each group: {ours}"
    );
    assert!(
        ours["others"].as_u64().unwrap() <= 5 * 3,
        "five for each ModelServing: {ours}"
    );
    let idle = &outcomes[1]["large"]["idle_requests"];
    assert_eq!(
        idle["by_kind"],
        serde_json::json!({}),
        "nothing happens, nothing is asked"
    );
    for heading in ["Requests", "Many ModelServings", "Targets"] {
        assert!(told.contains(heading), "no {heading} in\n{told}");
    }
}

fn run(bench: &Path, controller: &Path, out: &Path) -> anyhow::Result<String> {
    let sizes = "--rounds 1 --servings 3 --groups 2 --large 4 --idle-seconds 1";
    output(
        Command::new(bench)
            .arg("controller")
            .args(sizes.split(' '))
            .arg("--controller")
            .arg(controller)
            .arg("--out")
            .arg(out),
    )
}
