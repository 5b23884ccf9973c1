//! For operators that work with the objects of Kthena, which serves large language models on Kubernetes.
//!
//! An operator depends on this crate alone: it re-exports the API types, `kube` and `k8s_openapi`, so there is one version of
//! each. It follows objects, decides what is to be done about them, and does it:
//!
//! ```text
//!  API server ──watch──▶ what there is ──▶ plan: a pure function ──▶ actions and status ──apply──▶ API server
//! ```
//!
//! | Step | Modules |
//! |---|---|
//! | follow | `watch`, also kinds that come and go |
//! | decide | [`model_serving`], [`leader_worker_set`]: no I/O, no clock, no memory beside what stands in the cluster |
//! | do | `apply`, [`owner`], [`condition`], `event` |
//! | as one of several | `leader`, `process`, `telemetry` |
//! | before objects are stored | `webhook` |
//! | in tests | `testing`: an API server in memory, builders, a cluster that does what plans say |
//!
//! The parts are features; see `Cargo.toml`. A whole operator is in `examples/operator` of the repository. This is its smallest core:
//!
//! ```no_run
//! use futures::StreamExt;
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::condition::is_true;
//! use kthena_sdk::kube::{Api, Client};
//! use kthena_sdk::watch::{self, Change, Selector};
//!
//! # async fn example() -> Result<(), kthena_sdk::kube::Error> {
//! let servings = Api::<ModelServing>::all(Client::try_default().await?);
//! let mut changes = std::pin::pin!(watch::changes(servings, Selector::default()));
//! while let Some(change) = changes.next().await {
//!     if let Change::Apply(serving) = change {
//!         let conditions = serving.status.unwrap_or_default().conditions;
//!         println!("{:?}: available: {}", serving.metadata.name, is_true(&conditions, "Available"));
//!     }
//! }
//! # Ok(())
//! # }
//! ```

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

#[cfg(feature = "runtime")]
pub mod apply;

pub mod condition;

#[cfg(feature = "runtime")]
pub mod event;

#[cfg(feature = "leader")]
pub mod leader;

pub mod leader_worker_set;
pub mod model_serving;
pub mod rbac;

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
