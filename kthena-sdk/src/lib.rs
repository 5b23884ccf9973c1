//! Reconcile helpers for operators that work with Kthena objects.
//!
//! An operator depends on this crate alone: it re-exports the API types, `kube` and `k8s_openapi`, so there is one version of
//! each. The parts are features; see `Cargo.toml`.

#![warn(missing_docs)]

pub use k8s_openapi;
pub use kthena_api as api;
pub use kube;

#[cfg(feature = "runtime")]
pub mod apply;

pub mod condition;

#[cfg(feature = "runtime")]
pub mod event;

#[cfg(feature = "leader")]
pub mod leader;

pub mod leader_worker_set;
pub mod model_serving;

pub mod owner;

#[cfg(feature = "process")]
pub mod process;

#[cfg(feature = "runtime")]
pub mod telemetry;

#[cfg(feature = "runtime")]
pub mod watch;

#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "webhook")]
pub mod webhook;

/// The front page of the crate, whose example is to hold.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
