//! Defaults, and nulls that stand for absent fields.

use serde_json::{Map, Value};

use super::of_member;

/// Drops nulls that no default replaces. No field of ours may be null.
pub(super) fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, member| {
                let schema = of_member(schema, name);
                !(member.is_null() && schema.is_some_and(|schema| schema.get("default").is_none()))
            });
            for (name, member) in members {
                if let Some(schema) = of_member(schema, name) {
                    drop_nulls(member, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| drop_nulls(item, schema));
            }
        }
        _ => {}
    }
}

pub(super) fn apply(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(members) => {
            for (name, default) in defaults(schema) {
                if members.get(name).is_none_or(Value::is_null) {
                    members.insert(name.clone(), default.clone());
                }
            }
            for (name, member) in members {
                if let Some(schema) = of_member(schema, name) {
                    apply(member, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| apply(item, schema));
            }
        }
        _ => {}
    }
}

fn defaults(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(Map::iter);
    properties.filter_map(|(name, schema)| Some((name, schema.get("default")?)))
}
