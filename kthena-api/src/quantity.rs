//! Amounts as Kubernetes writes them: `10`, `"0.5"`, `500m`, `64Gi`, `1e3`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Number;

/// What a quantity looks like when it is written as a string; the API server checks it.
pub const PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// An amount, kept as it was written: an integer stays an integer, a string keeps its spelling.
///
/// ```
/// use kthena_api::quantity::Quantity;
///
/// let written: Quantity = serde_json::from_str("10")?;
/// assert_eq!(written.to_f64(), Ok(10.0));
/// assert_eq!(serde_json::to_string(&written)?, "10");
/// assert_eq!(Quantity::from("500m").to_f64(), Ok(0.5));
/// assert_eq!(Quantity::from("1Ki").to_f64(), Ok(1024.0));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Quantity {
    /// Written as a JSON number.
    Number(Number),
    /// Written as a JSON string.
    Text(String),
}

/// The text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity; write for example 10, \"0.5\", \"500m\" or \"64Gi\"")]
pub struct InvalidQuantity(pub String);

/// The smallest amount there is; what is below counts as this, as in Kubernetes.
const NANO: f64 = 1e-9;

const SUFFIXES: [(&str, Scale); 14] = [
    ("Ki", Scale::Binary(10)),
    ("Mi", Scale::Binary(20)),
    ("Gi", Scale::Binary(30)),
    ("Ti", Scale::Binary(40)),
    ("Pi", Scale::Binary(50)),
    ("Ei", Scale::Binary(60)),
    ("n", Scale::Decimal(-9)),
    ("u", Scale::Decimal(-6)),
    ("m", Scale::Decimal(-3)),
    ("k", Scale::Decimal(3)),
    ("M", Scale::Decimal(6)),
    ("G", Scale::Decimal(9)),
    ("T", Scale::Decimal(12)),
    ("P", Scale::Decimal(15)),
];

#[derive(Clone, Copy)]
enum Scale {
    Binary(i32),
    Decimal(i32),
}

// === impl Quantity ===

impl Quantity {
    /// The amount as a number; infinite where it is beyond what a float holds.
    pub fn to_f64(&self) -> Result<f64, InvalidQuantity> {
        match self {
            Self::Number(number) => number.as_f64().ok_or_else(|| InvalidQuantity(number.to_string())),
            Self::Text(text) => parse(text),
        }
    }

    /// The amount as a string, which is how the types of k8s-openapi want it.
    ///
    /// ```
    /// use kthena_api::quantity::{InvalidQuantity, Quantity};
    ///
    /// assert_eq!(Quantity::from(10).to_text(), "10");
    /// assert_eq!(Quantity::from("much").to_f64(), Err(InvalidQuantity("much".into())));
    /// ```
    pub fn to_text(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Text(text) => Cow::Borrowed(text),
        }
    }
}

impl From<i64> for Quantity {
    fn from(value: i64) -> Self {
        Self::Number(value.into())
    }
}

impl From<&str> for Quantity {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": PATTERN,
            "x-kubernetes-int-or-string": true,
        })
    }
}

fn parse(text: &str) -> Result<f64, InvalidQuantity> {
    let invalid = || InvalidQuantity(text.to_owned());
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    let number_end = rest
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(number_end);
    let well_formed = number.bytes().any(|b| b.is_ascii_digit()) && number.matches('.').count() <= 1;
    if !well_formed {
        return Err(invalid());
    }
    let magnitude = match scale(suffix).ok_or_else(invalid)? {
        Scale::Binary(exponent) => decimal(number, 0).ok_or_else(invalid)? * f64::powi(2.0, exponent),
        Scale::Decimal(exponent) => decimal(number, exponent).ok_or_else(invalid)?,
    };
    let nonzero = number.bytes().any(|b| (b'1'..=b'9').contains(&b));
    let magnitude = if nonzero { magnitude.max(NANO) } else { 0.0 };
    Ok(sign * magnitude)
}

/// What follows the digits: nothing, one of the suffixes, or an exponent.
fn scale(suffix: &str) -> Option<Scale> {
    if suffix.is_empty() {
        return Some(Scale::Decimal(0));
    }
    if let Some((_, scale)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Some(*scale);
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    if exponent.is_empty() {
        return (suffix == "E").then_some(Scale::Decimal(18));
    }
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // An exponent beyond any float may as well be the largest one.
    let magnitude = digits
        .trim_start_matches('0')
        .get(..6)
        .map_or_else(|| digits.parse().unwrap_or(0), |_| 999_999);
    Some(Scale::Decimal(if exponent.starts_with('-') {
        -magnitude
    } else {
        magnitude
    }))
}

/// `<number>e<exponent>`, rounded once.
fn decimal(number: &str, exponent: i32) -> Option<f64> {
    format!("{number}e{exponent}").parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_notation_is_read() {
        for (text, value) in [
            ("0", 0.0),
            ("10", 10.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("500m", 0.5),
            ("100u", 1e-4),
            ("3n", 3e-9),
            ("2k", 2e3),
            ("1M", 1e6),
            ("1E", 1e18),
            ("1Ei", 1_152_921_504_606_846_976.0),
            ("1.5Gi", 1_610_612_736.0),
            ("1e3", 1e3),
            ("12E2", 12e2),
            ("1e-3", 1e-3),
            ("-2", -2.0),
            ("+2", 2.0),
            ("1e-400", 1e-9),
            ("0e400", 0.0),
            ("1e400", f64::INFINITY),
            ("1e99999999999999999999", f64::INFINITY),
            ("0.1", 0.1),
            ("100m", 0.1),
        ] {
            assert_eq!(Quantity::from(text).to_f64(), Ok(value), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "-", "m", ".", "1.2.3", "1 ", " 1", "1K", "1ki", "1mm", "e3", "1e", "1e+", "abc", "0x10", "١",
        ] {
            assert_eq!(
                Quantity::from(text).to_f64(),
                Err(InvalidQuantity(text.to_owned())),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_and_strings_stay_what_they_were() {
        for json in ["10", "\"10\"", "0", "\"500m\"", "\"not a quantity\"", "0.5"] {
            let quantity: Quantity = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&quantity).unwrap(), json);
        }
    }

    proptest! {
        #[test]
        fn what_the_pattern_allows_is_read(text in r"[+-]?([0-9]{1,6}(\.[0-9]{0,6})?|\.[0-9]{1,6})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,4})?") {
            prop_assert!(Quantity::Text(text).to_f64().is_ok());
        }

        #[test]
        fn any_text_is_handled(text: String) {
            let _ = Quantity::Text(text).to_f64();
        }
    }
}
