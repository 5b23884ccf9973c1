//! The OpenAI protocol, as far as a gateway has to understand it.
//!
//! Bodies are never decoded and encoded again: [`peek`] finds where the few members that matter stand, [`edit`] splices new
//! values into the original bytes, and everything else reaches the engine byte for byte.

pub mod edit;
pub mod error;
pub mod estimate;
pub mod form;
mod json;
pub mod models;
pub mod operation;
pub mod peek;
pub mod sse;
pub mod stream_options;
pub mod usage;

pub use edit::{Body, Edits};
pub use operation::Operation;
pub use peek::{Key, Peek};
