//! An operator for [`ChatService`]s: a model's name and a size, from which it makes a ModelServing.
//!
//! | Module | Subject |
//! |---|---|
//! | [`chat_service`] | the kind |
//! | [`plan`] | what is to be done about one, decided without awaiting |
//! | [`index`] | what there is, as watches tell it |
//! | [`controller`] | watches, and doing what plans say |

pub mod chat_service;
pub mod controller;
pub mod index;
pub mod plan;

pub use chat_service::{ChatService, ChatServiceSpec, ChatServiceStatus, Size};

/// The repository's front page, whose example is to compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
