//! Engines over real sockets.

mod client;
mod lifecycle;
mod metrics;
mod nixl;
mod plain;
mod recorded;
