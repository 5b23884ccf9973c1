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
    /// The objects that the snapshot was made of, while its lock is held.
    pub objects: Arc<RwLock<Objects>>,
    /// The snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells about each publication.
    pub published: watch::Receiver<Published>,
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
                    let batch = gather(update, &mut updates).await;
                    self.apply(&mut builder, batch);
                }
                _ = sweep.tick() => {
                    for endpoint in builder.endpoints() {
                        endpoint.sweep(upstream::IDLE_TIMEOUT, upstream::is_open);
                    }
                }
            }
        }
    }

    /// Applies changes and publishes what they come to. The lock on the objects is held for all of it, so that whoever reads
    /// them under it finds the snapshot and the problems that belong to them.
    fn apply(&self, builder: &mut Builder, batch: Vec<Update>) {
        let synced = batch.iter().any(|update| matches!(update, Update::Synced));
        let mut objects = self.objects.write();
        let effects = batch.into_iter().map(|update| objects.update(update));
        match effects.max().unwrap_or(Effect::Nothing) {
            Effect::Changed => self.publish(builder, &objects, synced),
            // Whoever writes statuses wants to know.
            Effect::Noted => self.published.send_modify(|_| ()),
            Effect::Nothing => {}
        }
        drop(objects);
        if synced {
            self.readiness.set_synced();
        }
    }

    fn publish(&self, builder: &mut Builder, objects: &Objects, synced: bool) {
        let built = builder.build(objects);
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

/// A change and what else comes now: a burst, such as the first list of all pods, becomes one snapshot.
async fn gather(first: Update, updates: &mut mpsc::Receiver<Update>) -> Vec<Update> {
    let begun = Instant::now();
    let mut batch = vec![first];
    while begun.elapsed() < LONGEST {
        match tokio::time::timeout(QUIET, updates.recv()).await {
            Ok(Some(update)) => batch.push(update),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}
