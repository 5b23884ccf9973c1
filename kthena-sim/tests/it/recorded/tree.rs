//! JSON that knows the order of its members, and what it means for two of them to be alike.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Members whose values are compared, not only their types.
const EXACT: &[&str] = &[
    "object",
    "finish_reason",
    "role",
    "type",
    "model",
    "owned_by",
    "status",
    "message",
    "param",
    "code",
    "parent",
    "root",
    "index",
    "completion_tokens",
    "output_tokens",
    "transfer_mode",
    "tp_size",
    "dcp_size",
    "pp_size",
    "do_remote_prefill",
    "do_remote_decode",
    "max_model_len",
    "stop_reason",
    "reason",
    "detail",
    "organization",
    "version",
    "server_load",
    "max_output_tokens",
    "truncation",
    "tool_choice",
    "temperature",
    "top_p",
    "service_tier",
];

/// Members that are compared by whether they are zero.
const ZERO: &[&str] = &[
    "cached_tokens",
    "created_cache_tokens",
    "cache_read_input_tokens",
    "remote_prefill_cached_tokens",
];

/// Members whose keys are free.
const FREE: &[&str] = &["top_logprobs", "prompt_logprobs"];

/// JSON with the order of members.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tree {
    Nothing,
    Null,
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: Option<String>,
    pub(crate) data: Tree,
}

/// The events of a stream; `[DONE]` is a text.
pub(crate) fn events(stream: &str) -> Vec<Event> {
    let parse = |event: &str| {
        let name = event
            .lines()
            .find_map(|line| line.strip_prefix("event: "))
            .map(str::to_owned);
        let data = event
            .lines()
            .find_map(|line| line.strip_prefix("data: "))
            .unwrap_or_default();
        let data = if data == "[DONE]" {
            Tree::Text(data.to_owned())
        } else {
            Tree::parse(data)
        };
        Event { name, data }
    };
    stream
        .split("\n\n")
        .filter(|event| !event.is_empty())
        .map(parse)
        .collect()
}

/// Events without the repetitions: one for each run of events of the same kind.
pub(crate) fn distinct(events: Vec<Event>) -> Vec<Event> {
    let mut distinct: Vec<Event> = Vec::new();
    for event in events {
        let repeats = distinct.last().is_some_and(|last| {
            let mut differences = Vec::new();
            last.data.compare(&event.data, "", &mut differences);
            last.name == event.name && differences.is_empty()
        });
        if !repeats {
            distinct.push(event);
        }
    }
    distinct
}

impl Tree {
    pub(crate) fn parse(text: &str) -> Self {
        if text.is_empty() {
            Self::Nothing
        } else {
            serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
        }
    }

    /// Notes what in `other` is unlike this.
    pub(crate) fn compare(&self, other: &Self, path: &str, differences: &mut Vec<String>) {
        let name = path.rsplit('.').next().unwrap_or_default();
        let mut differ = |what: String| differences.push(format!("{path}: {what}"));
        match (self, other) {
            _ if EXACT.contains(&name) && !matches!(self, Self::Object(_)) && self != other => {
                differ(format!("{self:?} became {other:?}"));
            }
            (Self::Whole(a), Self::Whole(b)) if ZERO.contains(&name) && (*a == 0) != (*b == 0) => {
                differ(format!("{a} became {b}"));
            }
            (Self::Object(a), Self::Object(b)) if FREE.iter().any(|free| path.contains(free)) => {
                if a.len() != b.len() {
                    differ(format!("{a:?} became {b:?}"));
                }
                if let (Some((_, a)), Some((_, b))) = (a.first(), b.first()) {
                    a.compare_members(b, path, differences);
                }
            }
            (Self::Object(_), Self::Object(_)) => self.compare_members(other, path, differences),
            (Self::List(a), Self::List(b)) => {
                let fixed = [
                    "choices",
                    "data",
                    "permission",
                    "content",
                    "output",
                    "top_logprobs",
                ]
                .contains(&name);
                if a.is_empty() != b.is_empty() || fixed && a.len() != b.len() && !FREE.contains(&name) {
                    differ(format!("{} items became {}", a.len(), b.len()));
                }
                for (number, (a, b)) in a.iter().zip(b).enumerate() {
                    // The number of an item is no name.
                    a.compare(b, &format!("{path}[{number}]"), differences);
                }
            }
            (a, b) if std::mem::discriminant(a) != std::mem::discriminant(b) => {
                differ(format!("{a:?} became {b:?}"));
            }
            _ => {}
        }
    }

    fn compare_members(&self, other: &Self, path: &str, differences: &mut Vec<String>) {
        let (Self::Object(a), Self::Object(b)) = (self, other) else {
            return self.compare(other, path, differences);
        };
        let names = |object: &[(String, Self)]| -> Vec<String> {
            object.iter().map(|(name, _)| name.clone()).collect()
        };
        if names(a) != names(b) {
            differences.push(format!("{path}: members {:?} became {:?}", names(a), names(b)));
            return;
        }
        for ((name, a), (_, b)) in a.iter().zip(b) {
            a.compare(b, &format!("{path}.{name}"), differences);
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Whole(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Whole(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Tree::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Tree, A::Error> {
                let mut object = Vec::new();
                while let Some(member) = members.next_entry()? {
                    object.push(member);
                }
                Ok(Tree::Object(object))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
