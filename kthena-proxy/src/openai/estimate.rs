//! The estimate of a request's input tokens: characters divided by four, rounded up.
//!
//! Limits, metrics and the access log use it before any engine has counted. It reads the raw JSON text: nothing is unescaped.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::peek::{Key, Peek};

/// What surrounds a turn in the chat template that the estimate assumes: `<|im_start|>`, two line feeds and `<|im_end|>`.
const TURN: usize = "<|im_start|>\n<|im_end|>\n".len();

/// Estimated input tokens of a body. Zero where there is no text, as for an image alone.
#[must_use]
pub fn input_tokens(body: &[u8], peek: &Peek) -> u64 {
    (characters(body, peek) as u64).div_ceil(4)
}

fn characters(body: &[u8], peek: &Peek) -> usize {
    if let Some(prompt) = text(body, peek, Key::Prompt) {
        return prompt_characters(prompt);
    }
    if let Some(messages) = text(body, peek, Key::Messages) {
        let system = text(body, peek, Key::System)
            .and_then(content_characters)
            .map_or(0, |n| TURN + "system".len() + n);
        return system + turns_characters(messages);
    }
    if let Some(input) = text(body, peek, Key::Input) {
        let instructions = text(body, peek, Key::Instructions)
            .and_then(string_characters)
            .filter(|n| *n > 0)
            .map_or(0, |n| TURN + "developer".len() + n);
        let turns =
            string_characters(input).map_or_else(|| turns_characters(input), |n| TURN + "user".len() + n);
        return instructions + turns;
    }
    0
}

fn text<'b>(body: &'b [u8], peek: &Peek, key: Key) -> Option<&'b str> {
    peek.raw(body, key).and_then(|raw| std::str::from_utf8(raw).ok())
}

/// Characters of a prompt: a string, token ids (each counts as the four characters of a token), or lists of either.
fn prompt_characters(raw: &str) -> usize {
    if let Some(count) = string_characters(raw) {
        return count;
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
    items
        .iter()
        .map(|item| {
            if item.get().starts_with(['"', '[']) {
                prompt_characters(item.get())
            } else {
                4
            }
        })
        .sum()
}

/// A turn of a chat, or an item of a response's input; all of it is optional because anything may stand in its place.
#[derive(Default)]
struct Turn<'a> {
    kind: Option<Cow<'a, str>>,
    role: Option<&'a RawValue>,
    content: Option<&'a RawValue>,
    text: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Turn<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TurnVisitor)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    Type,
    Role,
    Content,
    Text,
    #[serde(other)]
    Other,
}

struct TurnVisitor;

/// Passes over what is no object instead of refusing the list that it stands in.
macro_rules! nothing {
    ($($method:ident: $kind:ty),*) => { $(fn $method<E>(self, _: $kind) -> Result<Turn<'de>, E> { Ok(Turn::default()) })* };
}

impl<'de> Visitor<'de> for TurnVisitor {
    type Value = Turn<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a turn")
    }

    nothing!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Turn::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Turn::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut turn = Turn::default();
        while let Some(name) = members.next_key::<Name>()? {
            match name {
                Name::Type => turn.kind = serde_json::from_str(members.next_value::<&RawValue>()?.get()).ok(),
                Name::Role => turn.role = Some(members.next_value()?),
                Name::Content => turn.content = Some(members.next_value()?),
                Name::Text => turn.text = Some(members.next_value()?),
                Name::Other => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(turn)
    }
}

fn turns_characters(raw: &str) -> usize {
    let turns: Vec<Turn<'_>> = serde_json::from_str(raw).unwrap_or_default();
    turns
        .iter()
        .filter_map(|turn| {
            if !matches!(turn.kind.as_deref(), None | Some("" | "message")) {
                return None;
            }
            let role = string_characters(turn.role?.get())?;
            Some(TURN + role + content_characters(turn.content?.get())?)
        })
        .sum()
}

/// Characters of a turn's content: a string, or its blocks of text joined by line feeds; `None` where it has no text.
fn content_characters(raw: &str) -> Option<usize> {
    if let Some(count) = string_characters(raw) {
        return Some(count);
    }
    let blocks: Vec<Turn<'_>> = serde_json::from_str(raw).ok()?;
    blocks
        .iter()
        .filter_map(|block| {
            matches!(
                block.kind.as_deref(),
                None | Some("text" | "input_text" | "output_text")
            )
            .then_some(())?;
            string_characters(block.text?.get())
        })
        .reduce(|all, one| all + 1 + one)
}

/// Unicode code points of a JSON string, given with its quotes and escapes; `None` where it is something else.
fn string_characters(raw: &str) -> Option<usize> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    // Code points as they stand, less what escapes write in several characters.
    let points = inner.chars().count();
    let mut surplus = 0;
    let mut rest = inner.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = &rest[at..];
        let long = escape.get(1) == Some(&b'u');
        let low_surrogate = long
            && matches!(escape.get(2), Some(b'd' | b'D'))
            && matches!(
                escape.get(3),
                Some(b'c' | b'd' | b'e' | b'f' | b'C' | b'D' | b'E' | b'F')
            );
        surplus += match (long, low_surrogate) {
            (_, true) => 6,
            (true, false) => 5,
            (false, false) => 1,
        };
        rest = escape.get(if long { 6 } else { 2 }..).unwrap_or_default();
    }
    Some(points.saturating_sub(surplus))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, characters_expected: usize) {
        let peek = Peek::read(body.as_bytes()).unwrap();
        assert_eq!(characters(body.as_bytes(), &peek), characters_expected, "{body}");
        assert_eq!(
            input_tokens(body.as_bytes(), &peek),
            (characters_expected as u64).div_ceil(4)
        );
    }

    #[test]
    fn a_prompt_counts_code_points() {
        for (prompt, count) in [
            ("", 0),
            ("a", 1),
            ("hello world", 11),
            ("    ", 4),
            ("日本語字", 4),
            ("é\u{1F600}", 2),
        ] {
            let body = serde_json::json!({ "prompt": prompt }).to_string();
            check(&body, count);
        }
        check(r#"{"prompt":"a\n\"\\\u00e9\ud83d\ude00b"}"#, 7);
    }

    #[test]
    fn a_chat_counts_its_template() {
        check(r#"{"messages":[{"role":"user","content":"hello world"}]}"#, 39);
        check(r#"{"messages":[{"role":"user","content":"hi"}]}"#, 30);
        check(
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},{"text":"b"}]}]}"#,
            31,
        );
        check(
            r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]},{"role":"assistant"},7,{"content":"x"}]}"#,
            0,
        );
        check(
            r#"{"system":"S","messages":[{"role":"user","content":"B"}]}"#,
            24 * 2 + 6 + 1 + 4 + 1,
        );
    }

    #[test]
    fn responses_input_counts_text_items() {
        check(r#"{"instructions":"I","input":"hello"}"#, 24 * 2 + 9 + 1 + 4 + 5);
        check(
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"ab"}]},{"type":"function_call"}]}"#,
            30,
        );
        check(r#"{"input":42}"#, 0);
    }

    #[test]
    fn token_ids_count_one_each_and_batches_add_up() {
        check(r#"{"prompt":[1,2,3]}"#, 12);
        check(r#"{"prompt":["ab","c"]}"#, 3);
        check(r#"{"prompt":[[1,2],[3]]}"#, 12);
    }
}
