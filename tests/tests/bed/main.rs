//! Tests of the test bed itself.

mod clients;
mod cluster;
mod controllers;
mod kubelet;
