//! What is asked, of a plain engine and through the proxy.
//!
//! An addition is an entry in one of the lists below. Prompts begin with the name of the run and of the question, so that no
//! engine has computed any of them before: what decode knows of a prompt, prefill has told it.

mod chat;
mod completion;
mod departure;
mod newer;
mod refusal;

use serde_json::{Value, json};

pub(crate) use self::departure::LEFT;
use crate::{engine::Library, wire::Request};

/// A model's name that only the proxy knows; engines call it `tiny`.
pub(crate) const RENAMED: &str = "renamed";

/// How many questions may be answered without a cache that was handed over.
pub(crate) const EXCEPTIONS: usize = 6;

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) requests: Vec<Request>,
    pub(crate) manner: Manner,
    pub(crate) expected: Expected,
}

/// What a question comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// An answer, with the cache handed over.
    HandedOver,
    /// An answer by decode alone; the reason why.
    Alone(&'static str),
    /// An error; the reason why nothing is handed over.
    Refused(&'static str),
}

/// How a question's requests are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    InTurn,
    AtOnce,
    /// The client goes before the answer is complete.
    Departing(Departure),
}

/// When a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// After so many events of a stream.
    AfterEvents(usize),
    /// When decode has the request; maybe the cache is still on its way.
    AtDecode,
    /// While decode is at work on an answer in one piece.
    WhileDecoding,
}

/// One run through all questions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// How its prompts begin.
    pub(crate) name: &'static str,
    pub(crate) library: Library,
}

/// All questions, those first that get a cache.
pub(crate) fn all(run: Run) -> Vec<Question> {
    let mut all = [
        completion::all(run),
        chat::all(run),
        newer::all(run),
        departure::all(run),
        refusal::all(run),
    ]
    .concat();
    all.sort_by_key(|question| question.expected.exception().is_some());
    all
}

impl Question {
    fn one(name: &'static str, request: Request) -> Self {
        Self::many(name, vec![request])
    }

    fn many(name: &'static str, requests: Vec<Request>) -> Self {
        Self {
            name,
            requests,
            manner: Manner::InTurn,
            expected: Expected::HandedOver,
        }
    }

    fn at_once(name: &'static str, requests: Vec<Request>) -> Self {
        Self {
            manner: Manner::AtOnce,
            ..Self::many(name, requests)
        }
    }

    fn expecting(self, expected: Expected) -> Self {
        Self { expected, ..self }
    }
}

impl Expected {
    /// Why decode gets no cache, where it is right that it gets none.
    pub(crate) fn exception(self) -> Option<&'static str> {
        match self {
            Self::HandedOver => None,
            Self::Alone(reason) | Self::Refused(reason) => Some(reason),
        }
    }
}

impl Run {
    /// A text that nobody has asked before, of at least so many words.
    fn text(self, name: &str, words: usize) -> String {
        const WORDS: [&str; 12] = [
            "grant",
            "the",
            "of",
            "License",
            "to",
            "any",
            "work",
            "under",
            "shall",
            "copyright",
            "notice",
            "and",
        ];
        let seed = name
            .bytes()
            .fold(7_usize, |seed, byte| (seed * 31 + usize::from(byte)) % 9973);
        let mut text = format!("{} asks for {name}:", self.name);
        for n in 0..words {
            text.push(' ');
            text.push_str(WORDS[(seed + n * n + n / 5) % WORDS.len()]);
        }
        text
    }

    /// Token ids that nobody has asked before.
    fn tokens(self, name: &str, count: usize) -> Vec<usize> {
        self.text(name, count)
            .bytes()
            .take(count)
            .enumerate()
            .map(|(n, byte)| 260 + usize::from(byte) + n % 7)
            .collect()
    }
}

/// A body with more members than another; a member that is there already changes.
fn with(mut body: Value, more: Value) -> Value {
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// Streamed.
fn streamed(body: Value) -> Value {
    with(body, json!({"stream": true}))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn run(name: &'static str, library: Library) -> Run {
        Run { name, library }
    }

    #[test]
    fn there_are_enough_questions_and_few_exceptions() {
        for library in [Library::Nixl, Library::Mooncake] {
            let all = all(run("somebody", library));
            let exceptions = all
                .iter()
                .filter(|question| question.expected.exception().is_some())
                .count();
            assert!(
                all.len() - exceptions >= 35 && exceptions <= EXCEPTIONS,
                "{} with {exceptions}",
                all.len()
            );
        }
    }

    #[test]
    fn names_and_prompts_differ() {
        let somebody = run("somebody", Library::Nixl);
        let all = all(somebody);
        let names: BTreeSet<_> = all.iter().map(|question| question.name).collect();
        assert_eq!(names.len(), all.len());
        // Engines recognise a prompt by its beginning.
        let texts: BTreeSet<_> = names.iter().map(|name| somebody.text(name, 4)).collect();
        assert_eq!(texts.len(), all.len());
        let another = run("another", Library::Nixl);
        assert_ne!(somebody.tokens("x", 40)[..32], another.tokens("x", 40)[..32]);
    }
}
