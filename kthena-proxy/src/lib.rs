//! The Kthena data plane: an inference gateway for OpenAI HTTP and SSE with prefill/decode disaggregation.

pub mod openai;
