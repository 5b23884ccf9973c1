//! What the proxy knows of its surroundings.

pub mod build;
pub mod endpoint;
#[cfg(test)]
mod fixture;
pub mod index;
pub mod objects;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod tls;
