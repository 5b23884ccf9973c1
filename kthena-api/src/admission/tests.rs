use super::*;
use crate::testing::{in_short, object, yaml};

#[track_caller]
fn refused<K: Object + std::fmt::Debug>(text: &str) -> Vec<String> {
    in_short(&admit::<K>(object::<K>(text), None).expect_err("the object is refused"))
}

const ROUTE: &str = "spec: { modelName: m, rules: [] }";

#[test]
fn an_object_comes_out_with_all_its_defaults() {
    let text = "spec: { metrics: [{ name: m, targetValue: 10.0 }], homogeneousTarget: \
                { minReplicas: 1, maxReplicas: 2, target: { targetRef: { name: s } } } }";
    let policy: AutoscalingPolicy = admit(object::<AutoscalingPolicy>(text), None).unwrap();
    assert_eq!(policy.spec.tolerance_percent, Some(10), "by the schema");
    assert!(policy.spec.behavior.is_some(), "by the webhook");
    assert_eq!(
        policy.spec.metrics[0].target_value,
        10.into(),
        "a whole number is an integer"
    );
}

#[test]
fn an_object_is_of_the_kind_it_is_taken_for() {
    let object = object::<ModelServer>("spec: {}");
    assert_eq!(
        in_short(&admit::<ModelRoute>(object, None).unwrap_err()),
        ["kind: Invalid value: \"ModelServer\""]
    );
    assert_eq!(
        in_short(&admit::<ModelRoute>(yaml("a: b"), None).unwrap_err()),
        ["apiVersion: Invalid value: null", "kind: Invalid value: null",]
    );
    assert_eq!(
        in_short(&admit::<ModelRoute>(Value::Null, None).unwrap_err()).len(),
        2
    );
}

#[test]
fn a_misspelt_field_is_refused() {
    assert_eq!(
        refused::<ModelRoute>("spec: { modelNmae: m, rules: [] }"),
        ["spec.modelNmae: Unknown field"]
    );
}

#[test]
fn metadata_is_checked_too() {
    assert_eq!(
        refused::<ModelRoute>(&format!("metadata: {{}}\n{ROUTE}")),
        ["metadata.name: Required value"]
    );
    assert_eq!(
        refused::<ModelRoute>(&format!(
            "metadata: {{ name: A, namespace: b.c, labels: {{ a@: b, c: d e }}, annotations: {{ f: any thing, g: 1 }} }}\n{ROUTE}"
        )),
        [
            "metadata.name: Invalid value: \"A\"",
            "metadata.namespace: Invalid value: \"b.c\"",
            "metadata.labels: Invalid value: \"a@\"",
            "metadata.labels[c]: Invalid value: \"d e\"",
            "metadata.annotations: Invalid value: {\"f\":\"any thing\",\"g\":1}",
        ]
    );
}

#[test]
fn the_schema_speaks_before_the_rules_and_the_rules_before_the_webhook() {
    let engine = "inferenceEngine: vLLM, workloadPort: { port: 1 }";
    assert_eq!(
        refused::<ModelServer>(&format!("spec: {{ {engine}, model: 1 }}")),
        ["spec.model: Invalid value: 1"]
    );
    assert_eq!(
        refused::<ModelServer>(&format!("spec: {{ {engine} }}")),
        ["spec: Invalid value: \"object\""]
    );
    assert_eq!(
        refused::<ModelServer>(&format!("spec: {{ {engine}, workloadSelector: {{}} }}")),
        ["spec.workloadSelector.matchLabels: Required value",]
    );
}

#[test]
fn an_update_is_compared_to_what_was_there() {
    let old: ModelRoute = admit(object::<ModelRoute>(ROUTE), None).unwrap();
    let new = object::<ModelRoute>("spec: { modelName: other, rules: [] }");
    assert!(admit::<ModelRoute>(new.clone(), None).is_ok());
    assert_eq!(
        in_short(&admit(new, Some(&old)).unwrap_err()),
        ["spec.modelName: Invalid value: \"other\""]
    );
}

#[test]
fn a_decoder_says_where_it_failed() {
    let object = object::<AutoscalingPolicy>("spec: { tolerancePercent: '10' }");
    assert_eq!(
        in_short(&decode::<AutoscalingPolicy>(object).unwrap_err()),
        ["spec.tolerancePercent: Invalid value: \"10\"",]
    );
}

#[test]
fn review_knows_the_kinds() {
    assert_eq!(review(&object::<ModelRoute>(ROUTE)), Some(Vec::new()));
    assert_eq!(
        review(&object::<ModelRoute>("spec: { rules: [] }")).map(|errors| errors.len()),
        Some(1)
    );
    assert_eq!(review(&yaml("{ apiVersion: v1, kind: Pod }")), None);
    assert_eq!(review(&Value::Null), None);
}
