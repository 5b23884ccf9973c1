//! Log probabilities in the forms that the endpoints have for them.

use serde::ser::{SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};

use crate::generate::TokenLogprob;
use crate::text::model::{State, Weights};
use crate::text::tokenizer::{Token, decode, piece};

/// Those of a completion.
#[derive(Debug, Serialize)]
pub(crate) struct CompletionLogprobs {
    text_offset: Vec<usize>,
    token_logprobs: Vec<Option<f32>>,
    tokens: Vec<String>,
    top_logprobs: Vec<Option<ByText>>,
}

/// One token of a prompt.
#[derive(Debug)]
pub(crate) struct PromptLogprob(pub(crate) Option<TokenLogprob>);

/// Those of a chat answer.
#[derive(Debug, Serialize)]
pub(crate) struct ChatLogprobs {
    content: Vec<ChatToken>,
}

#[derive(Debug, Serialize)]
struct ChatToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Debug, Serialize)]
struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// Log probabilities by the tokens' texts, the chosen token first.
#[derive(Debug)]
struct ByText(Vec<(Token, f32)>);

/// What the model thinks of a prompt's tokens; of the first one it has no opinion.
pub(crate) fn prompt_logprobs(weights: Weights, prompt: &[Token], top: usize) -> Vec<Option<TokenLogprob>> {
    let mut state = State::start(weights);
    let mut all = Vec::with_capacity(prompt.len());
    for (number, &token) in prompt.iter().enumerate() {
        all.push((number > 0).then(|| TokenLogprob::of(state, token, top)));
        state.push(token);
    }
    all
}

impl CompletionLogprobs {
    /// `offset` is the place of the first token in the answer's text, in characters.
    pub(crate) fn new(tokens: &[Token], all: &[Option<TokenLogprob>], offset: usize) -> Self {
        let tokens: Vec<String> = tokens.iter().map(|&token| decode(&[token])).collect();
        let mut next = offset;
        let begin = |token: &String| {
            let begin = next;
            next += token.chars().count();
            begin
        };
        let text_offset = tokens.iter().map(begin).collect();
        Self {
            text_offset,
            token_logprobs: all
                .iter()
                .map(|one| one.as_ref().map(|one| one.logprob))
                .collect(),
            top_logprobs: all
                .iter()
                .map(|one| one.as_ref().map(|one| ByText(chosen_first(one))))
                .collect(),
            tokens,
        }
    }
}

impl ChatLogprobs {
    pub(crate) fn new(all: &[TokenLogprob]) -> Self {
        let content = all.iter().map(|one| ChatToken {
            token: decode(&[one.token]),
            logprob: one.logprob,
            bytes: piece(one.token).into_owned(),
            top_logprobs: one
                .top
                .iter()
                .map(|&(token, logprob)| ChatAlternative {
                    token: decode(&[token]),
                    logprob,
                    bytes: piece(token).into_owned(),
                })
                .collect(),
        });
        Self {
            content: content.collect(),
        }
    }
}

fn chosen_first(one: &TokenLogprob) -> Vec<(Token, f32)> {
    let others = one.top.iter().copied().filter(|(token, _)| *token != one.token);
    std::iter::once((one.token, one.logprob)).chain(others).collect()
}

impl Serialize for ByText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(&decode(&[*token]), logprob)?;
        }
        map.end()
    }
}

impl Serialize for PromptLogprob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct One(Token, f32, u32);
        impl Serialize for One {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut one = serializer.serialize_struct("Logprob", 3)?;
                one.serialize_field("logprob", &self.1)?;
                one.serialize_field("rank", &self.2)?;
                one.serialize_field("decoded_token", &decode(&[self.0]))?;
                one.end()
            }
        }
        let Some(judged) = &self.0 else {
            return serializer.serialize_none();
        };
        let all = chosen_first(judged);
        let mut map = serializer.serialize_map(Some(all.len()))?;
        for (token, logprob) in all {
            let place = judged.top.iter().position(|(top, _)| *top == token);
            let rank = place.map_or(judged.rank, |place| place as u32 + 1);
            map.serialize_entry(&token.to_string(), &One(token, logprob, rank))?;
        }
        map.end()
    }
}
