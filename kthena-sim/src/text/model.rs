//! What stands for a language model: a hash that walks along the tokens.
//!
//! The state after a prompt plays the part of its KV cache. Whoever has the same state, however it came by
//! it, says the same words; whoever was handed another prompt's state says that prompt's words.

use super::tokenizer::{Token, VOCABULARY, spoken, spoken_len};

/// How many tokens are in the running at each step.
const CANDIDATES: usize = 20;

/// Identity of the weights: the base model, and the adapter if one is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weights(u64);

/// What the model knows after some tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State(u64);

/// How a token is chosen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// Zero takes the most likely token.
    pub(crate) temperature: f64,
    /// Decides the draw together with the state.
    pub(crate) seed: u64,
}

impl Weights {
    pub(crate) fn of(model: &str, adapter: Option<&str>) -> Self {
        let mut hash = hash_bytes(0x6b74_6865_6e61, model.as_bytes());
        if let Some(adapter) = adapter {
            hash = hash_bytes(mix(hash), adapter.as_bytes());
        }
        Self(hash)
    }

    pub(crate) fn from_u64(value: u64) -> Self {
        Self(value)
    }

    pub(crate) fn as_u64(self) -> u64 {
        self.0
    }
}

impl State {
    pub(crate) fn start(weights: Weights) -> Self {
        Self(mix(weights.0))
    }

    pub(crate) fn after(weights: Weights, tokens: &[Token]) -> Self {
        let mut state = Self::start(weights);
        for &token in tokens {
            state.push(token);
        }
        state
    }

    pub(crate) fn push(&mut self, token: Token) {
        self.0 = mix(self.0 ^ (u64::from(token) + 1));
    }

    /// What becomes of a state when the cache it is read from does not fit the request.
    pub(crate) fn garble(&mut self) {
        self.0 = mix(!self.0);
    }

    /// A number below `n` that depends on nothing but the state.
    pub(crate) fn number(self, salt: u64, n: u64) -> u64 {
        mix(self.0 ^ mix(salt)) % n.max(1)
    }

    /// The candidate of a rank; rank 0 is the most likely token.
    pub(crate) fn candidate(self, rank: usize) -> Token {
        let first = self.number(1, spoken_len() as u64) as usize;
        let stride = 1 + self.number(2, 61) as usize;
        spoken(first + rank * stride)
    }

    /// The token that is said next.
    pub(crate) fn choose(self, choice: Choice) -> Token {
        self.candidate(self.rank(choice))
    }

    fn rank(self, choice: Choice) -> usize {
        if choice.temperature == 0.0 {
            return 0;
        }
        let draw = mix(self.0 ^ mix(choice.seed ^ 0x5eed));
        (draw % CANDIDATES as u64) as usize
    }

    /// Log probability of a rank.
    pub(crate) fn logprob(self, rank: usize) -> f32 {
        let first = 0.3 + self.number(3, 1000) as f32 / 700.0;
        -(first + rank as f32 * (0.2 + self.number(4, 1000) as f32 / 900.0))
    }

    /// Rank and log probability of a token that was given rather than chosen.
    pub(crate) fn judge(self, token: Token) -> (u32, f32) {
        if let Some(rank) = (0..CANDIDATES).find(|&r| self.candidate(r) == token) {
            return (rank as u32 + 1, self.logprob(rank));
        }
        let rank = CANDIDATES as u64 + 1 + self.number(u64::from(token), u64::from(VOCABULARY) / 2);
        (rank as u32, -(5.0 + rank as f32 / 200.0))
    }
}

/// How long the answer after this state is when nothing cuts it short.
pub(crate) fn natural_length(state: State, least: u32, most: u32) -> u32 {
    let span = u64::from(most.saturating_sub(least)) + 1;
    least + state.number(5, span) as u32
}

/// A hash of bytes, for identities.
pub(crate) fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(mix(seed), |hash, &byte| mix(hash ^ (u64::from(byte) + 1)))
}

/// One round of a well-mixing 64-bit permutation.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::{IM_END, encode};
    use super::*;

    const GREEDY: Choice = Choice {
        temperature: 0.0,
        seed: 0,
    };

    #[test]
    fn the_same_prompt_says_the_same_and_another_one_does_not() {
        let base = Weights::of("m", None);
        let one = State::after(base, &encode("hello world"));
        assert_eq!(one, State::after(base, &encode("hello world")));
        assert_ne!(one, State::after(base, &encode("hello earth")));
        assert_ne!(
            one,
            State::after(Weights::of("m", Some("lora")), &encode("hello world"))
        );
        assert_eq!(one.choose(GREEDY), one.candidate(0));
    }

    #[test]
    fn seeds_matter_only_above_zero_temperature() {
        let state = State::after(Weights::of("m", None), &encode("story"));
        let cold = (0..50).map(|seed| {
            state.choose(Choice {
                temperature: 0.0,
                seed,
            })
        });
        assert!(cold.clone().all(|t| t == state.candidate(0)));
        let warm: std::collections::HashSet<_> = (0..50)
            .map(|seed| {
                state.choose(Choice {
                    temperature: 0.7,
                    seed,
                })
            })
            .collect();
        assert!(warm.len() > 3);
    }

    #[test]
    fn likelier_candidates_have_higher_log_probabilities() {
        let state = State::after(Weights::of("m", None), &encode("story"));
        assert!((1..CANDIDATES).all(|r| state.logprob(r) < state.logprob(r - 1)));
        assert_eq!(state.judge(state.candidate(0)).0, 1);
        assert!(state.judge(IM_END).0 > CANDIDATES as u32);
    }
}
