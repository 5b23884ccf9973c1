//! The controller on a real control plane: objects of users become pods that answer.

mod bed;

mod chart;
mod drain;
mod gang;
mod killed;
mod leader_worker_set;
mod life;
mod manager;
mod manifests;
mod scale;
mod takeover;
mod topology;
mod traffic;
mod webhook;
