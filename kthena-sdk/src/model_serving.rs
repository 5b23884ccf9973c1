//! ModelServing: what is to be done, decided from what there is.
//!
//! A ModelServing asks for *ServingGroups*, numbered from 0. A group has *instances* of each *role*, numbered from 0 as well; an instance is one
//! *entry pod* and perhaps *worker pods*. [`plan`] compares what is asked for with what is [`Observed`] and returns [`Action`]s and the status.
//! It reads nothing else and remembers nothing: who carries out the actions may stop after any of them, and the next plan goes on from there.

mod action;
#[cfg(feature = "runtime")]
pub mod controller;
pub mod disruption;
mod draft;
mod established;
#[cfg(feature = "runtime")]
pub mod execute;
mod failure;
pub mod gang;
mod group;
#[cfg(feature = "runtime")]
pub mod index;
mod instances;
#[cfg(feature = "runtime")]
mod lean;
mod limit;
pub mod metadata;
pub mod notice;
mod observe;
mod plan;
pub mod plugin;
pub mod pod;
mod recovery;
mod resource;
pub mod revision;
mod rollout;
mod scale;
pub mod service;
mod status;
mod template;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod testing;
#[cfg(feature = "runtime")]
pub mod view;

pub use crate::owner::controller;
pub use action::{Action, NewPod, Pods, Reason, Target, Unit};
pub use draft::Observed;
pub use failure::{Cause, Rank};
pub use observe::{Child, Pod, PodState};
pub use plan::{Plan, plan, plan_with};
pub use template::{Fingerprint, InvalidData, Template, Writing, role_hash};
