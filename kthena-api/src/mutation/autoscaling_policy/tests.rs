use serde_json::{Value, json};

use crate::{
    AutoscalingPolicy,
    mutation::Mutate as _,
    testing::{defaulted, yaml},
};

fn policy(behavior: &str) -> AutoscalingPolicy {
    defaulted(&format!("spec: {{ {behavior} }}"))
}

/// Completes the behavior in place and by the patch, which must come to the same.
#[track_caller]
fn completed(behavior: &str) -> Value {
    let policy = policy(behavior);
    let mut patched = serde_json::to_value(&policy).unwrap();
    for addition in policy.additions() {
        let (parent, name) = addition.path.rsplit_once('/').unwrap();
        patched
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{parent} is there"))[name] = addition.value;
    }
    let mut completed = policy;
    completed.complete();
    let completed = serde_json::to_value(completed).unwrap();
    assert_eq!(completed, patched, "{behavior}");
    completed["spec"]["behavior"].clone()
}

fn paths(behavior: &str) -> Vec<String> {
    policy(behavior)
        .additions()
        .into_iter()
        .map(|addition| addition.path)
        .collect()
}

fn whole() -> Value {
    yaml(
        "scaleDown: { instances: 0, percent: 100, period: 1m0s, selectPolicy: Or, stabilizationWindow: 5m0s }
scaleUp:
  stablePolicy: { instances: 4, percent: 100, period: 1m0s, selectPolicy: Or, stabilizationWindow: 0s }
  panicPolicy: { percent: 0, period: 0s, panicThresholdPercent: 200, panicModeHold: 0s }",
    )
}

#[test]
fn no_behavior_gets_the_whole_set_in_one_operation() {
    for behavior in ["", "behavior: {}", "behavior: { scaleUp: {} }"] {
        assert_eq!(paths(behavior), ["/spec/behavior"], "{behavior}");
        assert_eq!(completed(behavior), whole(), "{behavior}");
    }
}

#[test]
fn a_part_that_is_there_keeps_the_defaults_of_the_schema() {
    let behavior = "behavior: { scaleDown: {} }";
    assert_eq!(
        paths(behavior),
        [
            "/spec/behavior/scaleDown/stabilizationWindow",
            "/spec/behavior/scaleUp"
        ]
    );
    assert_eq!(
        completed(behavior),
        json!({
            "scaleDown": {
                "instances": 1, "percent": 100, "period": "15s", "selectPolicy": "Or", "stabilizationWindow": "5m"
            },
            "scaleUp": whole()["scaleUp"],
        })
    );
}

#[test]
fn a_field_that_is_there_keeps_the_rest_of_its_part() {
    let behavior = "behavior: { scaleUp: { stablePolicy: { instances: 2 } } }";
    assert_eq!(
        paths(behavior),
        [
            "/spec/behavior/scaleDown",
            "/spec/behavior/scaleUp/stablePolicy/stabilizationWindow",
            "/spec/behavior/scaleUp/panicPolicy",
        ]
    );
    let expected = json!({
        "instances": 2, "percent": 100, "period": "15s", "selectPolicy": "Or", "stabilizationWindow": "0s"
    });
    let completed = completed(behavior);
    assert_eq!(completed["scaleUp"]["stablePolicy"], expected);
    assert_eq!(completed["scaleDown"], whole()["scaleDown"]);
    assert_eq!(
        completed["scaleUp"]["panicPolicy"],
        whole()["scaleUp"]["panicPolicy"]
    );
}

#[test]
fn what_go_clients_write_turns_panic_mode_on() {
    let behavior = "tolerancePercent: 0, behavior: { scaleUp: { stablePolicy: {}, panicPolicy: { period: 0s } }, scaleDown: {} }";
    let completed = completed(behavior);
    assert_eq!(completed["scaleDown"]["period"], "15s");
    assert_eq!(completed["scaleUp"]["stablePolicy"]["instances"], 1);
    assert_eq!(
        completed["scaleUp"]["panicPolicy"],
        json!({ "percent": 1000, "period": "0s", "panicThresholdPercent": 200, "panicModeHold": "60s" })
    );
}

#[test]
fn a_panic_policy_alone_leaves_the_rest_to_the_sets() {
    let behavior = "behavior: { scaleUp: { panicPolicy: { period: 10s } } }";
    assert_eq!(
        paths(behavior),
        ["/spec/behavior/scaleDown", "/spec/behavior/scaleUp/stablePolicy"]
    );
    completed(behavior);
}

#[test]
fn a_complete_behavior_stays_as_it_is() {
    let behavior = "behavior: { scaleDown: { stabilizationWindow: 1s }, scaleUp: { stablePolicy: { stabilizationWindow: 2s }, \
                    panicPolicy: { percent: 10, period: 1s } } }";
    assert_eq!(paths(behavior), [""; 0]);
    let policy = policy(behavior);
    assert_eq!(
        completed(behavior),
        serde_json::to_value(policy.spec.behavior).unwrap()
    );
}

#[test]
fn completing_twice_changes_nothing_more() {
    for behavior in [
        "",
        "behavior: { scaleDown: {} }",
        "behavior: { scaleUp: { panicPolicy: { period: 0s } } }",
    ] {
        let mut policy = policy(behavior);
        policy.complete();
        assert!(policy.additions().is_empty(), "{behavior}");
    }
}
