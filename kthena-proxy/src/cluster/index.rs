//! The one task that writes: it takes changes from the sources, makes a snapshot, and publishes it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::build::{Builder, Problem};
use super::objects::{Effect, Objects, Update};
use super::snapshot::Snapshot;
use crate::admin::Readiness;
use crate::exchange::upstream;
use crate::telemetry::metrics::Metrics;

/// Changes that come within this time are published together.
const QUIET: Duration = Duration::from_millis(5);
/// No change waits longer than this for others.
const LONGEST: Duration = Duration::from_millis(50);
/// How often idle connections are looked after.
const SWEEP: Duration = Duration::from_secs(5);

/// What the index publishes besides the snapshot.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// How many snapshots there were.
    pub generation: u64,
    /// What could not be used of the objects.
    pub problems: Arc<Vec<Problem>>,
    /// Whether the sources have delivered everything there is, once.
    pub synced: bool,
}

/// The index's own end of things.
pub struct Index {
    objects: Arc<RwLock<Objects>>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    published: watch::Sender<Published>,
    metrics: Metrics,
    readiness: Arc<Readiness>,
}

/// What others see of the index.
#[derive(Clone)]
pub struct View {
    /// The objects as they are now, for dumps.
    pub objects: Arc<RwLock<Objects>>,
    /// The snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells about each publication.
    pub published: watch::Receiver<Published>,
}

/// What several changes come to.
#[derive(Debug)]
struct Batch {
    effect: Effect,
    /// Whether one said that the state is complete.
    synced: bool,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            effect: Effect::Nothing,
            synced: false,
        }
    }
}

impl Index {
    /// An empty world.
    #[must_use]
    pub fn new(metrics: Metrics, readiness: Arc<Readiness>) -> (Self, View) {
        let objects = Arc::new(RwLock::new(Objects::default()));
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot {
            model_list: crate::openai::models::list(std::iter::empty()),
            ..Snapshot::default()
        }));
        let (sender, receiver) = watch::channel(Published::default());
        let view = View {
            objects: objects.clone(),
            snapshot: snapshot.clone(),
            published: receiver,
        };
        (
            Self {
                objects,
                snapshot,
                published: sender,
                metrics,
                readiness,
            },
            view,
        )
    }

    /// Takes changes until there are no more senders.
    pub async fn run(self, mut updates: mpsc::Receiver<Update>) {
        let mut builder = Builder::default();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                update = updates.recv() => {
                    let Some(update) = update else { return };
                    let mut batch = Batch::default();
                    self.take(update, &mut batch);
                    self.gather(&mut updates, &mut batch).await;
                    match batch.effect {
                        Effect::Changed => self.publish(&mut builder, batch.synced),
                        // Whoever writes statuses wants to know.
                        Effect::Noted => self.published.send_modify(|_| ()),
                        Effect::Nothing => {}
                    }
                    if batch.synced {
                        self.readiness.set_synced();
                    }
                }
                _ = sweep.tick() => {
                    for endpoint in builder.endpoints() {
                        endpoint.sweep(upstream::IDLE_TIMEOUT, upstream::is_open);
                    }
                }
            }
        }
    }

    /// Takes what else comes now: a burst, such as the first list of all pods, becomes one snapshot.
    async fn gather(&self, updates: &mut mpsc::Receiver<Update>, batch: &mut Batch) {
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            match tokio::time::timeout(QUIET, updates.recv()).await {
                Ok(Some(update)) => self.take(update, batch),
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn take(&self, update: Update, batch: &mut Batch) {
        batch.synced |= matches!(update, Update::Synced);
        batch.effect = batch.effect.max(self.objects.write().update(update));
    }

    fn publish(&self, builder: &mut Builder, synced: bool) {
        let built = builder.build(&self.objects.read());
        self.snapshot.store(Arc::new(built.snapshot));
        self.metrics.config_broken("objects", built.problems.len());
        self.published.send_modify(|published| {
            for problem in built
                .problems
                .iter()
                .filter(|problem| !published.problems.contains(problem))
            {
                tracing::warn!(kind = problem.kind, name = %problem.name, "{}", problem.message);
            }
            published.generation += 1;
            published.synced |= synced;
            published.problems = Arc::new(built.problems);
        });
    }
}
