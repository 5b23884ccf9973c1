//! Reading the usage that an engine reports, from the bytes as they pass.

use memchr::memmem;
use serde::Deserialize;

/// Tokens that an engine counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub input: u64,
    /// Tokens of the answer.
    pub output: u64,
}

#[derive(Deserialize)]
struct Wire {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    total_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
}

const NAME: &[u8] = b"\"usage\":";
/// Bytes kept after a `usage` name: more than any engine writes in that object.
const KEEP: usize = 1024;

/// Remembers the last `usage` object of a body that passes in pieces.
///
/// The name is searched in the raw bytes. Inside a JSON string its quotes would be escaped, so `"usage":` without a backslash
/// before it is a member, whatever the text of the answer says.
#[derive(Debug, Default)]
pub struct Scan {
    /// The text behind the last name, as far as it was seen.
    found: Vec<u8>,
    /// How many bytes `found` still takes.
    wanted: usize,
    /// The text behind an earlier name, should the last one turn out to be `null`.
    older: Vec<u8>,
    /// The end of what was seen, where a name may have begun.
    carry: Vec<u8>,
}

impl Scan {
    /// Looks at the next piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        self.take(piece);
        // A name that spans two pieces begins in the last bytes of the first; one more byte tells about a backslash.
        let head = piece.len().min(NAME.len());
        self.carry.extend_from_slice(&piece[..head]);
        if let Some(at) = last_name(&self.carry) {
            let rest = self.carry.split_off(at);
            self.begin();
            self.take(&rest);
            self.take(&piece[head..]);
            self.carry.extend_from_slice(&rest);
        }
        if let Some(at) = last_name(piece) {
            self.begin();
            self.take(&piece[at..]);
        }
        if piece.len() >= NAME.len() {
            self.carry.clear();
            self.carry.extend_from_slice(&piece[piece.len() - NAME.len()..]);
        } else {
            let surplus = self.carry.len().saturating_sub(NAME.len());
            self.carry.drain(..surplus);
        }
    }

    fn begin(&mut self) {
        if self.found.trim_ascii_start().starts_with(b"{") {
            std::mem::swap(&mut self.found, &mut self.older);
        }
        self.found.clear();
        self.wanted = KEEP;
    }

    fn take(&mut self, bytes: &[u8]) {
        let take = self.wanted.min(bytes.len());
        self.found.extend_from_slice(&bytes[..take]);
        self.wanted -= take;
    }

    /// The last usage seen; `None` where there was none, or it was `null`.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        parse(&self.found).or_else(|| parse(&self.older))
    }
}

/// The offset behind the last `"usage":` that is a member's name.
fn last_name(bytes: &[u8]) -> Option<usize> {
    // Forwards, although the last is wanted: only that search uses vector instructions.
    memmem::find_iter(bytes, NAME)
        .filter(|at| {
            let value = bytes[at + NAME.len()..].trim_ascii_start();
            (*at == 0 || bytes[at - 1] != b'\\') && value.first() != Some(&b'n')
        })
        .last()
        .map(|at| at + NAME.len())
}

/// Parses a `usage` object from the start of `text`; what follows it does not matter.
fn parse(text: &[u8]) -> Option<Usage> {
    let wire: Wire = serde_json::Deserializer::from_slice(text)
        .into_iter()
        .next()?
        .ok()?;
    let cached = wire.cache_creation_input_tokens.unwrap_or(0) + wire.cache_read_input_tokens.unwrap_or(0);
    let input = wire
        .prompt_tokens
        .or_else(|| wire.input_tokens.map(|n| n.saturating_add(cached)));
    let output = wire.completion_tokens.or(wire.output_tokens);
    match (input, output, wire.total_tokens) {
        (None, None, None) => None,
        (input, output, total) => {
            let input = input.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(output.unwrap_or(0)));
            Some(Usage {
                input,
                output: output.unwrap_or_else(|| total.map_or(0, |t| t.saturating_sub(input))),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<Usage>) {
        let bytes = body.as_bytes();
        for size in 1..=bytes.len().min(40) {
            let mut scan = Scan::default();
            bytes.chunks(size).for_each(|piece| scan.push(piece));
            assert_eq!(scan.usage(), expected, "pieces of {size}: {body}");
        }
        let mut scan = Scan::default();
        scan.push(bytes);
        assert_eq!(scan.usage(), expected, "{body}");
    }

    const fn of(input: u64, output: u64) -> Option<Usage> {
        Some(Usage { input, output })
    }

    #[test]
    fn a_completion_reports_prompt_and_completion_tokens() {
        check(
            r#"{"id":"x","choices":[],"usage":{"prompt_tokens":162,"total_tokens":174,"completion_tokens":12,"prompt_tokens_details":{"cached_tokens":0}},"kv_transfer_params":null}"#,
            of(162, 12),
        );
        check(
            r#"{"usage": {"prompt_tokens":7,"completion_tokens":0,"total_tokens":7}}"#,
            of(7, 0),
        );
    }

    #[test]
    fn text_that_speaks_of_usage_is_not_usage() {
        check(
            r#"{"choices":[{"text":"\"usage\":{\"prompt_tokens\":1}"}]}"#,
            None,
        );
        check(
            r#"{"usage":{"prompt_tokens":1,"completion_tokens":2},"text":"\"usage\":{}"}"#,
            of(1, 2),
        );
        check(r#"{"usage":null}"#, None);
    }

    #[test]
    fn the_last_of_a_continuous_report_counts() {
        check(
            "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
            of(3, 2),
        );
        check(
            "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: {\"usage\":null}\n\n",
            of(3, 1),
        );
    }

    #[test]
    fn responses_and_messages_name_them_input_and_output() {
        check(
            r#"{"usage":{"input_tokens":13,"output_tokens":4,"total_tokens":17},"user":null}"#,
            of(13, 4),
        );
        check(
            r#"{"usage":{"input_tokens":11,"cache_creation_input_tokens":7,"cache_read_input_tokens":5,"output_tokens":22}}"#,
            of(23, 22),
        );
    }
}
