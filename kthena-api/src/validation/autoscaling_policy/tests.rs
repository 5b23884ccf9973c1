use crate::{
    AutoscalingPolicy,
    testing::{defaulted, in_short, problems},
    validation::Validate as _,
};

const METRICS: &str = "metrics: [{ name: m, targetValue: 10 }],";
const HOMOGENEOUS: &str =
    "homogeneousTarget: { minReplicas: 1, maxReplicas: 2, target: { targetRef: { name: s } } },";

#[track_caller]
fn check(spec: &str, expected: &[&str]) {
    assert_eq!(
        problems::<AutoscalingPolicy>(&format!("spec: {{ {spec} }}")),
        expected,
        "{spec}"
    );
}

/// A policy whose roles, and whatever else belongs into `disaggregatedTarget`, are given.
#[track_caller]
fn check_roles(metrics: &str, target: &str, expected: &[&str]) {
    let spec = format!("spec: {{ {metrics} disaggregatedTarget: {{ targetRef: {{ name: s }}, {target} }} }}");
    let expected: Vec<_> = expected
        .iter()
        .map(|it| format!("spec.disaggregatedTarget.{it}"))
        .collect();
    assert_eq!(
        problems::<AutoscalingPolicy>(&spec),
        expected,
        "{metrics} {target}"
    );
}

#[test]
fn targets_of_metrics_are_above_zero_and_finite() {
    for value in ["10", "'0.5'", "500m", "1Gi", "'1e-400'"] {
        check(
            &format!("metrics: [{{ name: m, targetValue: {value} }}], {HOMOGENEOUS}"),
            &[],
        );
    }
    for value in ["0", "-1", "'0'", "'-0.5'", "1e400", "much"] {
        let spec = format!(
            "spec: {{ metrics: [{{ name: m, targetValue: '{}' }}], {HOMOGENEOUS} }}",
            value.trim_matches('\'')
        );
        let problems = problems::<AutoscalingPolicy>(&spec);
        assert_eq!(problems.len(), 1, "{value}");
        assert!(
            problems[0].starts_with("spec.metrics[0].targetValue: Invalid value: "),
            "{problems:?}"
        );
    }
    check(
        &format!("metrics: [{{ name: m, targetValue: 1 }}, {{ name: m, targetValue: 2 }}], {HOMOGENEOUS}"),
        &["spec.metrics[1].name: Invalid value: \"m\""],
    );
}

#[test]
fn exactly_one_thing_is_scaled() {
    check(METRICS, &["spec: Invalid value: 0"]);
    check(
        &format!("{METRICS} {HOMOGENEOUS} heterogeneousTarget: {{}},"),
        &["spec: Invalid value: 2"],
    );
    check(&format!("{METRICS} heterogeneousTarget: {{}},"), &[]);
}

#[test]
fn what_is_scaled_is_a_model_serving_with_a_name() {
    let homogeneous = |target: &str| {
        format!("{METRICS} homogeneousTarget: {{ minReplicas: 5, maxReplicas: 2, target: {target} }}")
    };
    check(
        &homogeneous("{ targetRef: { name: s, kind: ModelServing, apiVersion: apps/v1 } }"),
        &[],
    );
    check(
        &homogeneous("{ targetRef: { name: s, kind: '' }, metricSources: { x: { pod: {} } } }"),
        &[],
    );
    let path = "spec.homogeneousTarget.target.targetRef";
    check(
        &homogeneous("{ targetRef: { kind: Deployment } }"),
        &[
            &format!("{path}.kind: Invalid value: \"Deployment\""),
            &format!("{path}.name: Invalid value: \"\""),
        ],
    );
    check(
        &homogeneous("{ targetRef: { name: s, kind: modelserving } }"),
        &[&format!("{path}.kind: Invalid value: \"modelserving\"")],
    );
    check(
        &format!("{METRICS} homogeneousTarget: {{ minReplicas: 1, maxReplicas: 1 }}"),
        &[&format!("{path}.name: Invalid value: \"\"")],
    );
    check(
        &format!("{METRICS} heterogeneousTarget: {{ params: [{{ minReplicas: 1, maxReplicas: 1 }}] }}"),
        &["spec.heterogeneousTarget.params[0].target.targetRef.name: Invalid value: \"\""],
    );
    check(
        "disaggregatedTarget: { targetRef: {}, roles: { a: { minReplicas: 1, maxReplicas: 1 } } }",
        &["spec.disaggregatedTarget.targetRef.name: Invalid value: \"\""],
    );
}

#[test]
fn whole_model_servings_need_metrics_of_the_policy() {
    check(HOMOGENEOUS, &["spec.metrics: Required value"]);
    check("heterogeneousTarget: {}", &["spec.metrics: Required value"]);
}

#[test]
fn a_role_has_bounds_metrics_and_sources() {
    let one = |role: &str| format!("roles: {{ r: {{ minReplicas: 1, maxReplicas: 4, {role} }} }}");
    let sources = "metricSources: { m: { pod: {} } }";
    check_roles(METRICS, &one(sources), &[]);
    check_roles("", &one(&format!("{METRICS} {sources}")), &[]);
    check_roles(
        METRICS,
        &one(&format!("metrics: [{{ name: k, targetValue: 1 }}], {sources}")),
        &["roles[r].metricSources[m]: Invalid value: \"m\""],
    );
    check_roles("", &one(""), &["roles[r].metrics: Required value"]);
    check_roles(METRICS, &one(""), &["roles[r].metricSources: Invalid value: {}"]);
    let two = "metrics: [{ name: m, targetValue: 1 }, { name: k, targetValue: 1 }],";
    check_roles("", &one(&format!("{two} {sources}")), &[]);
    check_roles(
        METRICS,
        &format!("roles: {{ r: {{ minReplicas: 5, maxReplicas: 4, {sources} }} }}"),
        &["roles[r].minReplicas: Invalid value: 5"],
    );
    check_roles(
        METRICS,
        &format!("roles: {{ '': {{ minReplicas: 1, maxReplicas: 4, {sources} }} }}"),
        &["roles: Invalid value: \"\""],
    );
}

#[test]
fn a_fixed_role_needs_no_metrics_but_those_it_has_are_checked() {
    check_roles("", "roles: { r: { minReplicas: 2, maxReplicas: 2 } }", &[]);
    let metrics = "metrics: [{ name: m, targetValue: 0 }, { name: m, targetValue: 1 }]";
    check_roles(
        "",
        &format!("roles: {{ r: {{ minReplicas: 2, maxReplicas: 2, {metrics} }} }}"),
        &[
            "roles[r].metrics[0].targetValue: Invalid value: 0",
            "roles[r].metrics[1].name: Invalid value: \"m\"",
        ],
    );
    check_roles(
        "",
        "roles: { r: { minReplicas: 0, maxReplicas: 0 } }",
        &["roles[r].metrics: Required value"],
    );
}

/// Two fixed roles with these numbers, and the ratio `a/b`.
#[track_caller]
fn check_ratio(a: (i32, i32), b: (i32, i32), min: &str, max: &str, details: &[&str]) {
    let role = |(min, max): (i32, i32)| {
        format!("{{ minReplicas: {min}, maxReplicas: {max}, metricSources: {{ m: {{ pod: {{}} }} }} }}")
    };
    let ratio = format!("numeratorRole: a, denominatorRole: b, minRatio: {min}, maxRatio: {max}");
    let policy: AutoscalingPolicy = defaulted(&format!(
        "spec: {{ {METRICS} disaggregatedTarget: {{ targetRef: {{ name: s }}, roles: {{ a: {}, b: {} }}, \
         ratioConstraint: {{ {ratio} }} }} }}",
        role(a),
        role(b)
    ));
    let errors = policy.validate();
    let found: Vec<_> = errors.iter().map(|error| error.detail.as_str()).collect();
    assert_eq!(found, details, "{a:?} {b:?} {min} {max}");
}

#[test]
fn a_ratio_can_be_met() {
    check_ratio((1, 4), (1, 4), "'0.5'", "2", &[]);
    check_ratio((1, 4), (1, 4), "0", "500m", &[]);
    check_ratio((0, 4), (0, 4), "'0.5'", "2", &[]);
    check_ratio(
        (10, 10),
        (1, 1),
        "'0.5'",
        "2",
        &["the bounds of the roles allow no ratio below 10"],
    );
    check_ratio(
        (1, 1),
        (4, 4),
        "'0.5'",
        "2",
        &["the bounds of the roles allow no ratio above 0.25"],
    );
    check_ratio(
        (0, 4),
        (1, 4),
        "'0.5'",
        "2",
        &["both roles, or none, may be scaled to zero"],
    );
    check_ratio((1, 4), (1, 4), "2", "1", &["must not exceed maxRatio"]);
    check_ratio(
        (1, 4),
        (1, 4),
        "-1",
        "1",
        &["minRatio must not be negative, and maxRatio must be above zero"],
    );
    check_ratio(
        (1, 4),
        (1, 4),
        "0",
        "0",
        &["minRatio must not be negative, and maxRatio must be above zero"],
    );
    check_ratio((1, 4), (1, 4), "0", "'1e400'", &["both ratios must be finite"]);
    let not_a_quantity = "\"x\" is not a quantity; write for example 10, \"0.5\", \"500m\" or \"64Gi\"";
    check_ratio((1, 4), (1, 4), "x", "1", &[not_a_quantity]);
}

#[test]
fn a_ratio_is_between_two_roles_that_are_there() {
    let roles = "roles: { a: { minReplicas: 1, maxReplicas: 1 } }";
    let ratio = |a: &str, b: &str| {
        format!(
            "{roles}, ratioConstraint: {{ numeratorRole: {a}, denominatorRole: {b}, minRatio: 1, maxRatio: 1 }}"
        )
    };
    check_roles(
        "",
        &ratio("a", "x"),
        &["ratioConstraint.denominatorRole: Invalid value: \"x\""],
    );
    check_roles(
        "",
        &ratio("a", "a"),
        &["ratioConstraint.denominatorRole: Invalid value: \"a\""],
    );
    check_roles(
        "",
        &ratio("x", "a"),
        &["ratioConstraint.numeratorRole: Invalid value: \"x\""],
    );
}

#[test]
fn periods_last_up_to_half_an_hour() {
    let stable = |period: &str| format!("{{ period: {period}, stabilizationWindow: {period} }}");
    let behavior = |period: &str| {
        format!(
            "{METRICS} {HOMOGENEOUS} behavior: {{ scaleDown: {0}, scaleUp: {{ stablePolicy: {0}, \
             panicPolicy: {{ period: {period}, panicModeHold: {period} }} }} }}",
            stable(period)
        )
    };
    for period in ["0s", "30m", "1h0m0s"] {
        let expected: &[&str] = if period == "1h0m0s" { &ALL } else { &[] };
        let expected: Vec<_> = expected
            .iter()
            .map(|path| format!("spec.behavior.{path}: Invalid value: {period:?}"))
            .collect();
        assert_eq!(
            problems::<AutoscalingPolicy>(&format!("spec: {{ {} }}", behavior(period))),
            expected
        );
    }
    for period in ["30m0.001s", "-1s", "banana"] {
        let expected: Vec<_> = ALL
            .iter()
            .map(|path| format!("spec.behavior.{path}: Invalid value: {period:?}"))
            .collect();
        assert_eq!(
            problems::<AutoscalingPolicy>(&format!("spec: {{ {} }}", behavior(period))),
            expected
        );
    }
}

const ALL: [&str; 6] = [
    "scaleDown.period",
    "scaleDown.stabilizationWindow",
    "scaleUp.stablePolicy.period",
    "scaleUp.stablePolicy.stabilizationWindow",
    "scaleUp.panicPolicy.period",
    "scaleUp.panicPolicy.panicModeHold",
];

#[test]
fn the_rules_of_the_crd_hold_here_too() {
    let check = |spec: &str, expected: &[&str]| {
        let policy: AutoscalingPolicy = defaulted(&format!("spec: {{ {spec} }}"));
        assert_eq!(in_short(&policy.check_rules(None)), expected, "{spec}");
    };
    let both = "{ pod: {}, prometheus: { serverURL: 'http://p', query: q } }";
    let sources = format!("metricSources: {{ b: {{}}, a: {both}, c: {{ pod: {{}} }} }}");
    let at = |path: &str| {
        [
            format!("{path}[a]: Invalid value: \"object\""),
            format!("{path}[b]: Invalid value: \"object\""),
        ]
    };
    let target = format!("target: {{ targetRef: {{ name: s }}, {sources} }}, minReplicas: 1, maxReplicas: 1");
    let paths = at("spec.homogeneousTarget.target.metricSources");
    check(
        &format!("homogeneousTarget: {{ {target} }}"),
        &[&paths[0], &paths[1]],
    );
    let paths = at("spec.heterogeneousTarget.params[0].target.metricSources");
    check(
        &format!("heterogeneousTarget: {{ params: [{{ {target} }}] }}"),
        &[&paths[0], &paths[1]],
    );
    let paths = at("spec.disaggregatedTarget.roles[r].metricSources");
    check(
        &format!(
            "disaggregatedTarget: {{ targetRef: {{ name: s }}, roles: {{ r: {{ {sources}, minReplicas: 1, \
             maxReplicas: 1 }} }}, ratioConstraint: {{ numeratorRole: r, denominatorRole: r, minRatio: 1, maxRatio: 1 }} }}"
        ),
        &[
            &paths[0],
            &paths[1],
            "spec.disaggregatedTarget: Invalid value: \"object\"",
            "spec.disaggregatedTarget.ratioConstraint: Invalid value: \"object\"",
        ],
    );
}
