//! Finding the members that matter in a JSON body.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::estimate::Characters;
use super::json::{Cursor, Invalid};

/// Why a body is not usable.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are not UTF-8, which JSON demands (RFC 8259, section 8.1).
    #[error("the body is not valid UTF-8")]
    Encoding(#[source] std::str::Utf8Error),
    /// The body is not one JSON object, or something follows it.
    #[error("the body is not a JSON object: {0}")]
    Syntax(#[source] serde_json::Error),
}

macro_rules! keys {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// The members of a request that the proxy reads or edits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Key { $($(#[$doc])* $variant,)+ }

        impl Key {
            /// How many there are.
            pub const COUNT: usize = [$(Key::$variant),+].len();

            /// The member's name on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Key::$variant => $name,)+ }
            }

            fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Key::$variant),)+ _ => None }
            }
        }
    };
}

keys! {
    /// The model or LoRA adapter.
    Model = "model",
    /// Whether the answer is a stream of events.
    Stream = "stream",
    /// Options of a streamed answer.
    StreamOptions = "stream_options",
    /// Output limit of completions, messages and (older) chat requests.
    MaxTokens = "max_tokens",
    /// Output limit of chat requests.
    MaxCompletionTokens = "max_completion_tokens",
    /// Output limit of the Responses API.
    MaxOutputTokens = "max_output_tokens",
    /// vLLM: tokens before a stop may end the answer.
    MinTokens = "min_tokens",
    /// Texts that end the answer.
    Stop = "stop",
    /// Anthropic: the same.
    StopSequences = "stop_sequences",
    /// vLLM: tokens that end the answer.
    StopTokenIds = "stop_token_ids",
    /// Answers per prompt.
    N = "n",
    /// Candidates per answer.
    BestOf = "best_of",
    /// vLLM: beam search.
    UseBeamSearch = "use_beam_search",
    /// The prompt, or prompts, of a completion.
    Prompt = "prompt",
    /// The turns of a chat.
    Messages = "messages",
    /// Anthropic: the system prompt.
    System = "system",
    /// Input of the Responses and embeddings APIs.
    Input = "input",
    /// Responses API: the system prompt.
    Instructions = "instructions",
    /// Completions: repeat the prompt.
    Echo = "echo",
    /// Log probabilities of the output.
    Logprobs = "logprobs",
    /// vLLM: log probabilities of the prompt.
    PromptLogprobs = "prompt_logprobs",
    /// vLLM: hand-over of a KV cache.
    KvTransferParams = "kv_transfer_params",
    /// vLLM: hand-over of an encoder cache.
    EcTransferParams = "ec_transfer_params",
    /// SGLang: the prefill engine's bootstrap server.
    BootstrapHost = "bootstrap_host",
    /// SGLang: its port.
    BootstrapPort = "bootstrap_port",
    /// SGLang: the meeting point of a prefill and a decode request.
    BootstrapRoom = "bootstrap_room",
    /// Responses API: answer later.
    Background = "background",
    /// Responses API: keep the answer.
    Store = "store",
}

/// One occurrence of a member.
#[derive(Debug, Clone, Copy)]
struct Member {
    key: Key,
    /// Offset of the quote that opens the name.
    start: u32,
    value_start: u32,
    value_end: u32,
}

/// Where the members that matter stand in a body. Offsets are into the bytes that were peeked.
#[derive(Debug, Default)]
pub struct Peek {
    members: Vec<Member>,
    /// Offset of the opening brace.
    open: usize,
    /// Offset of the closing brace.
    close: usize,
    characters: Characters,
}

impl Peek {
    /// Reads a body once. It must be one JSON object; its values are checked for syntax but not decoded.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(Error::Encoding)?;
        Self::scan(text).map_err(|Invalid| Error::Syntax(reason(text)))
    }

    fn scan(text: &str) -> Result<Self, Invalid> {
        let mut cursor = Cursor::new(text);
        cursor.peek()?;
        let mut peek = Self {
            members: Vec::with_capacity(8),
            open: cursor.at(),
            ..Self::default()
        };
        cursor.members(|cursor, name| {
            let Some(key) = Key::of(&name.decode().ok_or(Invalid)?) else {
                return cursor.value().map(drop);
            };
            let value = peek.characters.read(key, cursor)?;
            peek.members.push(Member {
                key,
                start: name.start as u32,
                value_start: value.start as u32,
                value_end: value.end as u32,
            });
            Ok(())
        })?;
        peek.close = cursor.at() - 1;
        if cursor.is_at_end() {
            Ok(peek)
        } else {
            Err(Invalid)
        }
    }

    /// The raw JSON text of a member; of its last occurrence, where a body repeats it, as every decoder in the field has it.
    #[must_use]
    pub fn raw<'b>(&self, body: &'b [u8], key: Key) -> Option<&'b [u8]> {
        let member = self.members.iter().rev().find(|m| m.key == key)?;
        body.get(member.value_start as usize..member.value_end as usize)
    }

    /// The member's value as a boolean; `None` where it is absent or something else.
    #[must_use]
    pub fn bool(&self, body: &[u8], key: Key) -> Option<bool> {
        match self.raw(body, key)? {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }

    /// The member's value as a string.
    #[must_use]
    pub fn string(&self, body: &[u8], key: Key) -> Option<String> {
        serde_json::from_slice(self.raw(body, key)?).ok()
    }

    /// Whether the member is there and is not `null`.
    #[must_use]
    pub fn is_set(&self, body: &[u8], key: Key) -> bool {
        self.raw(body, key).is_some_and(|raw| raw != b"null")
    }

    /// Whether the member is there at all.
    #[must_use]
    pub fn has(&self, key: Key) -> bool {
        self.members.iter().any(|m| m.key == key)
    }

    /// The value's bytes, for each occurrence of the member.
    pub(super) fn values(&self, key: Key) -> impl Iterator<Item = Range<usize>> + '_ {
        self.members
            .iter()
            .filter(move |m| m.key == key)
            .map(|m| m.value_start as usize..m.value_end as usize)
    }

    /// Name, colon and value, for each occurrence of the member.
    pub(super) fn spans(&self, key: Key) -> impl Iterator<Item = Range<usize>> + '_ {
        self.members
            .iter()
            .filter(move |m| m.key == key)
            .map(|m| m.start as usize..m.value_end as usize)
    }

    pub(super) fn characters(&self) -> &Characters {
        &self.characters
    }

    pub(super) fn braces(&self) -> (usize, usize) {
        (self.open, self.close)
    }
}

/// What is wrong with a text that is no JSON object, as `serde_json` puts it.
fn reason(text: &str) -> serde_json::Error {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    match deserializer
        .deserialize_map(AnObject)
        .and_then(|()| deserializer.end())
    {
        Err(error) => error,
        Ok(()) => serde::de::Error::custom("it cannot be read"),
    }
}

struct AnObject;

impl<'de> Visitor<'de> for AnObject {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<String, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
