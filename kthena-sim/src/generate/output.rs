//! What a sequence has said so far.

use serde_json::Value;
use serde_json::value::RawValue;

use super::Sampling;
use crate::config::Eos;
use crate::text::model::{Choice, State, natural_length};
use crate::text::tokenizer::{IM_END, Token, piece};

/// Some tokens more.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
    /// One for each token, if they were asked for.
    pub(crate) logprobs: Vec<TokenLogprob>,
    pub(crate) finish: Option<Finish>,
}

/// A token and what else might have been said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenLogprob {
    pub(crate) token: Token,
    pub(crate) logprob: f32,
    /// 1 is the likeliest.
    pub(crate) rank: u32,
    /// The likeliest tokens, at most as many as asked for.
    pub(crate) top: Vec<(Token, f32)>,
}

/// The end of a sequence.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) reason: &'static str,
    /// The stop string or stop token that ended it.
    pub(crate) stop_reason: Option<Value>,
    /// Hand-over parameters for the answer.
    pub(crate) params: Option<Box<RawValue>>,
}

/// The text and the tokens of one answer.
#[derive(Debug)]
pub(super) struct Output {
    state: State,
    seed: u64,
    /// Tokens before the natural end.
    natural: Option<u32>,
    count: u32,
    last: Token,
    text: Vec<u8>,
    emitted: usize,
    /// Bytes held back because they may be the start of a stop string.
    hold: usize,
}

impl Finish {
    fn new(reason: &'static str, stop_reason: Option<Value>) -> Self {
        Self {
            reason,
            stop_reason,
            params: None,
        }
    }

    /// Ended by the model or a stop string rather than by a limit.
    pub(crate) fn is_stop(&self) -> bool {
        self.reason == "stop"
    }
}

impl TokenLogprob {
    pub(crate) fn of(state: State, token: Token, top: usize) -> Self {
        let (rank, logprob) = state.judge(token);
        let top = (0..top)
            .map(|rank| (state.candidate(rank), state.logprob(rank)))
            .collect();
        Self {
            token,
            logprob,
            rank,
            top,
        }
    }
}

impl Output {
    pub(super) fn new(state: State, seed: u64, sampling: &Sampling, eos: Eos) -> Self {
        let natural = match eos {
            Eos::Within { least, most } if !sampling.ignore_eos => Some(natural_length(state, least, most)),
            Eos::Never | Eos::Within { .. } => None,
        };
        let longest = sampling.stop.iter().map(String::len).max().unwrap_or(0);
        Self {
            state,
            seed,
            natural,
            count: 0,
            last: 0,
            text: Vec::new(),
            emitted: 0,
            hold: longest.saturating_sub(1),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    pub(super) fn last(&self) -> Token {
        self.last
    }

    /// Says one token more.
    pub(super) fn advance(&mut self, sampling: &Sampling, step: &mut Step) {
        let ends =
            self.natural.is_some_and(|natural| self.count >= natural) && self.count >= sampling.min_tokens;
        let choice = Choice {
            temperature: sampling.temperature,
            seed: self.seed,
        };
        let token = if ends { IM_END } else { self.state.choose(choice) };
        if let Some(top) = sampling.logprobs {
            step.logprobs.push(TokenLogprob::of(self.state, token, top));
        }
        self.state.push(token);
        self.count += 1;
        self.last = token;
        step.tokens.push(token);
        let may_stop = self.count >= sampling.min_tokens;
        let finish = if ends {
            Some(Finish::new("stop", None))
        } else if may_stop && sampling.stop_token_ids.contains(&token) {
            Some(Finish::new("stop", Some(Value::from(token))))
        } else {
            self.text.extend_from_slice(&piece(token));
            self.stopped(sampling).filter(|_| may_stop)
        };
        step.finish =
            finish.or_else(|| (self.count >= sampling.max_tokens).then(|| Finish::new("length", None)));
        self.emit(step);
    }

    /// Looks for a stop string that the last token completed, and cuts the text there.
    fn stopped(&mut self, sampling: &Sampling) -> Option<Finish> {
        if sampling.stop.is_empty() || self.count < sampling.min_tokens {
            return None;
        }
        let found = sampling
            .stop
            .iter()
            .filter(|stop| !stop.is_empty())
            .find_map(|stop| {
                let from = self.emitted.min(self.text.len());
                let at = self.text[from..]
                    .windows(stop.len())
                    .position(|window| window == stop.as_bytes())?;
                Some((from + at, stop))
            });
        let (at, stop) = found?;
        self.text.truncate(if sampling.include_stop {
            at + stop.len()
        } else {
            at
        });
        Some(Finish::new("stop", Some(Value::from(stop.as_str()))))
    }

    fn emit(&mut self, step: &mut Step) {
        let hold = if step.finish.is_some() { 0 } else { self.hold };
        let until = self.text.len().saturating_sub(hold);
        if until <= self.emitted {
            return;
        }
        let ready = &self.text[self.emitted..until];
        let whole = match std::str::from_utf8(ready) {
            Ok(_) => ready.len(),
            // The rest of a character is still to come.
            Err(error) if error.error_len().is_none() && step.finish.is_none() => error.valid_up_to(),
            Err(_) => ready.len(),
        };
        step.text.push_str(&String::from_utf8_lossy(&ready[..whole]));
        self.emitted += whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::model::Weights;
    use crate::text::tokenizer::{decode, encode};

    fn say(sampling: &Sampling, eos: Eos) -> Vec<Step> {
        let state = State::after(Weights::of("m", None), &encode("tell a story"));
        let mut output = Output::new(state, 0, sampling, eos);
        let mut steps = Vec::new();
        loop {
            let mut step = Step::default();
            output.advance(sampling, &mut step);
            let ended = step.finish.is_some();
            steps.push(step);
            if ended {
                return steps;
            }
        }
    }

    fn text(steps: &[Step]) -> String {
        steps.iter().map(|step| step.text.as_str()).collect()
    }

    fn end(steps: &[Step]) -> (&'static str, Option<Value>) {
        let finish = steps.last().unwrap().finish.as_ref().unwrap();
        (finish.reason, finish.stop_reason.clone())
    }

    fn greedy(max_tokens: u32) -> Sampling {
        Sampling {
            max_tokens,
            temperature: 0.0,
            ..Sampling::default()
        }
    }

    #[test]
    fn limits_end_with_length_and_the_natural_end_with_stop() {
        let eos = Eos::Within { least: 4, most: 4 };
        assert_eq!(
            (say(&greedy(3), eos).len(), end(&say(&greedy(3), eos)).0),
            (3, "length")
        );
        let whole = say(&greedy(100), eos);
        assert_eq!((whole.len(), end(&whole)), (5, ("stop", None)));
        assert_eq!((whole[4].tokens[0], whole[4].text.as_str()), (IM_END, ""));
        let more = say(
            &Sampling {
                min_tokens: 7,
                ..greedy(100)
            },
            eos,
        );
        assert_eq!((more.len(), end(&more).0), (8, "stop"));
        assert_eq!(
            say(
                &Sampling {
                    ignore_eos: true,
                    ..greedy(100)
                },
                eos
            )
            .len(),
            100
        );
    }

    #[test]
    fn a_stop_string_cuts_the_text_even_across_tokens() {
        let free = say(&greedy(6), Eos::Never);
        let (third, fourth) = (&free[2].text, &free[3].text);
        let stop = format!("{}{}", &third[third.len() - 1..], &fourth[..2]);
        let sampling = Sampling {
            stop: vec![stop.clone()],
            ..greedy(6)
        };
        let cut = say(&sampling, Eos::Never);
        assert_eq!(
            (cut.len(), end(&cut)),
            (4, ("stop", Some(Value::from(stop.as_str()))))
        );
        let before = text(&free[..3]);
        assert_eq!(text(&cut), before[..before.len() - 1]);
        let kept = say(
            &Sampling {
                include_stop: true,
                ..sampling
            },
            Eos::Never,
        );
        assert_eq!(text(&kept), format!("{}{}", before, &fourth[..2]));
    }

    #[test]
    fn tokens_and_text_agree() {
        let steps = say(&greedy(20), Eos::Never);
        let tokens: Vec<_> = steps.iter().flat_map(|step| step.tokens.clone()).collect();
        assert_eq!(decode(&tokens), text(&steps));
    }
}
