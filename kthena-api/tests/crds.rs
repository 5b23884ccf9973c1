//! The CustomResourceDefinitions: in the charts, and beside the published ones.

mod common;

use std::{collections::BTreeSet, path::PathBuf};

use common::{here, read, shared};
use kthena_api::crd::{self, Kind};
use serde_json::Value;

fn in_the_charts(kind: Kind) -> PathBuf {
    let chart = kind.group().split('.').next().unwrap_or_default();
    here("../charts/kthena/charts")
        .join(chart)
        .join("crds")
        .join(file_name(kind))
}

fn file_name(kind: Kind) -> String {
    format!("{}_{}.yaml", kind.group(), kind.plural())
}

#[test]
fn the_charts_have_the_definitions_of_the_types() {
    for kind in Kind::ALL {
        let path = in_the_charts(kind);
        let documents = read(&path);
        let message = format!("{} is out of date; run `cargo xtask codegen`", path.display());
        assert_eq!(documents.len(), 1, "{message}");
        assert!(&documents[0] == kind.definition(), "{message}");
    }
}

#[test]
fn definitions_are_what_the_types_of_k8s_openapi_hold() {
    for (definition, kind) in crd::all().iter().zip(Kind::ALL) {
        assert_eq!(definition.spec.names.kind, kind.name());
        assert_eq!(definition.spec.names.plural, kind.plural());
        assert_eq!(definition.spec.group, kind.group());
        let mut returned = serde_json::to_value(definition).expect("a definition is JSON");
        kthena_api::schema::integral_numbers(&mut returned);
        assert_eq!(&returned, kind.definition(), "nothing is lost");
    }
}

#[test]
fn no_field_is_nullable_and_every_field_of_ours_is_described() {
    for kind in Kind::ALL {
        let text = kind.definition().to_string();
        for word in ["nullable", "$ref", "oneOf", "allOf", "\"title\"", "uint"] {
            assert!(!text.contains(word), "{} contains {word}", kind.name());
        }
        let properties = kind.schema()["properties"].as_object().expect("properties");
        for (name, schema) in properties.iter().filter(|(name, _)| *name != "metadata") {
            assert!(schema.get("description").is_some(), "{}: {name}", kind.name());
        }
    }
}

#[test]
fn definitions_fit_into_etcd_and_into_an_annotation_of_kubectl() {
    for kind in Kind::ALL {
        let size = kind.definition().to_string().len();
        assert!(size < 256 * 1024, "{}: {size} bytes", kind.name());
    }
}

/// Where ours differ from the published definitions on purpose; each has its reason in docs/compat.md.
const DEVIATIONS: &[(Kind, &str)] = &[
    // No tool's mark.
    (Kind::ModelServing, "/metadata/annotations"),
    (Kind::ModelBooster, "/metadata/annotations"),
    (Kind::AutoscalingPolicy, "/metadata/annotations"),
    (Kind::ModelRoute, "/metadata/annotations"),
    (Kind::ModelServer, "/metadata/annotations"),
    (Kind::ExternalModelProvider, "/metadata/annotations"),
    // An object without spec is refused right away.
    (Kind::ModelServing, "/required"),
    (Kind::ModelBooster, "/required"),
    (Kind::AutoscalingPolicy, "/required"),
    (Kind::ModelServer, "/required"),
    (Kind::ExternalModelProvider, "/required"),
    // Guide 000 leaves workerReplicas out; roles can be shared by several appliers.
    (Kind::ModelServing, "/spec/template/roles[]/required"),
    (
        Kind::ModelServing,
        "/spec/template/roles[]/workerReplicas/default",
    ),
    (
        Kind::ModelServing,
        "/spec/template/roles/x-kubernetes-list-map-keys",
    ),
    (Kind::ModelServing, "/spec/template/roles/x-kubernetes-list-type"),
    (
        Kind::ModelServing,
        "*/ephemeral/volumeClaimTemplate/metadata/properties",
    ),
    // Guide 001 prints these.
    (Kind::ModelBooster, "/status/availableReplicas"),
    (Kind::ModelBooster, "/status/currentReplicas"),
    (Kind::ModelBooster, "/status/replicas"),
    (Kind::ModelBooster, "/status/updatedReplicas"),
    // A rollout may add groups first, and be held.
    (
        Kind::ModelServing,
        "/spec/rolloutStrategy/rollingUpdateConfiguration/maxSurge",
    ),
    (Kind::ModelServing, "/spec/rolloutStrategy/paused"),
    // What a controller that restarts must know.
    (Kind::ModelServing, "/status/establishedGroups"),
    // One enumeration in place of the same one twice.
    (Kind::ModelRoute, "/spec/rateLimit/unit/allOf"),
    (Kind::ModelRoute, "/spec/rateLimit/unit/enum"),
    // A status that says something.
    (Kind::ModelRoute, "/status/properties"),
    (Kind::ModelServer, "/status/properties"),
    // Engines listed by address.
    (Kind::ModelServer, "/spec/endpoints"),
    (Kind::ModelServer, "/spec/required"),
    (Kind::ModelServer, "/spec/x-kubernetes-validations"),
];

#[test]
fn the_published_definitions_are_the_same_but_for_what_is_listed() {
    let Some(folder) = shared("crds-reference") else {
        return;
    };
    let mut found = BTreeSet::new();
    for kind in Kind::ALL {
        let reference = read(&folder.join(file_name(kind))).remove(0);
        let mut differences = Vec::new();
        compare(&reference, kind.definition(), "", &mut differences);
        for path in differences {
            let short = path
                .replace("/spec/versions[]/schema/openAPIV3Schema", "")
                .replace("/properties/", "/")
                .replace("/items/", "[]/");
            let matches = |listed: &str| match listed.strip_prefix('*') {
                Some(end) => short.ends_with(end),
                None => short == listed,
            };
            let listed = DEVIATIONS
                .iter()
                .find(|(of, listed)| *of == kind && matches(listed));
            match listed {
                Some(deviation) => found.insert(*deviation),
                None => panic!("{}: {path}", kind.name()),
            };
        }
    }
    let unused: Vec<_> = DEVIATIONS
        .iter()
        .filter(|deviation| !found.contains(deviation))
        .collect();
    assert!(unused.is_empty(), "no longer true: {unused:?}");
}

/// Paths of nodes that differ, descriptions apart.
fn compare(reference: &Value, ours: &Value, path: &str, differences: &mut Vec<String>) {
    match (reference, ours) {
        (Value::Object(reference), Value::Object(ours)) => {
            let names: BTreeSet<_> = reference.keys().chain(ours.keys()).collect();
            for name in names {
                match (reference.get(name), ours.get(name)) {
                    (Some(Value::String(_)), Some(Value::String(_))) if name == "description" => {}
                    (None, Some(Value::String(_))) | (Some(Value::String(_)), None)
                        if name == "description" => {}
                    (Some(Value::Array(reference)), Some(Value::Array(ours))) if name == "required" => {
                        let set =
                            |names: &[Value]| names.iter().map(Value::to_string).collect::<BTreeSet<_>>();
                        if set(reference) != set(ours) {
                            differences.push(format!("{path}/required"));
                        }
                    }
                    (Some(reference), Some(ours)) => {
                        compare(reference, ours, &format!("{path}/{name}"), differences);
                    }
                    _ => differences.push(format!("{path}/{name}")),
                }
            }
        }
        (Value::Array(reference), Value::Array(ours)) if reference.len() == ours.len() => {
            for (reference, ours) in reference.iter().zip(ours) {
                compare(reference, ours, &format!("{path}[]"), differences);
            }
        }
        _ if reference == ours => {}
        _ => differences.push(path.to_owned()),
    }
}
