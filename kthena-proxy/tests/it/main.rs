//! The proxy in front of simulated engines, over real sockets.

mod bed;
mod body;
mod client;

mod fault;
mod gone;
mod hygiene;
mod pair;
mod plain;
mod policy;
mod stream;
