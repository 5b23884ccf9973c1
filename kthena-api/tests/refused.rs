//! Objects that are refused, each by the step that an API server would refuse it in.
//!
//! `tests/tests/api.rs` asks a real API server about the same objects.

mod common;

use common::{here, read, yaml_files};
use kthena_api::{
    AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing,
    admission::{self, Object},
    crd::Kind,
    schema,
};
use serde_json::Value;

/// Which step refuses an object.
fn refused_by(kind: Kind, mut object: Value) -> &'static str {
    if !schema::unknown_fields(kind, &object).is_empty() {
        return "fields";
    }
    schema::apply_defaults(kind, &mut object);
    if !schema::check(kind, &object).is_empty() {
        return "schema";
    }
    match kind {
        Kind::ModelServing => by_type::<ModelServing>(object),
        Kind::ModelBooster => by_type::<ModelBooster>(object),
        Kind::AutoscalingPolicy => by_type::<AutoscalingPolicy>(object),
        Kind::ModelRoute => by_type::<ModelRoute>(object),
        Kind::ModelServer => by_type::<ModelServer>(object),
        Kind::ExternalModelProvider => by_type::<ExternalModelProvider>(object),
    }
}

fn by_type<K: Object>(object: Value) -> &'static str {
    let object: K = admission::decode(object).expect("the schema describes the type");
    if !object.check_rules(None).is_empty() {
        "rules"
    } else if !object.validate().is_empty() {
        "webhook"
    } else {
        "nobody"
    }
}

#[test]
fn each_object_is_refused_by_its_step() {
    let mut count = 0;
    for path in yaml_files(&here("tests/refused")) {
        for object in read(&path) {
            let kind = Kind::of(&object).expect("an object of ours");
            let name = object["metadata"]["name"].clone();
            // The bounds of the scale subresource are checked with the webhook's checks here.
            let expected = match object["metadata"]["annotations"]["refused-by"].as_str() {
                Some("scale") => "webhook".to_owned(),
                by => by.expect("the annotation refused-by").to_owned(),
            };
            assert!(
                admission::review(&object).is_some_and(|errors| !errors.is_empty()),
                "{kind:?} {name}"
            );
            assert_eq!(refused_by(kind, object), expected, "{kind:?} {name}");
            count += 1;
        }
    }
    assert_eq!(count, 105);
}
