use crate::{
    ModelServing,
    admission::decode,
    testing::{defaulted, in_short, object, problems},
    validation::Validate as _,
};

/// A ModelServing with one role `r`, more of the spec, and more of the role.
fn serving(spec: &str, role: &str) -> String {
    format!(
        "spec: {{ {spec} template: {{ roles: [{{ name: r, entryTemplate: {{ spec: {{ containers: [] }} }}, {role} }}] }} }}"
    )
}

#[track_caller]
fn check(spec: &str, role: &str, expected: &[&str]) {
    assert_eq!(
        problems::<ModelServing>(&serving(spec, role)),
        expected,
        "{spec} / {role}"
    );
}

const ROLLOUT: &str = "spec.rolloutStrategy.rollingUpdateConfiguration";
const ROLE: &str = "spec.template.roles[0]";

#[track_caller]
fn check_group(configuration: &str, replicas: i32, expected: &[&str]) {
    let spec = format!(
        "replicas: {replicas}, rolloutStrategy: {{ rollingUpdateConfiguration: {{ {configuration} }} }},"
    );
    let expected: Vec<_> = expected.iter().map(|it| it.replace('$', ROLLOUT)).collect();
    assert_eq!(
        problems::<ModelServing>(&serving(&spec, "")),
        expected,
        "{configuration}"
    );
}

#[track_caller]
fn check_role(role: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|it| it.replace('$', ROLE)).collect();
    let text = serving("rolloutStrategy: { type: RoleRollingUpdate },", role);
    assert_eq!(problems::<ModelServing>(&text), expected, "{role}");
}

#[test]
fn a_minimal_object_passes() {
    check("", "", &[]);
    check("", "workerTemplate: { spec: { containers: [] } }", &[]);
}

#[test]
fn names_leave_room_for_ordinals() {
    let problems = |length: usize| {
        let name = "n".repeat(length);
        let text = format!("metadata: {{ name: {name} }}\n{}", serving("", ""));
        problems::<ModelServing>(&text)
    };
    assert_eq!(problems(55), [""; 0]);
    assert_eq!(
        problems(56),
        [format!("metadata.name: Invalid value: {:?}", "n".repeat(56))]
    );
}

#[test]
fn names_of_services_begin_with_a_letter_and_have_no_dots() {
    for name in ["qwen2.5", "4o", "PD-sample"] {
        let text = format!("metadata: {{ name: {name:?} }}\n{}", serving("", ""));
        assert_eq!(
            problems::<ModelServing>(&text),
            [format!("metadata.name: Invalid value: {name:?}")]
        );
    }
    let text = format!("metadata: {{ generateName: qwen- }}\n{}", serving("", ""));
    assert_eq!(problems::<ModelServing>(&text), [""; 0]);
}

#[test]
fn role_names_are_labels_which_may_begin_with_a_digit() {
    let problems =
        |name: &str| problems::<ModelServing>(&serving("", "").replace("name: r", &format!("name: {name}")));
    assert_eq!(problems("405b"), [""; 0]);
    let both = |name: &str| {
        vec![
            "metadata.name: Invalid value: \"it\"".to_owned(),
            format!("spec.template.roles[0].name: Invalid value: {name:?}"),
        ]
    };
    assert_eq!(problems("Prefill"), both("Prefill"));
    assert_eq!(problems("a.b"), both("a.b"));
    assert_eq!(
        problems("role-"),
        ["spec.template.roles[0].name: Invalid value: \"role-\""]
    );
}

#[test]
fn images_have_no_spaces() {
    let template = |image: &str| {
        format!("{{ spec: {{ containers: [{{ name: a }}, {{ name: b, image: {image:?} }}] }} }}")
    };
    for image in ["", "vllm:latest", "a\tb"] {
        check("", &format!("workerTemplate: {}", template(image)), &[]);
    }
    for image in ["a b", " ", "\t", "a "] {
        let shown = serde_json::to_string(image).unwrap();
        let path = "spec.template.roles[0].workerTemplate.spec.containers[1].image";
        check(
            "",
            &format!("workerTemplate: {}", template(image)),
            &[&format!("{path}: Invalid value: {shown}")],
        );
    }
    let text = serving("", "").replace("{ spec: { containers: [] } }", &template("a b"));
    let path = "spec.template.roles[0].entryTemplate.spec.containers[1].image";
    assert_eq!(
        problems::<ModelServing>(&text),
        [format!("{path}: Invalid value: \"a b\"")]
    );
}

#[test]
fn missing_replicas_are_reported_where_no_default_was_filled_in() {
    let object: ModelServing = decode(object::<ModelServing>(&serving("", ""))).unwrap();
    assert_eq!(
        in_short(&object.validate()),
        [
            "spec.replicas: Invalid value: null",
            "spec.template.roles[0].replicas: Invalid value: null"
        ]
    );
    let text = "spec: { replicas: -1, template: { roles: [] } }";
    assert_eq!(
        problems::<ModelServing>(text),
        [
            "spec.replicas: Invalid value: -1",
            "spec.template.roles: Invalid value: []"
        ]
    );
    check(
        "",
        "replicas: -1",
        &[
            "metadata.name: Invalid value: \"it\"",
            "spec.template.roles[0].replicas: Invalid value: -1",
        ][1..],
    );
}

#[test]
fn some_group_must_be_replaceable() {
    check_group("", 3, &[]);
    check_group("maxUnavailable: 4", 3, &[]);
    check_group("maxUnavailable: 34%", 3, &[]);
    check_group("maxUnavailable: 30%", 3, &["$: Invalid value: \"\""]);
    check_group("maxUnavailable: 50%", 0, &["$: Invalid value: \"\""]);
    check_group("maxUnavailable: 1", 0, &[]);
    check_group("maxUnavailable: 0", 3, &["$: Invalid value: \"\""]);
    check_group("maxUnavailable: -1", 3, &["$.maxUnavailable: Invalid value: -1"]);
    check_group(
        "maxUnavailable: 110%",
        3,
        &["$.maxUnavailable: Invalid value: \"110%\""],
    );
    check_group(
        "maxUnavailable: 3000000000",
        3,
        &["$.maxUnavailable: Invalid value: 3000000000"],
    );
    check_group(
        "maxUnavailable: invalid",
        3,
        &["$.maxUnavailable: Invalid value: \"invalid\""; 2],
    );
    check_group(
        "maxUnavailable: '1'",
        3,
        &["$.maxUnavailable: Invalid value: \"1\""; 2],
    );
}

#[test]
fn a_surge_may_stand_in_for_unavailable_groups() {
    for surge in ["1", "100%", "34%", "0", "5"] {
        check_group(&format!("maxSurge: {surge}"), 3, &[]);
    }
    check_group("maxUnavailable: 0, maxSurge: 1", 3, &[]);
    check_group("maxUnavailable: 0, maxSurge: 1%", 3, &[]);
    check_group("maxUnavailable: 0, maxSurge: 0", 3, &["$: Invalid value: \"\""]);
    check_group("maxSurge: -1", 3, &["$.maxSurge: Invalid value: -1"]);
    check_group("maxSurge: 110%", 3, &["$.maxSurge: Invalid value: \"110%\""]);
    check_group("maxSurge: x", 3, &["$.maxSurge: Invalid value: \"x\""]);
}

#[test]
fn a_partition_may_be_any_count_or_percentage() {
    for partition in ["3", "5", "50%", "0", "0%", "100%"] {
        check_group(&format!("partition: {partition}"), 3, &[]);
    }
    check_group("partition: -1", 3, &["$.partition: Invalid value: -1"]);
    check_group("partition: 110%", 3, &["$.partition: Invalid value: \"110%\""]);
    check_group("partition: x", 3, &["$.partition: Invalid value: \"x\""]);
}

#[test]
fn groups_have_no_limits_where_roles_are_replaced() {
    check(
        "rolloutStrategy: { type: RoleRollingUpdate, rollingUpdateConfiguration: { maxUnavailable: x } },",
        "",
        &["spec.rolloutStrategy.rollingUpdateConfiguration: Forbidden"],
    );
}

#[test]
fn a_roles_limits_count_where_roles_are_replaced() {
    check("", "maxUnavailable: 1", &[]);
    check("", "maxUnavailable: garbage", &[]);
    check(
        "",
        "partition: 0",
        &["spec.template.roles[0].partition: Forbidden"],
    );
    check(
        "",
        "partition: 110%",
        &[
            "spec.template.roles[0].partition: Invalid value: \"110%\"",
            "spec.template.roles[0].partition: Forbidden",
        ],
    );
    check_role("replicas: 3, partition: 5", &[]);
    check_role("replicas: 3, maxUnavailable: 3", &[]);
    check_role(
        "replicas: 3, maxUnavailable: 4",
        &["$.maxUnavailable: Invalid value: 4"],
    );
    check_role(
        "replicas: 3, maxUnavailable: 0%",
        &["$.maxUnavailable: Invalid value: \"0%\""],
    );
    check_role(
        "replicas: 3, maxUnavailable: -1",
        &["$.maxUnavailable: Invalid value: -1"],
    );
    check_role(
        "replicas: 3, maxUnavailable: x",
        &["$.maxUnavailable: Invalid value: \"x\""; 2],
    );
    check_role(
        "replicas: 3, maxUnavailable: 200%",
        &["$.maxUnavailable: Invalid value: \"200%\""; 2],
    );
}

#[test]
fn a_role_cannot_be_at_zero_where_roles_are_replaced() {
    check_role("replicas: 0", &["$.maxUnavailable: Invalid value: 1"]);
    check_role(
        "replicas: 0, maxUnavailable: 100%",
        &["$.maxUnavailable: Invalid value: \"100%\""],
    );
}

#[test]
fn gangs_are_made_of_roles_and_their_replicas() {
    let check = |policy: &str, expected: &[&str]| {
        let text = serving("", "replicas: 2")
            .replace("template: {", &format!("template: {{ gangPolicy: {policy}, "));
        let prefix = "spec.template.gangPolicy.minRoleReplicas";
        let expected: Vec<_> = expected.iter().map(|it| format!("{prefix}{it}")).collect();
        // Only the first `template:` is that of the spec; the pod templates are called otherwise.
        assert_eq!(problems::<ModelServing>(&text), expected, "{policy}");
    };
    check("{}", &[]);
    check("{ minRoleReplicas: {} }", &[]);
    check("{ minRoleReplicas: { r: 2 } }", &[]);
    check("{ minRoleReplicas: { x: 1 } }", &["[x]: Invalid value: \"x\""]);
    check("{ minRoleReplicas: { r: 10 } }", &["[r]: Invalid value: 10"]);
    check("{ minRoleReplicas: { r: -1 } }", &["[r]: Invalid value: -1"]);
    check(
        "{ minRoleReplicas: { z: 1, b: 1 } }",
        &["[b]: Invalid value: \"b\"", "[z]: Invalid value: \"z\""],
    );
}

#[test]
fn workers_need_a_template() {
    check(
        "",
        "workerReplicas: 1",
        &["spec.template.roles[0].workerTemplate: Required value"],
    );
    check("", "workerReplicas: 1, workerTemplate: {}", &[]);
    check(
        "",
        "workerReplicas: -1",
        &["spec.template.roles[0].workerReplicas: Invalid value: -1"],
    );
}

#[test]
fn one_pair_of_recovery_and_rollout_is_refused() {
    let path = "spec.rolloutStrategy.type";
    for recovery in ["ServingGroupRecreate", "RoleRecreate", "None"] {
        for rollout in ["ServingGroupRollingUpdate", "RoleRollingUpdate"] {
            let spec = format!("recoveryPolicy: {recovery}, rolloutStrategy: {{ type: {rollout} }},");
            let refused = recovery == "ServingGroupRecreate" && rollout == "RoleRollingUpdate";
            let expected = [format!("{path}: Invalid value: \"RoleRollingUpdate\"")];
            let expected: Vec<_> = expected.iter().filter(|_| refused).map(String::as_str).collect();
            check(&spec, "", &expected);
        }
    }
}

#[test]
fn unknown_values_are_read_and_reported() {
    let text = serving(
        "recoveryPolicy: Never, rolloutStrategy: { type: Fast }, plugins: [{ name: p, type: Wasm, scope: { target: All } }, { name: q, scope: { target: Leader } }],",
        "",
    );
    assert_eq!(
        problems::<ModelServing>(&text),
        [
            r#"spec.recoveryPolicy: Unsupported value: "Never": supported values: "ServingGroupRecreate", "RoleRecreate", "None""#,
            r#"spec.rolloutStrategy.type: Unsupported value: "Fast": supported values: "ServingGroupRollingUpdate", "RoleRollingUpdate""#,
            r#"spec.plugins[0].type: Unsupported value: "Wasm": supported values: "BuiltIn""#,
            r#"spec.plugins[1].scope.target: Unsupported value: "Leader": supported values: "All", "Entry", "Worker""#,
        ]
    );
}

#[test]
fn whether_there_is_a_budget_is_yes_or_no() {
    for (value, expected) in [
        ("true", ""),
        ("false", ""),
        (
            "1",
            r#"metadata.annotations[modelserving.volcano.sh/pod-disruption-budget]: Unsupported value: "1": supported values: "true", "false""#,
        ),
    ] {
        let key = "modelserving.volcano.sh/pod-disruption-budget";
        let text = format!(
            "metadata: {{ name: s, annotations: {{ {key}: '{value}' }} }}\n{}",
            serving("", "")
        );
        assert_eq!(problems::<ModelServing>(&text).join("\n"), expected);
    }
}

#[test]
fn role_names_are_unique() {
    let text =
        "spec: { template: { roles: [{ name: a, entryTemplate: {} }, { name: a, entryTemplate: {} }] } }";
    let object: ModelServing = defaulted(text);
    let errors = object.check_rules(None);
    assert_eq!(
        errors[0].to_string(),
        "spec.template.roles: Invalid value: \"array\": roles name must be unique"
    );
}

#[test]
fn a_gang_policy_stays_and_its_numbers_cannot_be_changed_in_one_step() {
    let with = |policy: &str| -> ModelServing {
        defaulted(&serving("", "replicas: 2").replace("template: {", &format!("template: {{ {policy} ")))
    };
    let check = |old: &str, new: &str, expected: &[&str]| {
        assert_eq!(
            in_short(&with(new).check_rules(Some(&with(old)))),
            expected,
            "{old} → {new}"
        );
    };
    let (none, empty) = ("", "gangPolicy: {},");
    let (one, two) = (
        "gangPolicy: { minRoleReplicas: { r: 1 } },",
        "gangPolicy: { minRoleReplicas: { r: 2 } },",
    );
    let removed = ["spec.template: Invalid value: \"object\""];
    let changed = ["spec.template.gangPolicy.minRoleReplicas: Invalid value: \"object\""];
    check(none, one, &[]);
    check(one, one, &[]);
    check(one, empty, &[]);
    check(empty, two, &[]);
    check(one, none, &removed);
    check(empty, none, &removed);
    check(one, two, &changed);
}
