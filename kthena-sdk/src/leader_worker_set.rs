//! LeaderWorkerSet: a ModelServing is made from it, and its status from that of the ModelServing.
//!
//! Who has written LeaderWorkerSets, or uses a tool that does, keeps them: with the definition of the kind in the cluster, and without the
//! controller of its own project, [`plan`] decides what a LeaderWorkerSet's ModelServing is to be. A group of a LeaderWorkerSet is a
//! ServingGroup with one instance of one role, whose entry pod is the leader.
//!
//! What a ModelServing cannot do is not passed over in silence: [`map`] tells of each field that has no effect, and the condition
//! [`MAPPED`](kthena_api::condition::leader_worker_set::MAPPED) shows it.

#[cfg(feature = "runtime")]
pub mod controller;
mod mapping;
mod plan;
pub mod pod;
mod status;

pub use mapping::{Ignored, Mapping, map};
pub use plan::{Action, Notice, Observed, Plan, plan};
