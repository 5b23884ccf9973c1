//! Properties of every object that the schemas describe.

mod common;

use std::sync::LazyLock;

use common::{through_type, without_empty};
use kthena_api::{crd::Kind, external, schema};
use proptest::{collection, prelude::*, sample};
use serde_json::{Map, Value, json};

/// Objects of a kind as far as their shape goes; their texts and numbers need not make sense.
fn object(kind: Kind) -> BoxedStrategy<Value> {
    node(kind.schema())
        .prop_map(move |mut object| {
            object["apiVersion"] = kind.api_version().into();
            object["kind"] = kind.name().into();
            object["metadata"] = json!({ "name": "it" });
            object
        })
        .boxed()
}

fn any_kind() -> impl Strategy<Value = (Kind, Value)> {
    proptest::strategy::Union::new(
        Kind::ALL.map(|kind| object(kind).prop_map(move |object| (kind, object)).boxed()),
    )
}

/// Properties of a pod, which our types keep as they are.
static POD: LazyLock<Value> =
    LazyLock::new(|| external::schema("PodSpec").expect("a type that is embedded")["properties"].take());

fn node(schema: &Value) -> BoxedStrategy<Value> {
    if schema["properties"] == *POD {
        return json_object().boxed();
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return prop_oneof![any::<i32>().prop_map(Value::from), text()].boxed();
    }
    if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
        return prop_oneof![text(), any::<bool>().prop_map(Value::from), json_object()].boxed();
    }
    match schema["type"].as_str() {
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("integer") if schema["format"] == "int32" => any::<i32>().prop_map(Value::from).boxed(),
        Some("integer") => any::<i64>().prop_map(Value::from).boxed(),
        Some("string") if schema["format"] == "date-time" => Just(json!("2025-09-29T10:15:30Z")).boxed(),
        Some("string") => match schema["enum"].as_array() {
            Some(values) => prop_oneof![4 => sample::select(values.clone()), 1 => text()].boxed(),
            None => text().boxed(),
        },
        Some("array") => collection::vec(node(&schema["items"]), 0..3)
            .prop_map(Value::from)
            .boxed(),
        Some("object") => members(schema),
        _ => panic!("a schema without type: {schema}"),
    }
}

fn members(schema: &Value) -> BoxedStrategy<Value> {
    if let Some(entries) = schema.get("additionalProperties") {
        let entries = collection::btree_map("[a-z]{1,8}", node(entries), 0..3);
        return entries.prop_map(|entries| entries.into_iter().collect()).boxed();
    }
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let members = properties
        .into_iter()
        .filter(|(name, _)| name != "metadata")
        .map(|(name, schema)| {
            let value = if required.contains(&json!(name)) {
                node(&schema).prop_map(Some).boxed()
            } else {
                proptest::option::of(node(&schema)).boxed()
            };
            value.prop_map(move |value| (name.clone(), value))
        });
    let members: Vec<_> = members.collect();
    members
        .prop_map(|members| {
            members
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect::<Map<_, _>>()
                .into()
        })
        .boxed()
}

fn text() -> impl Strategy<Value = Value> {
    prop_oneof!["[ -~]{0,12}", "\\PC{0,4}"].prop_map(Value::from)
}

fn json_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        text()
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    });
    collection::btree_map("[a-z]{1,4}", value, 0..3).prop_map(|entries| entries.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn types_lose_nothing((kind, object) in any_kind()) {
        let returned = through_type(kind, &object).expect("the types hold whatever the schema describes");
        let schema = kind.schema();
        prop_assert_eq!(without_empty(&returned, schema), without_empty(&object, schema));
    }

    #[test]
    fn defaults_are_filled_in_once((kind, object) in any_kind()) {
        let mut once = object;
        schema::apply_defaults(kind, &mut once);
        let mut twice = once.clone();
        schema::apply_defaults(kind, &mut twice);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn pruning_leaves_nothing_unknown((kind, mut object) in any_kind(), name in "[a-z]{4,8}", value in json_object()) {
        prop_assume!(kind.schema()["properties"]["spec"]["properties"].get(&name).is_none());
        let before = object.clone();
        object["spec"][name.as_str()] = value;
        prop_assert!(!schema::unknown_fields(kind, &object).is_empty());
        schema::prune(kind, &mut object);
        prop_assert!(schema::unknown_fields(kind, &object).is_empty());
        let mut before = before;
        schema::prune(kind, &mut before);
        prop_assert_eq!(object, before);
    }

    #[test]
    fn no_object_is_too_strange_to_be_reviewed((_, object) in any_kind()) {
        prop_assert!(kthena_api::admission::review(&object).is_some());
    }

    #[test]
    fn no_json_is_too_strange_to_be_reviewed(value in json_object(), kind in sample::select(Kind::ALL.to_vec())) {
        let mut object = json!({ "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": value });
        object["spec"] = object["metadata"].clone();
        prop_assert!(kthena_api::admission::review(&object).is_some_and(|errors| !errors.is_empty()));
    }
}
