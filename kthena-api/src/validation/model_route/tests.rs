use crate::{
    ModelRoute,
    testing::{defaulted, in_short, problems},
    validation::Validate as _,
};

#[track_caller]
fn check(spec: &str, expected: &[&str]) {
    assert_eq!(
        problems::<ModelRoute>(&format!("spec: {{ {spec} }}")),
        expected,
        "{spec}"
    );
}

/// A route for the model `m` with these targets.
#[track_caller]
fn check_targets(targets: &str, expected: &[&str]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|it| format!("spec.rules[0].targetModels{it}"))
        .collect();
    let spec = format!("spec: {{ modelName: m, rules: [{{ targetModels: [{targets}] }}] }}");
    assert_eq!(problems::<ModelRoute>(&spec), expected, "{targets}");
}

/// A route for the model `m` with this condition.
#[track_caller]
fn check_match(condition: &str, expected: &[&str]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|it| format!("spec.rules[0].modelMatch.{it}"))
        .collect();
    let spec = format!(
        "spec: {{ modelName: m, rules: [{{ modelMatch: {condition}, targetModels: [{{ modelServerName: s }}] }}] }}"
    );
    assert_eq!(problems::<ModelRoute>(&spec), expected, "{condition}");
}

#[test]
fn a_route_says_which_requests_are_meant() {
    check("modelName: m, rules: []", &[]);
    check("loraAdapters: [a], rules: []", &[]);
    check("modelName: '', loraAdapters: [a, a], rules: []", &[]);
    check("rules: []", &["spec: Required value"]);
    check(
        "modelName: '', loraAdapters: [], rules: []",
        &["spec: Required value"],
    );
}

#[test]
fn adapters_have_names() {
    check(
        "loraAdapters: [a, '', c], rules: []",
        &["spec.loraAdapters[1]: Invalid value: \"\""],
    );
    check(
        "loraAdapters: ['', ''], rules: []",
        &[
            "spec.loraAdapters[0]: Invalid value: \"\"",
            "spec.loraAdapters[1]: Invalid value: \"\"",
        ],
    );
}

#[test]
fn every_problem_is_told_in_order() {
    check(
        "rules: [{ targetModels: [] }]",
        &[
            "spec: Required value",
            "spec.rules[0].targetModels: Required value",
        ],
    );
}

#[test]
fn a_target_is_one_server_or_one_provider() {
    check_targets("{ modelServerName: a }", &[]);
    check_targets("{ modelServerName: a }, { externalModelProviderName: b }", &[]);
    check_targets("{ modelServerName: a, externalModelProviderName: '' }", &[]);
    check_targets("{}", &["[0]: Invalid value: \"/\""]);
    check_targets("{ modelServerName: '' }", &["[0]: Invalid value: \"/\""]);
    check_targets(
        "{ modelServerName: a, externalModelProviderName: b }",
        &["[0]: Invalid value: \"a/b\""],
    );
}

#[test]
fn adapters_are_not_at_external_providers() {
    check(
        "loraAdapters: [a], rules: [{ targetModels: [{ externalModelProviderName: p }] }]",
        &["spec.rules[0].targetModels[0].externalModelProviderName: Invalid value: \"p\""],
    );
}

#[test]
fn some_target_gets_requests() {
    check_targets("{ modelServerName: a, weight: 0 }, { modelServerName: b }", &[]);
    check_targets(
        "{ modelServerName: a, weight: 0 }, { modelServerName: b, weight: 0 }",
        &[": Invalid value: 0"],
    );
}

#[test]
fn expressions_are_of_the_re2_dialect() {
    check_match(
        "{ headers: { x: { regex: '^\\Qa.b\\E$' } }, uri: { exact: /v1, prefix: / } }",
        &[],
    );
    check_match(
        "{ headers: { x: { regex: '(?=a)' }, a: { regex: '(' } }, uri: { regex: '[' } }",
        &[
            "headers[a].regex: Invalid value: \"(\"",
            "headers[x].regex: Invalid value: \"(?=a)\"",
            "uri.regex: Invalid value: \"[\"",
        ],
    );
}

#[test]
fn a_limit_may_be_empty_and_its_unit_unknown() {
    check("modelName: m, rules: [], rateLimit: {}", &[]);
    check(
        "modelName: m, rules: [], rateLimit: { unit: week }",
        &[concat!(
            "spec.rateLimit.unit: Unsupported value: \"week\": ",
            "supported values: \"second\", \"minute\", \"hour\", \"day\", \"month\""
        )],
    );
}

#[test]
fn the_rules_of_the_crd_hold_here_too() {
    let check = |spec: &str, expected: &[&str]| {
        let route: ModelRoute = defaulted(&format!("spec: {{ {spec} }}"));
        assert_eq!(in_short(&route.check_rules(None)), expected, "{spec}");
    };
    check("loraAdapters: [a], rules: []", &[]);
    check("rules: []", &["spec: Invalid value: \"object\""]);
    check(
        "modelName: m, rules: [{ targetModels: [{}] }]",
        &["spec.rules[0].targetModels[0]: Invalid value: \"object\""],
    );
}

#[test]
fn the_model_name_stays_unless_it_is_removed_first() {
    let route =
        |spec: &str| -> ModelRoute { defaulted(&format!("spec: {{ {spec} loraAdapters: [a], rules: [] }}")) };
    let check = |old: &str, new: &str, expected: &[&str]| {
        assert_eq!(
            in_short(&route(new).check_rules(Some(&route(old)))),
            expected,
            "{old} → {new}"
        );
    };
    check("modelName: a,", "modelName: a,", &[]);
    check("modelName: a,", "", &[]);
    check("", "modelName: b,", &[]);
    check(
        "modelName: a,",
        "modelName: b,",
        &["spec.modelName: Invalid value: \"b\""],
    );
}
