//! Members of a request body, with the validator's objections where they have the wrong type.

use serde_json::{Map, Value};

use super::ApiError;

/// The body, to take members from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A member that is there and not null.
    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn required(self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| {
            let input = format!("<dict of {} items>", self.0.len());
            ApiError::schema("missing", &location(name), "Field required", &input, None)
        })
    }

    pub(crate) fn text(self, name: &str) -> Result<Option<&'a str>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| wrong(name, value, "string_type", "Input should be a valid string"))
    }

    pub(crate) fn flag(self, name: &str) -> Result<bool, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(false);
        };
        value
            .as_bool()
            .ok_or_else(|| wrong(name, value, "bool_type", "Input should be a valid boolean"))
    }

    pub(crate) fn integer(self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let whole = |f: f64| (f.fract() == 0.0 && f.abs() < 9e15).then_some(f as i64);
        let number = value.as_i64().or_else(|| value.as_f64().and_then(whole));
        let number = number.or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        match (number, value) {
            (Some(number), _) => Ok(Some(number)),
            (None, Value::String(_)) => Err(wrong(
                name,
                value,
                "int_parsing",
                "Input should be a valid integer, unable to parse string as an integer",
            )),
            (None, _) => Err(wrong(name, value, "int_type", "Input should be a valid integer")),
        }
    }

    pub(crate) fn number(self, name: &str) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_f64()
            .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()));
        number
            .map(Some)
            .ok_or_else(|| wrong(name, value, "float_type", "Input should be a valid number"))
    }

    /// One string or a list of them.
    pub(crate) fn texts(self, name: &str) -> Result<Vec<String>, ApiError> {
        match self.get(name) {
            None => Ok(Vec::new()),
            Some(Value::String(text)) => Ok(vec![text.clone()]),
            Some(Value::Array(list)) => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .ok_or_else(|| {
                    wrong(
                        name,
                        &self.0[name],
                        "string_type",
                        "Input should be a valid string",
                    )
                }),
            Some(other) => Err(wrong(
                name,
                other,
                "string_type",
                "Input should be a valid string",
            )),
        }
    }

    pub(crate) fn array(self, name: &str) -> Result<Option<&'a [Value]>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_array() {
            Some(list) => Ok(Some(list)),
            None => Err(wrong(name, value, "list_type", "Input should be a valid list")),
        }
    }

    pub(crate) fn object(self, name: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.as_object() {
            Some(object) => Ok(Some(object)),
            None => Err(wrong(
                name,
                value,
                "dict_type",
                "Input should be a valid dictionary",
            )),
        }
    }
}

/// A member of the wrong type.
pub(crate) fn wrong(name: &str, value: &Value, kind: &str, message: &str) -> ApiError {
    ApiError::schema(kind, &location(name), message, &shown(value), None)
}

fn location(name: &str) -> String {
    format!("body.{name}")
}

/// A value in a validator's message.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("<list of {} items>", list.len()),
        Value::Object(object) => format!("<dict of {} items>", object.len()),
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// A scalar as Python prints it.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
