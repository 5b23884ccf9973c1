//! What the proxy knows of its surroundings.

pub mod endpoint;
pub mod snapshot;
pub mod tls;
