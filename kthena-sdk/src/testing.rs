//! For tests of operators: an API server in memory, builders of objects, and a cluster that does what plans say.
//!
//! There are three ways to test what works with ModelServings, the least powerful first:
//!
//! - [`World`] carries out plans of [`model_serving::plan`](crate::model_serving::plan()) without any requests. It shows what plugins
//!   and changes of a spec lead to.
//! - [`FakeApi`] answers a [`kube::Client`], so whole controllers run against it: in one process, without a cluster, in milliseconds.
//! - a real API server, which no fake replaces.
//!
//! # What the fake API server plays
//!
//! Every kind, by its path: get, list, watch, create, update, patch, delete and deletion by selector, of objects and of their statuses;
//! UIDs, versions, generations, label and field selectors; conflicts, preconditions, finalizers, a pod's grace; streams of changes with
//! bookmarks, that end or come too late when a test wants it. Where a test asks for it, garbage collection and kubelets
//! ([`FakeApi::play`]). Each request is [recorded](FakeApi::requests) and can be made to [fail](FakeApi::on_request), before or after it
//! was carried out.
//!
//! # What it does not play
//!
//! - Definitions and admission: every kind is served, nothing is validated, no default is filled in, no field is pruned, and every kind
//!   has the subresource `status` and no other. All versions of a group are one; nothing is converted.
//! - Server-side apply knows no owners of fields: values are merged, lists replaced as a whole, and what the same manager has applied
//!   before and leaves out goes. It never conflicts. Strategic merge patches are refused.
//! - Deletion in the foreground happens in the background. Lists come as one page. There is no discovery, no RBAC, no scheduler: a pod
//!   runs once [`FakeApi::run_pods`] says so.
//!
//! # A controller against it
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::k8s_openapi::api::core::v1::Pod;
//! use kthena_sdk::model_serving::{controller::Controller, plugin::Registry};
//! use kthena_sdk::testing::{FakeApi, Verb, role, serving};
//!
//! let api = FakeApi::new();
//! let controller = Controller::new(api.client(), 1, Registry::built_in(), std::sync::Arc::new(()));
//! tokio::spawn(controller.run(std::future::pending()));
//! tokio::spawn({
//!     let api = api.clone();
//!     async move { api.play().await }
//! });
//!
//! api.add(&serving("llama").replicas(2).role(role("decode")).build());
//! let is_available = |api: &FakeApi| {
//!     let status = api.get::<ModelServing>("default", "llama")?.status?;
//!     (status.available_replicas == Some(2)).then_some(())
//! };
//! api.until("ModelServing that is available", is_available).await;
//! assert_eq!(api.list::<Pod>().len(), 2);
//! let made = |request: &&_| matches!(request, kthena_sdk::testing::Request { verb: Verb::Create, resource, .. } if resource == "pods");
//! assert_eq!(api.requests().iter().filter(made).count(), 2, "no pod was made twice");
//! # });
//! ```

mod builder;
mod fake;
mod follow;
mod garbage;
mod kubelet;
mod merge;
mod refusal;
mod request;
mod selector;
mod server;
mod store;
mod write;

pub use builder::{PodBuilder, RoleBuilder, ServingBuilder, pod, role, serving};
pub use fake::{FakeApi, Fault};
pub use kubelet::{make_failed, make_ready};
pub use request::{Request, Verb};

pub use crate::model_serving::testing::World;
