//! What the API server does to an object before and beside admission webhooks, for where there is no API server.
//!
//! The functions walk the schemas of the CRDs, so that a field's default and its bounds stand in one place: the types
//! of this crate. They take and return JSON, because what is to be pruned or defaulted is lost in a typed object.
//!
//! ```
//! use kthena_api::{crd::Kind, schema};
//!
//! let mut object = serde_json::json!({ "spec": { "rules": [], "rateLimit": {}, "modelNmae": "qwen" } });
//! let unknown = schema::unknown_fields(Kind::ModelRoute, &object);
//! assert_eq!(unknown[0].as_str(), "spec.modelNmae");
//! schema::prune(Kind::ModelRoute, &mut object);
//! schema::apply_defaults(Kind::ModelRoute, &mut object);
//! assert_eq!(object, serde_json::json!({ "spec": { "rules": [], "rateLimit": { "unit": "second" } } }));
//! assert!(schema::check(Kind::ModelRoute, &object).is_empty());
//! ```

mod check;
mod default;
mod prune;

use serde_json::Value;

use crate::{
    crd::Kind,
    field::{FieldError, FieldPath},
};

/// Fields that the schema does not have, in the order of their paths. The API server drops them, or refuses the object
/// where the client asks for strict validation, as kubectl does.
pub fn unknown_fields(kind: Kind, object: &Value) -> Vec<FieldPath> {
    let mut paths = Vec::new();
    prune::unknown_fields(object, kind.schema(), &FieldPath::root(), &mut paths);
    paths.sort();
    paths
}

/// Drops the fields that the schema does not have.
pub fn prune(kind: Kind, object: &mut Value) {
    prune::prune_object(object, kind.schema());
}

/// Fills in the defaults of the schema. A default inside an object applies only where the object is there. A null is
/// the same as an absent field.
pub fn apply_defaults(kind: Kind, object: &mut Value) {
    default::drop_nulls(object, kind.schema());
    default::apply(object, kind.schema());
}

/// Writes numbers without a fraction as integers, so that `10.0` is `10`, as kubectl does on the way from YAML.
///
/// ```
/// let mut value = serde_json::json!([10.0, 0.5]);
/// kthena_api::schema::integral_numbers(&mut value);
/// assert_eq!(value, serde_json::json!([10, 0.5]));
/// ```
pub fn integral_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let float = number
                .as_f64()
                .filter(|float| number.is_f64() && float.fract() == 0.0);
            // Beyond 2^53 a float no longer tells which integer was meant.
            if let Some(float) = float.filter(|float| float.abs() <= 9_007_199_254_740_992.0) {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(integral_numbers),
        Value::Object(members) => members.values_mut().for_each(integral_numbers),
        _ => {}
    }
}

/// Checks types, bounds, patterns, enumerations, required fields and unique keys, in the order of the fields' paths.
/// Rules in CEL are not among them; see [`crate::validation`]. `metadata` is not looked at.
pub fn check(kind: Kind, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    check::object(object, kind.schema(), &FieldPath::root(), &mut errors);
    errors.sort_by(|a, b| a.path.cmp(&b.path));
    errors
}

/// The schema of a member, be it named or any member of a map.
fn of_member<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    let named = schema
        .get("properties")
        .and_then(|properties| properties.get(name));
    named.or_else(|| schema.get("additionalProperties"))
}

fn preserves_unknown_fields(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

/// Members of every object that are not the schema's business.
fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

#[cfg(test)]
mod tests;
