//! Whether the process does what it is there for.

use std::sync::Arc;

use parking_lot::Mutex;

/// What the process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Phase {
    /// It has not come far yet.
    #[default]
    Starting,
    /// Another one leads.
    StandingBy,
    /// It runs controllers, of which so many do not know yet what there is.
    Leading(usize),
    /// It is about to end.
    Ending,
}

/// The phase, shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<Mutex<Phase>>);

impl Readiness {
    pub(crate) fn set(&self, phase: Phase) {
        *self.0.lock() = phase;
    }

    /// One more controller knows what there is.
    pub(crate) fn synced(&self) {
        let mut phase = self.0.lock();
        if let Phase::Leading(unsynced) = *phase {
            *phase = Phase::Leading(unsynced.saturating_sub(1));
        }
    }

    /// Status and body of `/readyz`.
    pub(crate) fn answer(&self) -> (u16, &'static str) {
        match *self.0.lock() {
            Phase::Leading(0) => (200, "ok"),
            Phase::StandingBy => (200, "standing by"),
            Phase::Starting => (503, "starting"),
            Phase::Leading(_) => (503, "reading what there is"),
            Phase::Ending => (503, "ending"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_who_knows_what_there_is_or_stands_by() {
        let readiness = Readiness::default();
        let code = || readiness.answer().0;
        assert_eq!(code(), 503);
        readiness.set(Phase::StandingBy);
        assert_eq!(code(), 200);
        readiness.set(Phase::Leading(2));
        assert_eq!(code(), 503);
        readiness.synced();
        assert_eq!(code(), 503);
        readiness.synced();
        assert_eq!(code(), 200);
        readiness.set(Phase::Ending);
        readiness.synced();
        assert_eq!(code(), 503);
    }
}
