//! Durations as Kubernetes writes them: a JSON string in Go's syntax, such as `300ms` or `1h30m`.

use std::{borrow::Cow, fmt, str::FromStr, time};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A duration, kept as the text it was written as.
///
/// The CRD publishes durations as plain strings, so a stored object may hold one that cannot be read. Such an
/// object still decodes; [`Duration::nanos`] and [`Duration::to_std`] tell what is wrong, and validation reports it
/// with its path.
///
/// Units are `ns`, `us` (or `µs`), `ms`, `s`, `m` and `h`; there is no unit for days. A bare `0` needs no unit.
///
/// ```
/// use kthena_api::duration::Duration;
///
/// let hold = Duration::new("1m30s");
/// assert_eq!(hold.to_std()?, std::time::Duration::from_secs(90));
/// assert_eq!(Duration::from(std::time::Duration::from_secs(300)).as_str(), "5m0s");
/// assert!(Duration::new("30").to_std().is_err(), "a number needs a unit");
/// # Ok::<(), kthena_api::duration::InvalidDuration>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// The text is not made of numbers with units.
    #[error("{0:?} is not a duration; write numbers with units, such as \"300ms\" or \"1h30m\"")]
    Syntax(String),
    /// A number has no unit.
    #[error("duration {0:?} lacks a unit; write for example \"30s\"")]
    MissingUnit(String),
    /// A unit is not one of `ns`, `us`, `ms`, `s`, `m`, `h`.
    #[error("duration {text:?} has the unknown unit {unit:?}; use ns, us, ms, s, m or h")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The part that is no unit.
        unit: String,
    },
    /// More than about 292 years.
    #[error("duration {0:?} is out of range")]
    OutOfRange(String),
    /// Below zero where only zero and more make sense.
    #[error("duration {0:?} is negative")]
    Negative(String),
}

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, micro sign
    ("μs", 1_000), // U+03BC, Greek letter mu
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

// === impl Duration ===

impl Duration {
    /// A duration with this text, whether it can be read or not.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A duration in nanoseconds, in canonical form.
    ///
    /// ```
    /// use kthena_api::duration::Duration;
    ///
    /// assert_eq!(Duration::from_nanos(90_000_000_000).as_str(), "1m30s");
    /// assert_eq!(Duration::new("90s").to_canonical()?.as_str(), "1m30s");
    /// assert_eq!(Duration::new("-1ms").nanos()?, -1_000_000);
    /// # Ok::<(), kthena_api::duration::InvalidDuration>(())
    /// ```
    pub fn from_nanos(nanos: i64) -> Self {
        Self(canonical(nanos))
    }

    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value in nanoseconds; it may be negative.
    pub fn nanos(&self) -> Result<i64, InvalidDuration> {
        parse(&self.0)
    }

    /// The value, where negative ones are an error.
    pub fn to_std(&self) -> Result<time::Duration, InvalidDuration> {
        let nanos = self.nanos()?;
        u64::try_from(nanos)
            .map(time::Duration::from_nanos)
            .map_err(|_negative| InvalidDuration::Negative(self.0.clone()))
    }

    /// The same duration in Go's canonical form (`90s` becomes `1m30s`).
    pub fn to_canonical(&self) -> Result<Self, InvalidDuration> {
        self.nanos().map(Self::from_nanos)
    }
}

impl From<time::Duration> for Duration {
    /// Durations beyond 292 years become the longest one there is.
    fn from(value: time::Duration) -> Self {
        Self::from_nanos(i64::try_from(value.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(|_| Self(text.to_owned()))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

fn parse(text: &str) -> Result<i64, InvalidDuration> {
    let syntax = || InvalidDuration::Syntax(text.to_owned());
    let out_of_range = || InvalidDuration::OutOfRange(text.to_owned());
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let whole = digits(rest);
        let after_whole = &rest[whole.len()..];
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(tail) => {
                let fraction = digits(tail);
                (fraction, &tail[fraction.len()..])
            }
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax());
        }
        let unit_end = after_number
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after_number.len());
        let (unit, tail) = after_number.split_at(unit_end);
        if unit.is_empty() {
            return Err(InvalidDuration::MissingUnit(text.to_owned()));
        }
        let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(InvalidDuration::UnknownUnit {
                text: text.to_owned(),
                unit: unit.to_owned(),
            });
        };
        let whole: u64 = if whole.is_empty() {
            0
        } else {
            whole.parse().map_err(|_too_large| out_of_range())?
        };
        total = whole
            .checked_mul(*scale)
            .and_then(|part| part.checked_add(fraction_nanos(fraction, *scale)))
            .and_then(|part| total.checked_add(part))
            .filter(|total| *total <= 1 << 63)
            .ok_or_else(out_of_range)?;
        rest = tail;
    }
    if negative {
        // 2^63 nanoseconds exist below zero only.
        Ok(0i64.checked_sub_unsigned(total).ok_or_else(out_of_range)?)
    } else {
        i64::try_from(total).map_err(|_too_large| out_of_range())
    }
}

fn digits(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    &text[..end]
}

/// `0.<fraction>` of a unit in nanoseconds, rounded down; digits beyond the eighteenth are below a nanosecond.
fn fraction_nanos(fraction: &str, scale: u64) -> u64 {
    let mut value: u128 = 0;
    let mut divisor: u128 = 1;
    for digit in fraction.bytes().take(18) {
        value = value * 10 + u128::from(digit - b'0');
        divisor *= 10;
    }
    u64::try_from(value * u128::from(scale) / divisor).unwrap_or(u64::MAX)
}

/// The form Go writes: the largest unit first, no unit that is not needed, seconds with up to nine decimals.
fn canonical(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let magnitude = nanos.unsigned_abs();
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < 1_000_000_000 {
        let (unit, scale) = match magnitude {
            0..1_000 => ("ns", 1),
            1_000..1_000_000 => ("µs", 1_000),
            _ => ("ms", 1_000_000),
        };
        return format!("{sign}{}{unit}", decimal(magnitude, scale));
    }
    let (minutes, seconds) = (magnitude / 60_000_000_000, magnitude % 60_000_000_000);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    let seconds = decimal(seconds, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let (whole, rest) = (value / scale, value % scale);
    if rest == 0 {
        return whole.to_string();
    }
    let width = scale.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests;
