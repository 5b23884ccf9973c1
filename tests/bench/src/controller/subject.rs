//! The controllers under test.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use kthena_tests::cluster::{Cluster, Identity};
use kthena_tests::process::Process;
use kthena_tests::tools;
use serde::Serialize;

/// A controller of ModelServings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// kthena-controller-manager, from its Go module.
    Reference,
    /// kthena-controller.
    Ours,
}

/// Their programs.
#[derive(Debug)]
pub(crate) struct Subjects {
    reference: Option<PathBuf>,
    reference_qps: u32,
    ours: PathBuf,
}

impl Subject {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Reference => "Kthena controller manager (Go)",
            Self::Ours => "kthena-controller",
        }
    }

    /// Its service account.
    pub(crate) const fn account(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Ours => "kthena-controller",
        }
    }
}

impl Subjects {
    /// Builds the one written in Go where it takes part and is missing.
    pub(crate) async fn prepare(wanted: &[Subject], ours: PathBuf, reference_qps: u32) -> Result<Self> {
        let reference = match wanted.contains(&Subject::Reference) {
            true => {
                let built = tokio::task::spawn_blocking(tools::reference_controller_manager).await;
                Some(built.context("building the controller manager in Go")??)
            }
            false => None,
        };
        Ok(Self {
            reference,
            reference_qps,
            ours,
        })
    }

    /// Starts a controller. Both look after ModelServings alone, serve no webhooks, and have five workers, their default.
    pub(crate) fn start(&self, subject: Subject, cluster: &Cluster, identity: &Identity) -> Result<Process> {
        let program = match subject {
            Subject::Reference => self.reference.as_ref().context("it takes no part")?,
            Subject::Ours => &self.ours,
        };
        let mut command = Command::new(program);
        command
            .arg(format!("--kubeconfig={}", identity.kubeconfig().display()))
            .args([
                "--controllers=modelserving",
                "--enable-webhook=false",
                "--workers=5",
            ]);
        if subject == Subject::Ours {
            // Ports on this machine are scarce, and nobody looks.
            command.arg("--metrics-bind-address=0");
        }
        if subject == Subject::Reference && self.reference_qps > 0 {
            command.arg(format!("--kube-api-qps={}", self.reference_qps));
            command.arg(format!(
                "--kube-api-burst={}",
                self.reference_qps.saturating_mul(2)
            ));
        }
        let log = cluster.dir().join(format!("{}.log", subject.account()));
        Process::start(subject.name(), &mut command, log)
    }
}
