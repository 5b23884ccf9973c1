//! Counts that may be written as a number or as a percentage.
//!
//! ```
//! use kthena_api::int_or_string::{IntOrString, InvalidPercentage, Round};
//!
//! let share = IntOrString::from("25%");
//! assert_eq!(share.percent()?, Some(25));
//! assert_eq!((share.resolve(10, Round::Up)?, share.resolve(10, Round::Down)?), (3, 2));
//! assert_eq!(IntOrString::from(4).percent()?, None);
//! assert_eq!(IntOrString::from("some").percent(), Err(InvalidPercentage("some".into())));
//! # Ok::<(), InvalidPercentage>(())
//! ```

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number or a percentage such as `"25%"`, kept as it was written.
///
/// ```
/// use kthena_api::int_or_string::{IntOrString, Round};
///
/// assert_eq!(IntOrString::from("34%").resolve(3, Round::Down), Ok(1));
/// assert_eq!(IntOrString::from("34%").resolve(3, Round::Up), Ok(2));
/// assert_eq!(IntOrString::from(5).resolve(3, Round::Down), Ok(5));
/// assert!(IntOrString::from("1").resolve(3, Round::Down).is_err(), "a string is a percentage");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A plain number.
    Int(i64),
    /// A percentage; anything else is reported by validation.
    String(String),
}

/// What to do with the fraction when a percentage is taken of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// To the next larger whole number.
    Up,
    /// To the next smaller whole number.
    Down,
}

/// The text is neither a number nor a percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a percentage such as \"25%\"")]
pub struct InvalidPercentage(pub String);

// === impl IntOrString ===

impl IntOrString {
    /// The percentage, where this is one; `None` for a plain number.
    pub fn percent(&self) -> Result<Option<u64>, InvalidPercentage> {
        match self {
            Self::Int(_) => Ok(None),
            Self::String(text) => parse_percent(text)
                .map(Some)
                .ok_or_else(|| InvalidPercentage(text.clone())),
        }
    }

    /// The number it stands for, out of `total`. A plain number is returned as it is, even if it exceeds `total`.
    pub fn resolve(&self, total: i64, round: Round) -> Result<i64, InvalidPercentage> {
        let percent = match self {
            Self::Int(value) => return Ok(*value),
            Self::String(text) => {
                i128::from(parse_percent(text).ok_or_else(|| InvalidPercentage(text.clone()))?)
            }
        };
        let product = percent * i128::from(total);
        let share = match round {
            Round::Down => product.div_euclid(100),
            Round::Up => -(-product).div_euclid(100),
        };
        Ok(i64::try_from(share).unwrap_or(if share < 0 { i64::MIN } else { i64::MAX }))
    }
}

impl From<i64> for IntOrString {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for IntOrString {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl fmt::Display for IntOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::String(text) => f.write_str(text),
        }
    }
}

impl JsonSchema for IntOrString {
    fn schema_name() -> Cow<'static, str> {
        "IntOrString".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
        })
    }
}

fn parse_percent(text: &str) -> Option<u64> {
    let digits = text.strip_suffix('%')?;
    let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    well_formed.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(value: &str, total: i64, down: i64, up: i64) {
        assert_eq!(IntOrString::from(value).resolve(total, Round::Down), Ok(down));
        assert_eq!(IntOrString::from(value).resolve(total, Round::Up), Ok(up));
    }

    #[test]
    fn percentages_round_in_the_direction_asked_for() {
        check("30%", 3, 0, 1);
        check("34%", 3, 1, 2);
        check("50%", 0, 0, 0);
        check("100%", 3, 3, 3);
        check("0%", 3, 0, 0);
        check("110%", 10, 11, 11);
    }

    #[test]
    fn other_strings_are_no_percentage() {
        for text in [
            "",
            "1",
            "%",
            "-1%",
            "+1%",
            "1.5%",
            "1 %",
            "invalid",
            "99999999999999999999%",
        ] {
            assert_eq!(
                IntOrString::from(text).resolve(3, Round::Up),
                Err(InvalidPercentage(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_and_strings_stay_what_they_were() {
        for json in ["1", "-3", "\"1\"", "\"25%\"", "\"x\""] {
            let value: IntOrString = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
    }

    proptest! {
        #[test]
        fn up_and_down_are_at_most_one_apart(percent: u64, total: i64) {
            let value = IntOrString::String(format!("{percent}%"));
            let (down, up) = (value.resolve(total, Round::Down)?, value.resolve(total, Round::Up)?);
            prop_assert!(up == down || up == down + 1);
        }
    }
}
