//! What the tests of several modules share.

use serde_json::{Value, json};

use crate::{
    admission::{Object, decode},
    schema,
};

/// YAML as JSON.
#[track_caller]
pub(crate) fn yaml(text: &str) -> Value {
    crate::yaml::read(text)
        .expect("the test's YAML is well-formed")
        .remove(0)
}

/// An object called `it` with this spec, or another `metadata` where the YAML has one beside `spec`.
#[track_caller]
pub(crate) fn object<K: Object>(text: &str) -> Value {
    let mut object = json!({
        "apiVersion": K::KIND.api_version(),
        "kind": K::KIND.name(),
        "metadata": { "name": "it" },
    });
    for (name, value) in yaml(text).as_object().expect("a map") {
        object[name.as_str()] = value.clone();
    }
    object
}

/// The object as its type, with the defaults of the schema.
#[track_caller]
pub(crate) fn defaulted<K: Object>(text: &str) -> K {
    let mut object = object::<K>(text);
    schema::apply_defaults(K::KIND, &mut object);
    decode(object).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What the webhook says, without the details: `spec.replicas: Invalid value: -1`.
#[track_caller]
pub(crate) fn problems<K: Object>(text: &str) -> Vec<String> {
    in_short(&defaulted::<K>(text).validate())
}

/// Errors without their details.
pub(crate) fn in_short(errors: &[crate::field::FieldError]) -> Vec<String> {
    errors
        .iter()
        .map(|error| {
            crate::field::FieldError {
                detail: String::new(),
                ..error.clone()
            }
            .to_string()
        })
        .collect()
}
