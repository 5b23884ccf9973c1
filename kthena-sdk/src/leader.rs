//! Leader election: of several processes that could do some work, one does it.
//!
//! A [`Candidate`] waits for a Lease and becomes the [`Leader`], who keeps it as long as [`Leader::lost`] is polled. One that ends
//! [releases](Leader::release) the Lease, and the next one goes on at once; where it could not, the others wait until the Lease has not been
//! renewed for its whole duration, by their own clocks. All of this fits candidates that use client-go.
//!
//! ```no_run
//! use kthena_sdk::leader::{Candidate, Config, identity};
//! # async fn work() {}
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = kthena_sdk::kube::Client::try_default().await?;
//! let config = Config::new(client.default_namespace(), "my-operator", identity());
//! let mut leader = Candidate::new(client, config).lead().await;
//! tokio::select! {
//!     lost = leader.lost() => return Err(lost.into()),
//!     () = work() => {}
//! }
//! leader.release().await?;
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watch_object};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

mod record;

use record::Step;

use crate::rbac::{Rights, Rule, Verb};

/// Which Lease there is to hold, by whom, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this is; no other candidate may call itself so.
    pub identity: String,
    /// How long after its last renewal others leave the Lease alone. In seconds, of which a part counts as a whole.
    pub duration: Duration,
    /// How long after its last renewal the leader gives up. Shorter than `duration`, so that its last requests end before another begins.
    pub renew_deadline: Duration,
    /// The pause between renewals, and between looks of those who wait.
    pub retry: Duration,
}

impl Config {
    /// With the times that Kubernetes' own controllers use: 15 s, 10 s and 2 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }

    /// How long one request may take: an answer that is lost leaves time for another attempt.
    fn request_limit(&self) -> Duration {
        self.renew_deadline / 2
    }
}

/// What standing for a Lease takes in its namespace. It goes without `list` and `watch`, by which others learn at once that the Lease is free.
///
/// ```
/// use kthena_sdk::rbac::Verb;
///
/// let rights = kthena_sdk::leader::rights("my-operator");
/// assert!(rights.allow_own("coordination.k8s.io", "leases", Verb::Update, Some("my-operator")));
/// assert!(!rights.allow_own("coordination.k8s.io", "leases", Verb::Update, Some("another")));
/// ```
#[must_use]
pub fn rights(lease: &str) -> Rights {
    let verbs = [Verb::Create, Verb::Get, Verb::Update, Verb::List, Verb::Watch];
    Rights::own([Rule::of::<Lease>(verbs).named([lease])])
}

/// The name of this process among candidates: its host, which is its pod in a cluster, and a random part.
#[must_use]
pub fn identity() -> String {
    let host = hostname::get().unwrap_or_default();
    format!("{}_{}", host.to_string_lossy(), uuid::Uuid::new_v4())
}

/// Why one is no longer the leader. Its work has to end at once.
///
/// ```
/// use std::time::Duration;
///
/// use kthena_sdk::leader::Lost;
///
/// assert_eq!(Lost::Taken("other".into()).to_string(), "the lease was taken by other");
/// assert_eq!(Lost::Late(Duration::from_secs(10)).to_string(), "the lease could not be renewed for 10s");
/// ```
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Lost {
    /// Somebody else holds the Lease.
    #[error("the lease was taken by {0}")]
    Taken(String),
    /// The Lease could not be renewed in time.
    #[error("the lease could not be renewed for {0:?}")]
    Late(Duration),
}

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("a request for the lease failed")]
    Api(#[source] Box<kube::Error>),
    /// The API server did not answer.
    #[error("a request for the lease took longer than {0:?}")]
    Silent(Duration),
}

/// One who wants to lead.
pub struct Candidate {
    place: Place,
    /// How the Lease was when it last changed, and when that was seen.
    seen: Option<(Lease, Instant)>,
}

/// One who leads.
///
/// ```
/// use kthena_sdk::leader::{Leader, Lost};
///
/// /// Runs something as long as this process leads.
/// async fn lead(mut leader: Leader, work: impl Future<Output = ()>) -> Result<(), Lost> {
///     tokio::select! {
///         lost = leader.lost() => return Err(lost),
///         () = work => {}
///     }
///     // The next one need not wait for the Lease to expire.
///     if let Err(error) = leader.release().await {
///         eprintln!("{error}");
///     }
///     Ok(())
/// }
/// ```
pub struct Leader {
    place: Place,
    lease: Lease,
    /// When the last renewal was begun that succeeded.
    renewed: Instant,
}

/// The Lease at the API server.
struct Place {
    api: Api<Lease>,
    config: Config,
}

// === impl Candidate ===

impl Candidate {
    /// Wants to lead. The account needs the [`rights`].
    #[must_use]
    pub fn new(client: Client, config: Config) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        let place = Place { api, config };
        Self { place, seen: None }
    }

    /// Waits until it leads. What goes wrong on the way is logged, and tried again.
    pub async fn lead(mut self) -> Leader {
        let Config { name, retry, .. } = self.place.config.clone();
        let mut changes = watch_object(self.place.api.clone(), &name)
            .default_backoff()
            .boxed();
        loop {
            match self.attempt().await {
                Ok(Some((lease, renewed))) => {
                    let place = self.place;
                    tracing::info!(lease = name, identity = place.config.identity, "leading");
                    return Leader {
                        place,
                        lease,
                        renewed,
                    };
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, cause = cause(&error), lease = name, "cannot stand for leader");
                }
            }
            tokio::select! {
                () = sleep(retry) => {}
                () = until_free(&mut changes) => {}
            }
        }
    }

    /// Takes the Lease if that can be done now. Returns it, and when the attempt was begun.
    async fn attempt(&mut self) -> Result<Option<(Lease, Instant)>, Error> {
        let lease = self.place.get().await?;
        let unchanged = self.look(lease.as_ref());
        let begun = Instant::now();
        let step = record::candidacy(lease.as_ref(), unchanged, &self.place.config, Timestamp::now());
        let written = match step {
            Step::Wait => return Ok(None),
            Step::Create(lease) => self.place.create(&lease).await?,
            Step::Replace(lease) => self.place.replace(&lease).await?,
        };
        // Nothing was written: another one was faster.
        Ok(written.map(|lease| (lease, begun)))
    }

    /// Takes note of how the Lease is. Returns for how long it has been so.
    fn look(&mut self, lease: Option<&Lease>) -> Duration {
        let now = Instant::now();
        let Some(lease) = lease else {
            self.seen = None;
            return Duration::ZERO;
        };
        if let Some((seen, since)) = &self.seen
            && seen.spec == lease.spec
        {
            return now.duration_since(*since);
        }
        let before = self.seen.as_ref().and_then(|(seen, _)| record::holder(seen));
        if let Some(holder) = record::holder(lease)
            && before != Some(holder)
        {
            tracing::info!(lease = self.place.config.name, holder, "standing by");
        }
        self.seen = Some((lease.clone(), now));
        Duration::ZERO
    }
}

/// Waits until the Lease is seen without a holder. Only saves time: where it cannot be watched, this never ends.
async fn until_free(changes: &mut BoxStream<'_, Result<Option<Lease>, watcher::Error>>) {
    while let Some(change) = changes.next().await {
        match change {
            Ok(lease) if lease.as_ref().and_then(record::holder).is_none() => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the watch of the lease broke"),
        }
    }
    std::future::pending::<()>().await;
}

// === impl Leader ===

impl Leader {
    /// Renews the Lease as long as this is polled, and returns when leading is over.
    pub async fn lost(&mut self) -> Lost {
        let Config {
            retry,
            renew_deadline,
            ..
        } = self.place.config;
        loop {
            let late = self.renewed + renew_deadline;
            sleep(retry.min(late.saturating_duration_since(Instant::now()))).await;
            let left = late.saturating_duration_since(Instant::now());
            match timeout(left, self.renew()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(holder))) => return Lost::Taken(holder),
                Ok(Err(error)) => tracing::warn!(%error, cause = cause(&error), "the lease was not renewed"),
                Err(_elapsed) => {}
            }
            if self.renewed.elapsed() >= renew_deadline {
                return Lost::Late(renew_deadline);
            }
        }
    }

    /// Lets others lead. Nothing of what only a leader may do may be under way any more.
    ///
    /// # Errors
    ///
    /// Where the API server does not take it; the others then wait until the Lease has expired.
    pub async fn release(mut self) -> Result<(), Error> {
        loop {
            let free = record::released(&self.lease, Timestamp::now());
            if self.place.replace(&free).await?.is_some() {
                return Ok(());
            }
            match self.place.get().await? {
                Some(lease) if self.is_holder(&lease) => self.lease = lease,
                _ => return Ok(()),
            }
        }
    }

    /// Renews once. Returns who holds the Lease if it is somebody else.
    async fn renew(&mut self) -> Result<Option<String>, Error> {
        let begun = Instant::now();
        let written = match self.write().await? {
            Some(written) => Some(written),
            // Somebody has written it, or removed it.
            None => match self.place.get().await? {
                Some(lease) if self.is_holder(&lease) => {
                    self.lease = lease;
                    self.write().await?
                }
                Some(lease) => return Ok(Some(record::holder(&lease).unwrap_or_default().to_owned())),
                None => {
                    let new = record::new(&self.place.config, Timestamp::now());
                    self.place.create(&new).await?
                }
            },
        };
        if let Some(lease) = written {
            (self.lease, self.renewed) = (lease, begun);
        }
        Ok(None)
    }

    async fn write(&self) -> Result<Option<Lease>, Error> {
        let renewed = record::renewed(&self.lease, &self.place.config, Timestamp::now());
        self.place.replace(&renewed).await
    }

    fn is_holder(&self, lease: &Lease) -> bool {
        record::holder(lease) == Some(&self.place.config.identity)
    }
}

// === impl Place ===

impl Place {
    async fn get(&self) -> Result<Option<Lease>, Error> {
        self.limited(self.api.get_opt(&self.config.name)).await
    }

    /// Makes the Lease; `None` if it is there by now.
    async fn create(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let post = PostParams::default();
        let made = self.api.create(&post, lease);
        unless_changed(self.limited(made).await)
    }

    /// Replaces the Lease as it was seen; `None` if it is another one by now.
    async fn replace(&self, lease: &Lease) -> Result<Option<Lease>, Error> {
        let post = PostParams::default();
        let written = self.api.replace(&self.config.name, &post, lease);
        unless_changed(self.limited(written).await)
    }

    async fn limited<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
        let limit = self.config.request_limit();
        match timeout(limit, request).await {
            Ok(answer) => answer.map_err(|error| Error::Api(Box::new(error))),
            Err(_elapsed) => Err(Error::Silent(limit)),
        }
    }
}

/// `None` where the Lease was changed or removed by somebody else.
fn unless_changed(result: Result<Lease, Error>) -> Result<Option<Lease>, Error> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(Error::Api(error)) if matches!(&*error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
