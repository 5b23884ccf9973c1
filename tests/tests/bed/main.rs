//! Tests of the test bed itself.

mod cluster;
mod kubelet;
