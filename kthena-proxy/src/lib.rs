//! The Kthena data plane: an inference gateway for OpenAI HTTP and SSE with prefill/decode disaggregation.

pub mod admin;
pub mod cluster;
pub mod config;
mod connection;
pub mod connector;
pub mod exchange;
pub mod failure;
pub mod openai;
pub mod route;
pub mod schedule;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod tls;
