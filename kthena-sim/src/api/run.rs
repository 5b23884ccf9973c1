//! Running the sequences of a request side by side.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use futures::StreamExt;
use futures::stream::{self, SelectAll};

use super::common::hex8;
use crate::generate::{Failure, Job, Sequence, Step};
use crate::text::tokenizer::Token;

/// Some tokens of one choice.
#[derive(Debug)]
pub(crate) struct Item {
    /// Number of the choice.
    pub(crate) index: usize,
    /// Number of its prompt.
    pub(crate) prompt: usize,
    pub(crate) step: Step,
    /// Tokens of this choice so far.
    pub(crate) generated: u32,
    pub(crate) cached: u32,
    pub(crate) created: u32,
    /// Whether these are the first tokens.
    pub(crate) first: bool,
}

/// The items of all choices, as they come.
pub(crate) type Items = SelectAll<Pin<Box<dyn Stream<Item = Result<Item, Failure>> + Send>>>;

/// How an endpoint names its sequences among engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// With the prompt's number, as completions do.
    Numbered,
    /// Without, as chat does.
    Plain,
    /// With the number of the turn, as responses do.
    Turn,
}

/// Starts `n` sequences for each prompt; `most` is the number of tokens in an item.
pub(crate) fn start(
    job: &Arc<Job>,
    id: &str,
    prompts: &[Arc<[Token]>],
    naming: Naming,
    most: usize,
) -> Items {
    let n = job.sampling.n;
    let mut items = SelectAll::new();
    for (number, prompt) in prompts.iter().enumerate() {
        let suffix = hex8();
        let base = match naming {
            Naming::Numbered => format!("{id}-{number}-{suffix}"),
            Naming::Plain => format!("{id}-{suffix}"),
            Naming::Turn => format!("{id}_{number}-{suffix}"),
        };
        for child in 0..n {
            let name = if n > 1 {
                format!("{child}_{base}")
            } else {
                base.clone()
            };
            let index = number * n as usize + child as usize;
            let rest = Rest::All {
                job: job.clone(),
                id: name,
                prompt: prompt.clone(),
                child,
            };
            items.push(one(rest, index, number, most).boxed());
        }
    }
    items
}

/// All tokens of all choices, in the order of the choices.
pub(crate) async fn collect(mut items: Items, choices: usize) -> Result<Vec<Item>, Failure> {
    let mut done: Vec<Option<Item>> = (0..choices).map(|_| None).collect();
    while let Some(item) = items.next().await {
        let item = item?;
        match done.get_mut(item.index) {
            Some(Some(so_far)) => so_far.absorb(item),
            Some(empty) => *empty = Some(item),
            None => {}
        }
    }
    Ok(done.into_iter().flatten().collect())
}

/// What is still to come of a sequence.
enum Rest {
    All {
        job: Arc<Job>,
        id: String,
        prompt: Arc<[Token]>,
        child: u32,
    },
    Running(Box<Sequence>),
    Nothing,
}

fn one(
    rest: Rest,
    index: usize,
    number: usize,
    most: usize,
) -> impl Stream<Item = Result<Item, Failure>> + Send {
    stream::unfold(rest, move |rest| async move {
        let (mut sequence, first) = match rest {
            Rest::Nothing => return None,
            Rest::Running(sequence) => (sequence, false),
            Rest::All {
                job,
                id,
                prompt,
                child,
            } => match Sequence::begin(&job, id, prompt, child).await {
                Ok(sequence) => (Box::new(sequence), true),
                Err(failure) => return Some((Err(failure), Rest::Nothing)),
            },
        };
        let step = match sequence.step(most).await {
            Ok(step) => step,
            Err(failure) => return Some((Err(failure), Rest::Nothing)),
        };
        let item = Item {
            index,
            prompt: number,
            generated: sequence.generated(),
            cached: sequence.cached,
            created: sequence.created,
            first,
            step,
        };
        let rest = if item.step.finish.is_some() {
            Rest::Nothing
        } else {
            Rest::Running(sequence)
        };
        Some((Ok(item), rest))
    })
}

impl Item {
    fn absorb(&mut self, more: Self) {
        self.step.text.push_str(&more.step.text);
        self.step.tokens.extend(more.step.tokens);
        self.step.logprobs.extend(more.step.logprobs);
        self.step.finish = more.step.finish;
        self.generated = more.generated;
    }
}
