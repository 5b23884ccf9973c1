//! Finding the members that matter in a JSON body.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

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
}

impl Peek {
    /// Reads a body once. It must be one JSON object; its values are checked for syntax but not decoded.
    pub fn read(body: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(body).map_err(Error::Encoding)?;
        let open = text.len() - text.trim_start_matches([' ', '\t', '\n', '\r']).len();
        let close = text
            .trim_end_matches([' ', '\t', '\n', '\r'])
            .len()
            .saturating_sub(1);
        let mut peek = Self {
            members: Vec::with_capacity(8),
            open,
            close,
        };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer
            .deserialize_map(MembersVisitor {
                text,
                peek: &mut peek,
            })
            .map_err(Error::Syntax)?;
        deserializer.end().map_err(Error::Syntax)?;
        Ok(peek)
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

    pub(super) fn braces(&self) -> (usize, usize) {
        (self.open, self.close)
    }
}

struct MembersVisitor<'a, 'p> {
    text: &'a str,
    peek: &'p mut Peek,
}

impl<'de> Visitor<'de> for MembersVisitor<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // The deserializer lends slices of the text itself, so a value's place is the distance of two addresses.
        let base = self.text.as_ptr() as usize;
        let mut after = self.peek.open + 1;
        while let Some(key) = map.next_key_seed(KeySeed)? {
            let value: &'de RawValue = map.next_value()?;
            let value_start = value.get().as_ptr() as usize - base;
            let value_end = value_start + value.get().len();
            if let Some(key) = key {
                let gap = &self.text.as_bytes()[after..value_start];
                let start = after + memchr::memchr(b'"', gap).unwrap_or(0);
                self.peek.members.push(Member {
                    key,
                    start: start as u32,
                    value_start: value_start as u32,
                    value_end: value_end as u32,
                });
            }
            after = value_end;
        }
        Ok(())
    }
}

struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<Key>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Key::of(name))
    }
}

#[cfg(test)]
mod tests;
