//! Types, bounds, patterns, enumerations, required fields and unique keys.

use std::{cell::RefCell, collections::HashMap};

use k8s_openapi::jiff::Timestamp;
use regex::Regex;
use serde_json::{Map, Value};

use super::{is_meta, of_member};
use crate::{
    field::{FieldError, FieldPath},
    pattern, url,
};

/// Checks an object as a whole.
pub(super) fn object(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(members) = value.as_object() else {
        errors.push(wrong_type(path, value, "object"));
        return;
    };
    required(members, schema, path, errors);
    for (name, member) in members.iter().filter(|(name, _)| !is_meta(name)) {
        if let Some(schema) = of_member(schema, name) {
            node(member, schema, &path.child(name), errors);
        }
    }
}

fn node(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let int_or_string = schema.get("x-kubernetes-int-or-string").is_some();
    let type_ = if int_or_string {
        "integer or string"
    } else {
        text(schema, "type").unwrap_or_default()
    };
    if !is_of_type(value, type_) {
        errors.push(wrong_type(path, value, type_));
        return;
    }
    enumeration(value, schema, path, errors);
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(_) => number(value, schema, path, errors),
        Value::String(text) => string(text, schema, path, errors),
        Value::Array(items) => array(items, schema, path, errors),
        Value::Object(members) => map(members, schema, path, errors),
    }
}

fn text<'a>(schema: &'a Value, keyword: &str) -> Option<&'a str> {
    schema.get(keyword).and_then(Value::as_str)
}

fn limit(schema: &Value, keyword: &str) -> Option<usize> {
    schema
        .get(keyword)
        .and_then(Value::as_u64)
        .and_then(|limit| usize::try_from(limit).ok())
}

fn wrong_type(path: &FieldPath, value: &Value, type_: &str) -> FieldError {
    FieldError::invalid(path.clone(), value.clone(), format!("must be of type {type_}"))
}

fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn is_of_type(value: &Value, type_: &str) -> bool {
    match type_ {
        "integer or string" => is_integer(value) || value.is_string(),
        "integer" => is_integer(value),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => true,
    }
}

fn enumeration(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(values) = schema.get("enum").and_then(Value::as_array) else {
        return;
    };
    if !values.contains(value) {
        let supported: Vec<_> = values.iter().filter_map(Value::as_str).collect();
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        errors.push(FieldError::unsupported(path.clone(), shown, &supported));
    }
}

fn number(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut refuse = |detail: String| errors.push(FieldError::invalid(path.clone(), value.clone(), detail));
    let Some(number) = value.as_f64() else { return };
    let bits = match text(schema, "format") {
        Some("int32") => Some((32, f64::from(i32::MIN)..=f64::from(i32::MAX))),
        Some("int64") => Some((64, i64::MIN as f64..=i64::MAX as f64)),
        _ => None,
    };
    if let Some((bits, _)) = bits.filter(|(_, range)| !range.contains(&number)) {
        refuse(format!("must be an integer of {bits} bits"));
    }
    for (keyword, relation) in [("minimum", "greater"), ("maximum", "less")] {
        let Some(bound) = schema.get(keyword).and_then(Value::as_f64) else {
            continue;
        };
        let fits = if keyword == "minimum" {
            number >= bound
        } else {
            number <= bound
        };
        if !fits {
            refuse(format!("must be {relation} than or equal to {bound}"));
        }
    }
}

fn string(text: &str, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let length = text.chars().count();
    if let Some(max) = limit(schema, "maxLength").filter(|max| length > *max) {
        errors.push(FieldError::too_long(path.clone(), max));
    }
    let mut refuse = |detail: String| errors.push(FieldError::invalid(path.clone(), text, detail));
    if let Some(min) = limit(schema, "minLength").filter(|min| length < *min) {
        refuse(format!("must be at least {min} characters long"));
    }
    if let Some(pattern) = self::text(schema, "pattern").filter(|pattern| !matches(pattern, text)) {
        refuse(format!("must match {pattern}"));
    }
    match self::text(schema, "format") {
        Some("uri") if !url::is_request_uri(text) => refuse("must be a URI".to_owned()),
        Some("date-time") if text.parse::<Timestamp>().is_err() => {
            refuse("must be a point in time such as 2006-01-02T15:04:05Z".to_owned());
        }
        _ => {}
    }
}

/// Whether a text matches one of the few patterns that the CRDs contain.
fn matches(pattern: &str, text: &str) -> bool {
    thread_local! {
        static COMPILED: RefCell<HashMap<String, Option<Regex>>> = RefCell::default();
    }
    COMPILED.with_borrow_mut(|compiled| {
        if !compiled.contains_key(pattern) {
            compiled.insert(pattern.to_owned(), pattern::compile(pattern).ok());
        }
        compiled
            .get(pattern)
            .and_then(Option::as_ref)
            .is_some_and(|regex| regex.is_match(text))
    })
}

fn array(items: &[Value], schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(max) = limit(schema, "maxItems").filter(|max| items.len() > *max) {
        errors.push(FieldError::too_many(path.clone(), items.len(), max));
    }
    if let Some(min) = limit(schema, "minItems").filter(|min| items.len() < *min) {
        let detail = format!("must have at least {min} items");
        errors.push(FieldError::invalid(path.clone(), items.len(), detail));
    }
    if let Some(schema) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            node(item, schema, &path.index(index), errors);
        }
    }
    match text(schema, "x-kubernetes-list-type") {
        Some("set") => unique(items, |item| item.clone(), path, errors),
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
            unique(items, |item| key_of(item, &keys), path, errors);
        }
        _ => {}
    }
}

fn key_of(item: &Value, keys: &[&str]) -> Value {
    let members = keys
        .iter()
        .filter_map(|&key| Some((key.to_owned(), item.get(key)?.clone())));
    Value::Object(members.collect())
}

/// Reports the second of several equal keys.
fn unique(items: &[Value], key: impl Fn(&Value) -> Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let mut seen: HashMap<String, u32> = HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let mut key = key(item);
        key.sort_all_objects();
        let times = seen.entry(key.to_string()).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(path.index(index), key));
        }
    }
}

fn map(members: &Map<String, Value>, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if let Some(max) = limit(schema, "maxProperties").filter(|max| members.len() > *max) {
        errors.push(FieldError::too_many(path.clone(), members.len(), max));
    }
    if let Some(min) = limit(schema, "minProperties").filter(|min| members.len() < *min) {
        let detail = format!("must have at least {min} entries");
        errors.push(FieldError::invalid(path.clone(), members.len(), detail));
    }
    required(members, schema, path, errors);
    let is_map = schema.get("additionalProperties").is_some();
    for (name, member) in members {
        if let Some(schema) = of_member(schema, name) {
            let path = if is_map { path.key(name) } else { path.child(name) };
            node(member, schema, &path, errors);
        }
    }
}

fn required(members: &Map<String, Value>, schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let names = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for name in names
        .filter_map(Value::as_str)
        .filter(|&name| !members.contains_key(name))
    {
        errors.push(FieldError::required(path.child(name), ""));
    }
}
