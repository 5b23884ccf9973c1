//! Fields that a schema does not have.

use serde_json::Value;

use super::{is_meta, of_member, preserves_unknown_fields};
use crate::field::FieldPath;

pub(super) fn unknown_fields(object: &Value, schema: &Value, path: &FieldPath, paths: &mut Vec<FieldPath>) {
    let Some(members) = object.as_object() else { return };
    for (name, member) in members.iter().filter(|(name, _)| !is_meta(name)) {
        find(name, member, schema, path, paths);
    }
}

fn find(name: &str, member: &Value, schema: &Value, path: &FieldPath, paths: &mut Vec<FieldPath>) {
    let is_entry = schema.get("additionalProperties").is_some();
    let path = if is_entry {
        path.key(name)
    } else {
        path.child(name)
    };
    match of_member(schema, name) {
        Some(schema) => descend(member, schema, &path, paths),
        None => paths.push(path),
    }
}

fn descend(value: &Value, schema: &Value, path: &FieldPath, paths: &mut Vec<FieldPath>) {
    if preserves_unknown_fields(schema) {
        return;
    }
    match (value, schema.get("items")) {
        (Value::Object(members), _) => {
            for (name, member) in members {
                find(name, member, schema, path, paths);
            }
        }
        (Value::Array(items), Some(schema)) => {
            for (index, item) in items.iter().enumerate() {
                descend(item, schema, &path.index(index), paths);
            }
        }
        _ => {}
    }
}

pub(super) fn prune_object(object: &mut Value, schema: &Value) {
    let Some(members) = object.as_object_mut() else {
        return;
    };
    members.retain(|name, _| is_meta(name) || of_member(schema, name).is_some());
    for (name, member) in members.iter_mut().filter(|(name, _)| !is_meta(name)) {
        if let Some(schema) = of_member(schema, name) {
            prune(member, schema);
        }
    }
}

fn prune(value: &mut Value, schema: &Value) {
    if preserves_unknown_fields(schema) {
        return;
    }
    match (value, schema.get("items")) {
        (Value::Object(members), _) => {
            members.retain(|name, _| of_member(schema, name).is_some());
            for (name, member) in members {
                if let Some(schema) = of_member(schema, name) {
                    prune(member, schema);
                }
            }
        }
        (Value::Array(items), Some(schema)) => items.iter_mut().for_each(|item| prune(item, schema)),
        _ => {}
    }
}
