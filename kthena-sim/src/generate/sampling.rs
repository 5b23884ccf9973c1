//! How tokens are chosen and when a sequence ends.

use crate::text::model::mix;
use crate::text::tokenizer::Token;

/// The parameters of a request that matter to its text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    pub(crate) max_tokens: u32,
    pub(crate) min_tokens: u32,
    pub(crate) temperature: f64,
    pub(crate) seed: Option<i64>,
    pub(crate) n: u32,
    pub(crate) stop: Vec<String>,
    pub(crate) stop_token_ids: Vec<Token>,
    pub(crate) include_stop: bool,
    pub(crate) ignore_eos: bool,
    /// How many alternatives each token is reported with.
    pub(crate) logprobs: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_tokens: 16,
            min_tokens: 0,
            temperature: 1.0,
            seed: None,
            n: 1,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            include_stop: false,
            ignore_eos: false,
            logprobs: None,
        }
    }
}

impl Sampling {
    /// The seed of one of a prompt's answers. A request without a seed has seed 0, so that its text is the
    /// same wherever it is computed.
    pub(crate) fn seed(&self, child: u32) -> u64 {
        mix(self.seed.unwrap_or(0).cast_unsigned()).wrapping_add(u64::from(child))
    }
}
