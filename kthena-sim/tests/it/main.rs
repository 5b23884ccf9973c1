//! Engines over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod client;
mod endpoints;
mod faults;
mod lifecycle;
mod metrics;
mod mooncake;
mod nixl;
mod plain;
mod recorded;
mod sglang;
mod shapes;
mod store;
