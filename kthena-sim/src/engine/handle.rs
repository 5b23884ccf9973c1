//! What a test holds of an engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use crate::fault::Faults;
use crate::http::conn::Life;
use crate::record::Recorded;
use crate::stats::Stats;

/// A running engine. Dropping it kills the engine.
pub struct Handle {
    engine: Arc<Engine>,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    side: Option<SocketAddr>,
    store: Option<SocketAddr>,
}

/// A condition that did not come true.
#[derive(Debug, thiserror::Error)]
#[error("the condition did not come true within {within:?}; the engine counts {stats:#?}")]
pub struct WaitError {
    /// How long it was waited for.
    pub within: Duration,
    /// The counters at the end.
    pub stats: Box<Stats>,
}

impl Handle {
    pub(super) fn new(
        engine: Arc<Engine>,
        address: SocketAddr,
        admin: Option<SocketAddr>,
        side: Option<SocketAddr>,
        store: Option<SocketAddr>,
    ) -> Self {
        Self {
            engine,
            address,
            admin,
            side,
            store,
        }
    }

    /// Where the engine serves.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The engine's base URL, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.engine.config.tls_cert.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address)
    }

    /// Where the `/sim` endpoints are served undisturbed, if that was asked for.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where decode engines read KV blocks, or where the bootstrap server is; none if the engine has neither.
    pub fn side_channel_addr(&self) -> Option<SocketAddr> {
        self.side
    }

    /// Where the shared KV store is served, if that was asked for.
    pub fn store_addr(&self) -> Option<SocketAddr> {
        self.store
    }

    /// The engine's id in hand-over parameters.
    pub fn engine_id(&self) -> &str {
        &self.engine.engine_id
    }

    /// The counters, as `GET /sim/stats` shows them.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Waits until every request is over, and counted so.
    ///
    /// # Errors
    ///
    /// When they are not within the time given; the error shows the counters.
    pub async fn settled(&self, within: Duration) -> Result<Stats, WaitError> {
        self.wait_for(within, |stats| stats.in_flight() == 0).await
    }

    /// Waits until the counters fulfil a condition.
    ///
    /// # Errors
    ///
    /// When they do not within the time given; the error shows them.
    pub async fn wait_for(
        &self,
        within: Duration,
        condition: impl Fn(&Stats) -> bool,
    ) -> Result<Stats, WaitError> {
        let mut changed = self.engine.counters.watch();
        let deadline = tokio::time::Instant::now() + within;
        loop {
            changed.borrow_and_update();
            let stats = self.stats();
            if condition(&stats) {
                return Ok(stats);
            }
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Err(WaitError {
                    within,
                    stats: Box::new(stats),
                });
            }
            // Gauges change without a sign, so the condition is looked at again now and then.
            let pause = (deadline - now).min(Duration::from_millis(5));
            drop(tokio::time::timeout(pause, changed.changed()).await);
        }
    }

    /// The last requests of a path, oldest first.
    pub fn requests(&self, path: &str) -> Vec<Recorded> {
        self.engine.recorder.path(path)
    }

    /// The last requests of all paths, oldest first; those to `/sim` are not recorded.
    pub fn all_requests(&self) -> Vec<Recorded> {
        self.engine.recorder.all()
    }

    /// Forgets the recorded requests.
    pub fn forget_requests(&self) {
        self.engine.recorder.clear();
    }

    /// The faults, to set and to clear.
    pub fn faults(&self) -> &Faults {
        &self.engine.faults
    }

    /// Whether the engine core has died, as some wrong parameters make it.
    pub fn is_dead(&self) -> bool {
        self.engine.is_dead()
    }

    /// Ends the engine as SIGTERM does: no new connections, idle ones close, requests in flight are answered
    /// within the grace period, and what is left is cut. Resolves when all of that is done.
    pub async fn terminate(&self, grace: Duration) {
        self.engine.end(Life::Draining);
        self.engine.serving.close();
        if tokio::time::timeout(grace, self.engine.serving.wait())
            .await
            .is_err()
        {
            tracing::info!("the grace period is over");
        }
        self.engine.end(Life::Closed);
        self.gone().await;
    }

    /// Ends the engine at once: every connection is reset. Resolves when the ports are closed.
    pub async fn kill(&self) {
        self.engine.end(Life::Killed);
        self.gone().await;
    }

    /// Resolves when the engine serves no longer, as after it has died.
    pub async fn ended(&self) {
        let mut life = self.engine.life.subscribe();
        // An error would mean that there is no engine any more.
        drop(life.wait_for(|life| *life >= Life::Closed).await);
    }

    async fn gone(&self) {
        for tasks in [&self.engine.serving, &self.engine.tasks] {
            tasks.close();
            tasks.wait().await;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engine.end(Life::Killed);
    }
}
