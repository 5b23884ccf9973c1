//! The proxy in front of simulated engines, over real sockets.

mod bed;
mod body;
mod client;
mod drain;

mod fault;
mod files;
mod gone;
mod hygiene;
mod pair;
mod plain;
mod policy;
mod reload;
mod stream;
mod tls;
