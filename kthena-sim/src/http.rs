//! A small HTTP/1.1 server that can misbehave, and the client side of the hand-over.
//!
//! It is written out rather than taken from a library because the answers must carry uvicorn's bytes (header
//! order, chunk framing) and faults reach below HTTP: resets, wrong lengths, bytes that drip.

pub(crate) mod client;
pub(crate) mod conn;
pub(crate) mod date;
pub(crate) mod plan;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod respond;
pub(crate) mod server;
pub(crate) mod stream;
