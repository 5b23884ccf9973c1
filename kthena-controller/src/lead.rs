//! When controllers run: always, or as long as this process leads.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kthena_controller::rbac::LEASE;
use kthena_sdk::kube::Client;
use kthena_sdk::leader::{Candidate, Config, Leader, Lost, identity};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stop::Stopped;
use crate::telemetry::{Metrics, Phase, Readiness};

/// How long work in progress may take once the process is to end.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// What running controllers takes.
pub(crate) struct Term<F> {
    /// Client and namespace for the election; `None` without one.
    pub(crate) election: Option<(Client, String)>,
    /// How many controllers there are.
    pub(crate) controllers: usize,
    /// Starts them.
    pub(crate) start: F,
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

impl<F: FnOnce() -> JoinSet<()>> Term<F> {
    /// Waits to be the leader and runs the controllers until the process is to end, then lets others lead.
    ///
    /// # Errors
    ///
    /// When the Lease is lost, or a controller breaks: the process has to start anew then.
    pub(crate) async fn run(self, stopped: Stopped) -> Result<()> {
        let leader = match self.election {
            None => None,
            Some((client, namespace)) => {
                self.readiness.set(Phase::StandingBy);
                let candidate = Candidate::new(client, Config::new(namespace, LEASE, identity()));
                tokio::select! {
                    biased;
                    leader = candidate.lead() => Some(leader),
                    () = stopped.clone().wait() => return Ok(()),
                }
            }
        };
        self.metrics.leader.set(1);
        self.readiness.set(Phase::Leading(self.controllers));
        let mut leader = Seat(leader);
        let mut controllers = (self.start)();
        let ended = tokio::select! {
            lost = leader.lost() => Err(lost),
            ended = work(&mut controllers, stopped) => Ok(ended),
        };
        controllers.shutdown().await;
        self.readiness.set(Phase::Ending);
        self.metrics.leader.set(0);
        let ended = ended.context("no longer the leader")?;
        leader.release().await;
        ended
    }
}

/// The leader's seat, if one is needed.
struct Seat(Option<Leader>);

impl Seat {
    async fn lost(&mut self) -> Lost {
        match &mut self.0 {
            Some(leader) => leader.lost().await,
            None => std::future::pending().await,
        }
    }

    async fn release(self) {
        let Some(leader) = self.0 else {
            return;
        };
        match leader.release().await {
            Ok(()) => tracing::info!(lease = LEASE, "released"),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, lease = LEASE, "the lease will expire");
            }
        }
    }
}

/// Runs until the process is to end and the controllers have finished what they had begun.
async fn work(controllers: &mut JoinSet<()>, stopped: Stopped) -> Result<()> {
    tokio::select! {
        () = stopped.wait() => {}
        Some(ended) = controllers.join_next() => {
            ended.context("a controller broke")?;
            bail!("a controller ended");
        }
    }
    let rest = async { while controllers.join_next().await.is_some() {} };
    if timeout(GRACE, rest).await.is_err() {
        tracing::warn!("work that was in progress is cut; whoever is next goes on from what was done");
    }
    Ok(())
}
