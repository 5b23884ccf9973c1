//! The estimate of a request's input tokens: characters divided by four, rounded up.
//!
//! Limits, metrics and the access log use it before any engine has counted. It is made while the body is peeked, in the same pass:
//! nothing is unescaped, nothing is read twice.

use std::ops::Range;

use super::json::{Cursor, Invalid};
use super::peek::{Key, Peek};

/// What surrounds a turn in the chat template that the estimate assumes: `<|im_start|>`, two line feeds and `<|im_end|>`.
const TURN: usize = "<|im_start|>\n<|im_end|>\n".len();
/// How deep lists of prompts are looked into: batches of lists of token ids.
const PROMPT_DEPTH: usize = 2;

/// Estimated input tokens of a body. Zero where there is no text, as for an image alone.
#[must_use]
pub fn input_tokens(peek: &Peek) -> u64 {
    (peek.characters().total() as u64).div_ceil(4)
}

/// Characters of the members that have text, of the last occurrence of each.
#[derive(Debug, Default)]
pub(super) struct Characters {
    prompt: Option<usize>,
    messages: Option<usize>,
    system: Option<usize>,
    input: Option<usize>,
    instructions: Option<usize>,
}

impl Characters {
    /// Passes over the value of a member, and counts.
    pub(super) fn read(&mut self, key: Key, cursor: &mut Cursor<'_>) -> Result<Range<usize>, Invalid> {
        cursor.peek()?;
        let start = cursor.at();
        match key {
            Key::Prompt => self.prompt = Some(prompt(cursor, PROMPT_DEPTH)?),
            Key::Messages => self.messages = Some(turns(cursor)?),
            Key::System => self.system = content(cursor)?,
            Key::Input => {
                self.input = Some(match cursor.peek()? {
                    b'"' => TURN + "user".len() + cursor.string()?.characters(),
                    _ => turns(cursor)?,
                });
            }
            Key::Instructions => self.instructions = text(cursor)?,
            _ => return cursor.value(),
        }
        Ok(start..cursor.at())
    }

    fn total(&self) -> usize {
        let turn = |role: &str, text: Option<usize>| text.map_or(0, |n| TURN + role.len() + n);
        match (self.prompt, self.messages, self.input) {
            (Some(prompt), ..) => prompt,
            (_, Some(messages), _) => turn("system", self.system) + messages,
            (.., Some(input)) => turn("developer", self.instructions.filter(|n| *n > 0)) + input,
            _ => 0,
        }
    }
}

/// Characters of a prompt: a string, token ids (each counts as the four characters of a token), or lists of either.
fn prompt(cursor: &mut Cursor<'_>, depth: usize) -> Result<usize, Invalid> {
    match cursor.peek()? {
        b'"' => Ok(cursor.string()?.characters()),
        b'[' if depth > 0 => {
            let mut sum = 0;
            cursor.elements(|cursor| {
                sum += match cursor.peek()? {
                    b'"' | b'[' => prompt(cursor, depth - 1)?,
                    _ => cursor.value().map(|_token| 4)?,
                };
                Ok(())
            })?;
            Ok(sum)
        }
        _ => cursor.value().map(|_other| 0),
    }
}

/// Characters of a chat's turns, or of the items of a response's input. Whatever else stands among them counts nothing.
fn turns(cursor: &mut Cursor<'_>) -> Result<usize, Invalid> {
    let mut sum = 0;
    if cursor.peek()? == b'[' {
        cursor.elements(|cursor| {
            sum += turn(cursor)?.unwrap_or(0);
            Ok(())
        })?;
    } else {
        cursor.value()?;
    }
    Ok(sum)
}

fn turn(cursor: &mut Cursor<'_>) -> Result<Option<usize>, Invalid> {
    let (mut counts, mut role, mut said) = (true, None, None);
    members(cursor, |cursor, name| {
        match name {
            "type" => counts = is_kind(cursor, &["", "message"])?,
            "role" => role = text(cursor)?,
            "content" => said = content(cursor)?,
            _ => cursor.value().map(drop)?,
        }
        Ok(())
    })?;
    Ok(role
        .zip(said)
        .filter(|_| counts)
        .map(|(role, said)| TURN + role + said))
}

/// Characters of a turn's content: a string, or its blocks of text joined by line feeds; `None` where it has no text.
fn content(cursor: &mut Cursor<'_>) -> Result<Option<usize>, Invalid> {
    if cursor.peek()? != b'[' {
        return text(cursor);
    }
    let mut all: Option<usize> = None;
    cursor.elements(|cursor| {
        if let Some(one) = block(cursor)? {
            all = Some(all.map_or(one, |all| all + 1 + one));
        }
        Ok(())
    })?;
    Ok(all)
}

fn block(cursor: &mut Cursor<'_>) -> Result<Option<usize>, Invalid> {
    let (mut counts, mut said) = (true, None);
    members(cursor, |cursor, name| {
        match name {
            "type" => counts = is_kind(cursor, &["text", "input_text", "output_text"])?,
            "text" => said = text(cursor)?,
            _ => cursor.value().map(drop)?,
        }
        Ok(())
    })?;
    Ok(said.filter(|_| counts))
}

/// Visits the members of an object; anything else has none.
fn members<'t>(
    cursor: &mut Cursor<'t>,
    mut member: impl FnMut(&mut Cursor<'t>, &str) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    if cursor.peek()? != b'{' {
        return cursor.value().map(drop);
    }
    cursor.members(|cursor, name| member(cursor, name.decode().as_deref().unwrap_or_default()))
}

/// Characters of a string; `None` where it is something else.
fn text(cursor: &mut Cursor<'_>) -> Result<Option<usize>, Invalid> {
    match cursor.peek()? {
        b'"' => Ok(Some(cursor.string()?.characters())),
        _ => cursor.value().map(|_other| None),
    }
}

/// Whether a `type` is one of these; one that is no string is as good as none.
fn is_kind(cursor: &mut Cursor<'_>, kinds: &[&str]) -> Result<bool, Invalid> {
    match cursor.peek()? {
        b'"' => {
            let kind = cursor.string()?.decode();
            Ok(kind.is_none_or(|kind| kinds.contains(&kind.as_ref())))
        }
        _ => cursor.value().map(|_other| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, characters_expected: usize) {
        let peek = Peek::read(body.as_bytes()).unwrap();
        assert_eq!(peek.characters().total(), characters_expected, "{body}");
        assert_eq!(input_tokens(&peek), (characters_expected as u64).div_ceil(4));
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

    #[test]
    fn what_is_no_string_is_passed_over() {
        check(
            r#"{"messages":[{"type":7,"rol\u0065":"user","content":"hi"},{"role":"user","content":{"a":[1]}},[2],"x",null]}"#,
            30,
        );
        check(r#"{"prompt":[[[1,2,3]]],"system":[1],"input":{}}"#, 0);
        check(r#"{"prompt":"abcd","prompt":"ab"}"#, 2);
    }
}
