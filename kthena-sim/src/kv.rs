//! KV hand-over between engines.
//!
//! What travels is the prompt itself, by its token ids, together with the identity of the weights: enough to
//! continue exactly as the prefill engine would, and wrong exactly when the wrong blocks were handed over.
//! A decode engine fetches it from the prefill engine over TCP, at the address that the request names, so a
//! wrong host, a dead engine or a foreign one fails as in reality.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::model::{State, Weights};
use crate::text::tokenizer::Token;

pub(crate) mod fetch;
pub(crate) mod params;
pub(crate) mod serve;
pub(crate) mod store;
pub(crate) mod table;

/// What a request does with KV blocks of other engines.
#[derive(Debug, Clone)]
pub(crate) enum Transfer {
    /// Nothing.
    None,
    /// Hands its prompt over.
    Give(Give),
    /// Takes a prompt over.
    Take(Take),
    /// Names a prompt so badly that the engine waits for it for ever.
    Stuck {
        /// Whether giving up brings the engine down.
        deadly: bool,
    },
    /// Asks for what this engine must not be asked for.
    Fatal,
}

/// How a prompt is handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Give {
    /// Under a name that the engine makes up and answers with.
    Answered,
    /// Under a name that the router made up; the answer does not wait.
    Named(String),
    /// Under a room; the answer waits until the room is read.
    Met(String),
}

/// Where a prompt is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Take {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) key: String,
    /// The engine that must have it; SGLang's rooms do not say.
    pub(crate) engine_id: Option<String>,
    /// Block ids that the request names.
    pub(crate) blocks: Option<Vec<u32>>,
    /// Ask the bootstrap server for the engine's own address first.
    pub(crate) by_query: bool,
    /// Whether the prompt may still be on its way.
    pub(crate) may_wait: bool,
    /// Whether a request that is given up tells the prefill engine.
    pub(crate) releases: bool,
    /// Tokens that the prefill engine had in its cache, as the request says.
    pub(crate) prefill_cached: Option<u32>,
}

/// A prompt on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payload {
    weights: u64,
    tokens: Vec<Token>,
    pub(crate) blocks: u32,
    /// The blocks that were asked for are not the ones that hold the prompt.
    #[serde(default)]
    pub(crate) garbled: bool,
}

/// Why a prompt was not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    #[error("the prefill engine does not know these parameters")]
    Unknown,
    #[error("these parameters were used before")]
    Used,
    #[error("the lease of these parameters is over")]
    Expired,
    #[error("these parameters belong to another engine")]
    Foreign,
    #[error("the prefill engine cannot be reached")]
    Unreachable,
    #[error("the other side did not come in time")]
    Timeout,
}

impl Take {
    /// Whether the request names fewer blocks than its prompt needs.
    pub(crate) fn is_short(&self, blocks: u32) -> bool {
        self.blocks
            .as_ref()
            .is_some_and(|named| (named.len() as u64) < u64::from(blocks))
    }
}

impl Payload {
    pub(crate) fn new(weights: Weights, tokens: &[Token], blocks: usize) -> Self {
        Self {
            weights: weights.as_u64(),
            tokens: tokens.to_vec(),
            blocks: blocks as u32,
            garbled: false,
        }
    }

    /// Tokens of the prompt.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// What a decode engine knows after it has read these blocks for its prompt. It computes the last token
    /// itself, whatever was handed over.
    pub(crate) fn state(&self, prompt: &[Token]) -> State {
        let before_last = prompt.len().saturating_sub(1);
        let known = before_last.min(self.tokens.len());
        let mut state = State::after(Weights::from_u64(self.weights), &self.tokens[..known]);
        if known < before_last || self.garbled {
            state.garble();
        }
        if let Some(&last) = prompt.last() {
            state.push(last);
        }
        state
    }
}

impl Refusal {
    /// The name in statistics and headers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Foreign => "foreign",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
        }
    }

    pub(crate) fn count(self, counters: &crate::stats::Counters) {
        counters.refused(|refused| {
            let counter = match self {
                Self::Unknown => &mut refused.unknown,
                Self::Used => &mut refused.used,
                Self::Expired => &mut refused.expired,
                Self::Foreign => &mut refused.foreign,
                Self::Unreachable => &mut refused.unreachable,
                Self::Timeout => &mut refused.timeout,
            };
            *counter += 1;
        });
    }
}

/// A prompt that has arrived; shared by all sequences of a request.
pub(crate) type Arrived = Arc<Payload>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer::encode;

    #[test]
    fn a_handed_over_prompt_continues_as_a_computed_one() {
        let weights = Weights::of("m", None);
        let prompt = encode("the story of a king and his horse");
        let payload = Payload::new(weights, &prompt, 1);
        assert_eq!(payload.state(&prompt), State::after(weights, &prompt));
    }

    #[test]
    fn the_wrong_prompt_continues_as_itself_where_lengths_agree() {
        let weights = Weights::of("m", None);
        let (first, second) = (encode("alpha the end"), encode("omega the end"));
        assert_eq!(first.len(), second.len());
        let payload = Payload::new(weights, &first, 1);
        assert_eq!(payload.state(&second), State::after(weights, &first));
        let longer = encode("omega the end of the world");
        let state = payload.state(&longer);
        assert!(state != State::after(weights, &longer) && state != State::after(weights, &first));
    }
}
