//! Reconcile helpers for operators that work with Kthena objects.
//!
//! An operator depends on this crate alone: it re-exports the API types, `kube` and `k8s_openapi`, so there is one version of
//! each. The parts are features; see `Cargo.toml`.

//!
//! # What an operator may do
//!
//! [`rbac`] makes the roles of an operator from the parts that it embeds.
//!
//! # What goes with an object
//!
//! Objects that a controller makes go with their owner: give them owner references, as [`model_serving`] and [`leader_worker_set`] do, and Kubernetes
//! removes them. What is outside of the cluster takes a finalizer, for which kube has all there is to have. It takes the right to patch the kind.
//!
//! ```no_run
//! # #[cfg(feature = "runtime")]
//! # mod example {
//! use std::sync::Arc;
//!
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::kube::Api;
//! use kthena_sdk::kube::runtime::controller::Action;
//! use kthena_sdk::kube::runtime::finalizer::{Error, Event, finalizer};
//! # async fn register(_: &ModelServing) -> std::io::Result<()> { Ok(()) }
//! # async fn remove(_: &ModelServing) -> std::io::Result<()> { Ok(()) }
//!
//! async fn reconcile(serving: Arc<ModelServing>, all: Api<ModelServing>) -> Result<Action, Error<std::io::Error>> {
//!     finalizer(&all, "example.com/registered", serving, async |event| match event {
//!         Event::Apply(serving) => register(&serving).await.map(|()| Action::await_change()),
//!         // It may come more than once, and for what was never registered.
//!         Event::Cleanup(serving) => remove(&serving).await.map(|()| Action::await_change()),
//!     })
//!     .await
//! }
//! # }
//! ```

#![warn(missing_docs)]

pub use k8s_openapi;
pub use kthena_api as api;
pub use kube;

#[cfg(feature = "leader")]
pub mod leader;

pub mod leader_worker_set;
pub mod model_serving;
pub mod rbac;

#[cfg(feature = "process")]
pub mod process;

#[cfg(feature = "runtime")]
pub mod telemetry;

#[cfg(feature = "runtime")]
pub mod watch;

#[cfg(feature = "webhook")]
pub mod webhook;

/// The repository's front page, whose example is to compile.
#[cfg(all(doctest, feature = "runtime"))]
#[doc = include_str!("../../README.md")]
struct Readme;
