//! What controllers tell of themselves while they run, to whatever shows it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// How work on an object ended.
///
/// ```
/// assert_eq!(kthena_sdk::telemetry::Outcome::Cut.as_str(), "cut");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All was done.
    Done,
    /// Something failed; it will be tried again.
    Failed,
    /// It was dropped on the way, because the process ends.
    Cut,
}

impl Outcome {
    /// As the value of a label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cut => "cut",
        }
    }
}

/// Is told what a controller does. Calls are made on the controller's tasks and must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use kthena_sdk::telemetry::{Observer, Outcome};
///
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl Observer for Failures {
///     fn ended(&self, outcome: Outcome, _took: Duration) {
///         self.0.fetch_add(u64::from(outcome == Outcome::Failed), Ordering::Relaxed);
///     }
/// }
///
/// let failures = Failures::default();
/// failures.ended(Outcome::Failed, Duration::ZERO);
/// failures.ended(Outcome::Done, Duration::ZERO);
/// assert_eq!(failures.0.into_inner(), 1);
/// ```
pub trait Observer: Send + Sync {
    /// Everything has been seen once that decisions are made from.
    fn synced(&self) {}
    /// Work on an object begins.
    fn began(&self) {}
    /// Work on an object is over.
    fn ended(&self, outcome: Outcome, took: Duration) {
        let _unused = (outcome, took);
    }
}

/// Nobody is told.
impl Observer for () {}

/// Work on an object. It counts as cut if this is dropped before its end.
pub struct Work {
    observer: Arc<dyn Observer>,
    begun: Instant,
    outcome: Outcome,
}

impl Work {
    /// Begins.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
    /// use kthena_sdk::telemetry::{Outcome, Work};
    ///
    /// let work = Work::begin(std::sync::Arc::new(()));
    /// // …
    /// work.end(Outcome::Done);
    /// # });
    /// ```
    #[must_use]
    pub fn begin(observer: Arc<dyn Observer>) -> Self {
        observer.began();
        Self {
            observer,
            begun: Instant::now(),
            outcome: Outcome::Cut,
        }
    }

    /// Ends.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.observer.ended(self.outcome, self.begun.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<(Outcome, Duration)>>);

    impl Observer for Log {
        fn ended(&self, outcome: Outcome, took: Duration) {
            self.0.lock().push((outcome, took));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_dropped_is_told_as_cut() {
        let log = Arc::new(Log::default());
        let second = Duration::from_secs(1);
        let work = Work::begin(log.clone());
        tokio::time::advance(second).await;
        work.end(Outcome::Failed);
        drop(Work::begin(log.clone()));
        assert_eq!(
            *log.0.lock(),
            [(Outcome::Failed, second), (Outcome::Cut, Duration::ZERO)]
        );
    }
}
