//! Asking an engine for the usage event of a stream.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::peek::{Key, Peek};

/// The `stream_options` that make an engine report usage; `None` where the client asked for it itself, or where what it sent
/// is no object and the engine is to say so.
///
/// Everything else in the options stays, but `continuous_usage_stats` means something only together with `include_usage`: a
/// client that did not ask for usage must not get it in every event because the proxy did.
#[must_use]
pub fn with_usage(body: &[u8], peek: &Peek) -> Option<String> {
    let Some(raw) = peek.raw(body, Key::StreamOptions).filter(|raw| *raw != b"null") else {
        return Some(r#"{"include_usage":true}"#.to_owned());
    };
    let options: Options<'_> = serde_json::from_slice(raw).ok()?;
    let mut out = String::with_capacity(raw.len() + 24);
    out.push_str(r#"{"include_usage":true"#);
    for (name, value) in options.0 {
        match (name.as_str(), value.get()) {
            ("include_usage", "true") => return None,
            ("include_usage", "false" | "null") | ("continuous_usage_stats", _) => {}
            // Not a boolean: the engine refuses it, and says so better.
            ("include_usage", _) => return None,
            (name, value) => {
                out.push(',');
                out.push_str(&serde_json::Value::from(name).to_string());
                out.push(':');
                out.push_str(value);
            }
        }
    }
    out.push('}');
    Some(out)
}

struct Options<'a>(Vec<(String, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Options<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Options<'de> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &str, expected: Option<&str>) {
        let body = format!("{{\"stream\":true{options}}}");
        let peek = Peek::read(body.as_bytes()).unwrap();
        assert_eq!(with_usage(body.as_bytes(), &peek).as_deref(), expected, "{body}");
    }

    #[test]
    fn usage_is_asked_for_where_the_client_did_not() {
        check("", Some(r#"{"include_usage":true}"#));
        check(r#","stream_options":null"#, Some(r#"{"include_usage":true}"#));
        check(r#","stream_options":{}"#, Some(r#"{"include_usage":true}"#));
        check(
            r#","stream_options":{"include_usage":false,"x": [1, 2]}"#,
            Some(r#"{"include_usage":true,"x":[1, 2]}"#),
        );
        check(
            r#","stream_options":{"continuous_usage_stats":true}"#,
            Some(r#"{"include_usage":true}"#),
        );
    }

    #[test]
    fn what_the_client_asked_for_stays() {
        check(
            r#","stream_options":{"include_usage":true,"continuous_usage_stats":true}"#,
            None,
        );
        check(r#","stream_options":"x""#, None);
        check(r#","stream_options":[]"#, None);
        check(r#","stream_options":{"include_usage":"yes"}"#, None);
    }
}
