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
        let word = match value {
            Value::Bool(flag) => return Ok(*flag),
            Value::String(text) => text.to_ascii_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => return Err(wrong(name, value, "bool_type", "Input should be a valid boolean")),
        };
        match word.as_str() {
            "true" | "1" | "on" | "yes" | "y" | "t" => Ok(true),
            "false" | "0" | "off" | "no" | "n" | "f" => Ok(false),
            _ => {
                let message = "Input should be a valid boolean, unable to interpret input";
                Err(wrong(name, value, "bool_parsing", message))
            }
        }
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
        match (value.as_f64(), value.as_str().map(|text| text.trim().parse())) {
            (Some(number), _) | (_, Some(Ok(number))) => Ok(Some(number)),
            (None, Some(Err(_))) => {
                let message = "Input should be a valid number, unable to parse string as a number";
                Err(wrong(name, value, "float_parsing", message))
            }
            (None, None) => Err(wrong(name, value, "float_type", "Input should be a valid number")),
        }
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

    /// A member that is an object with members of its own.
    pub(crate) fn model(self, name: &str) -> Result<Option<Fields<'a>>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let object = value.as_object().map(|object| Some(Fields(object)));
        object.ok_or_else(|| wrong(name, value, NOT_A_MODEL.0, NOT_A_MODEL.1))
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

/// What the validator says when none of several types fits.
pub(crate) const STRING: (&str, &str) = ("string_type", "Input should be a valid string");
pub(crate) const LIST: (&str, &str) = ("list_type", "Input should be a valid list");
const NOT_A_MODEL: (&str, &str) = (
    "model_attributes_type",
    "Input should be a valid dictionary or object to extract fields from",
);

/// A body that is JSON and no object.
pub(crate) fn not_an_object(value: &Value) -> ApiError {
    ApiError::schema(NOT_A_MODEL.0, "body", NOT_A_MODEL.1, &shown(value), None)
}

/// A member of none of several types.
pub(crate) fn none_of(name: &str, value: &Value, types: &[(&str, &str)]) -> ApiError {
    ApiError::schemas(types, &location(name), &shown(value))
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
