//! The test bed: a real control plane without containers, a kubelet for engine pods, and helpers around both.
//!
//! Terms
//! - A **tool** is a Go program that the bed needs (etcd, kube-apiserver, …). It is built once from a pinned module
//!   under `tests/tools/` and kept in a cache outside the checkout ([`tools`]).
//! - A **cluster** is a control plane on loopback made of those tools ([`cluster::Cluster`]). Tests of one process share
//!   one ([`cluster::Cluster::shared`]) and take a namespace each; a test that breaks things starts its own.
//! - A **kubelet** runs the pods of one node as processes: every pod has an address of its own and a simulated
//!   engine behind it ([`kubelet::Kubelet`]).
//! - A **proxy** is `kthena-proxy` as a process of its own, with the permissions of a service account ([`proxy::Proxy`]).
//! - A **script** is a small program that uses an official OpenAI client and prints JSON ([`clients`]).
//!
//! ```no_run
//! use kthena_tests::{cluster::Cluster, kubelet::Kubelet};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let cluster = Cluster::shared().await?;
//! let space = cluster.namespace("routing").await?;
//! let kubelet = Kubelet::on(cluster, &space).start().await?;
//! space.apply("
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: engine-0, labels: {app: engine}}
//! spec:
//!   containers:
//!   - {name: engine, image: sim, args: [--served-model-name, tiny], ports: [{containerPort: 8000}]}
//! ").await?;
//! let pod = kubelet.until_ready(&space, "engine-0").await?;
//! println!("http://{}:8000/v1/models answers", pod.ip);
//! # Ok(())
//! # }
//! ```
//!
//! Everything a test starts ends with the test process, however that ends; see [`process`].

pub mod cache;
pub mod clients;
pub mod command;
pub mod prerequisite;
pub mod setting;
pub mod stopwatch;
pub mod tools;

#[cfg(feature = "cluster")]
pub mod cargo;
#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(feature = "cluster")]
pub mod controller;
#[cfg(feature = "cluster")]
pub mod http;
#[cfg(feature = "cluster")]
pub mod kubelet;
#[cfg(feature = "cluster")]
pub mod process;
#[cfg(feature = "cluster")]
pub mod proxy;
#[cfg(feature = "cluster")]
pub mod relay;
#[cfg(feature = "cluster")]
pub mod reserve;
#[cfg(feature = "cluster")]
pub mod wait;
