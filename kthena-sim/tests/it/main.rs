//! Engines over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod client;
mod endpoints;
mod faults;
mod lifecycle;
mod load;
mod metrics;
mod mooncake;
mod nixl;
mod plain;
mod program;
mod recorded;
mod sglang;
mod shapes;
mod store;
mod tls;
