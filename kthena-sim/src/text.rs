//! Text: tokens, the chat template, and what the model says.

pub(crate) mod model;
pub(crate) mod template;
pub(crate) mod tokenizer;
mod words;
