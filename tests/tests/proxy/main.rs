//! The proxy on a real control plane, in front of engines that come, go and change.

mod bed;
mod object;

mod access;
mod address;
mod clients;
mod crash;
mod endpoints;
mod labels;
mod namespace;
mod order;
mod outage;
mod pods;
mod replace;
mod route;
mod status;
mod tls;
mod webhook;
