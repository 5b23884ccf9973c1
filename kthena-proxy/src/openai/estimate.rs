//! The estimate of a request's input tokens: characters divided by four, rounded up.
//!
//! Limits, metrics and the access log use it before any engine has counted. It reads the raw JSON text: nothing is unescaped.

use std::borrow::Cow;

use serde::Deserialize;
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
        let system = text(body, peek, Key::System).and_then(content_characters).map_or(0, |n| TURN + "system".len() + n);
        return system + turns_characters(messages);
    }
    if let Some(input) = text(body, peek, Key::Input) {
        let instructions = text(body, peek, Key::Instructions)
            .and_then(string_characters)
            .filter(|n| *n > 0)
            .map_or(0, |n| TURN + "developer".len() + n);
        let turns = string_characters(input).map_or_else(|| turns_characters(input), |n| TURN + "user".len() + n);
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
    items.iter().map(|item| if item.get().starts_with(['"', '[']) { prompt_characters(item.get()) } else { 4 }).sum()
}

#[derive(Deserialize)]
struct Turn<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    role: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

fn turns_characters(raw: &str) -> usize {
    let items: Vec<&RawValue> = serde_json::from_str(raw).unwrap_or_default();
    items
        .iter()
        .filter_map(|item| {
            let turn: Turn<'_> = serde_json::from_str(item.get()).ok()?;
            if !matches!(turn.kind.as_deref(), None | Some("" | "message")) {
                return None;
            }
            let role = string_characters(turn.role?.get())?;
            Some(TURN + role + content_characters(turn.content?.get())?)
        })
        .sum()
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// Characters of a turn's content: a string, or its blocks of text joined by line feeds; `None` where it has no text.
fn content_characters(raw: &str) -> Option<usize> {
    if let Some(count) = string_characters(raw) {
        return Some(count);
    }
    let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    items
        .iter()
        .filter_map(|item| {
            let block: Block<'_> = serde_json::from_str(item.get()).ok()?;
            matches!(block.kind.as_deref(), None | Some("text" | "input_text" | "output_text")).then_some(())?;
            string_characters(block.text?.get())
        })
        .reduce(|all, one| all + 1 + one)
}

/// Unicode code points of a JSON string, given with its quotes and escapes; `None` where it is something else.
fn string_characters(raw: &str) -> Option<usize> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    // Bytes that do not continue a UTF-8 sequence, less what escapes write in several characters.
    let points = inner.iter().filter(|byte| (**byte as i8) >= -0x40).count();
    let mut surplus = 0;
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let escape = &rest[at..];
        let long = escape.get(1) == Some(&b'u');
        let low_surrogate = long
            && matches!(escape.get(2), Some(b'd' | b'D'))
            && matches!(escape.get(3), Some(b'c' | b'd' | b'e' | b'f' | b'C' | b'D' | b'E' | b'F'));
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
        assert_eq!(input_tokens(body.as_bytes(), &peek), (characters_expected as u64).div_ceil(4));
    }

    #[test]
    fn a_prompt_counts_code_points() {
        for (prompt, count) in [("", 0), ("a", 1), ("hello world", 11), ("    ", 4), ("日本語字", 4), ("é\u{1F600}", 2)] {
            let body = serde_json::json!({ "prompt": prompt }).to_string();
            check(&body, count);
        }
        check(r#"{"prompt":"a\n\"\\\u00e9\ud83d\ude00b"}"#, 7);
    }

    #[test]
    fn a_chat_counts_its_template() {
        check(r#"{"messages":[{"role":"user","content":"hello world"}]}"#, 39);
        check(r#"{"messages":[{"role":"user","content":"hi"}]}"#, 30);
        check(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url"},{"text":"b"}]}]}"#, 31);
        check(r#"{"messages":[{"role":"user","content":[{"type":"image_url"}]},{"role":"assistant"},7,{"content":"x"}]}"#, 0);
        check(r#"{"system":"S","messages":[{"role":"user","content":"B"}]}"#, 24 * 2 + 6 + 1 + 4 + 1);
    }

    #[test]
    fn responses_input_counts_text_items() {
        check(r#"{"instructions":"I","input":"hello"}"#, 24 * 2 + 9 + 1 + 4 + 5);
        check(r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"ab"}]},{"type":"function_call"}]}"#, 30);
        check(r#"{"input":42}"#, 0);
    }

    #[test]
    fn token_ids_count_one_each_and_batches_add_up() {
        check(r#"{"prompt":[1,2,3]}"#, 12);
        check(r#"{"prompt":["ab","c"]}"#, 3);
        check(r#"{"prompt":[[1,2],[3]]}"#, 12);
    }
}
