//! Engines over real sockets.

mod client;
mod lifecycle;
mod nixl;
mod plain;
mod recorded;
