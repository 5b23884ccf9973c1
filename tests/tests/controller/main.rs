//! The controller on a real control plane: objects of users become pods that answer.

mod bed;

mod gang;
mod leader_worker_set;
mod life;
mod manifests;
mod takeover;
mod traffic;
