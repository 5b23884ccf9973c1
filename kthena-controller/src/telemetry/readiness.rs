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

/// What the process is doing, shared.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readiness(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Webhooks are to be served, and are not yet.
    awaits_webhooks: bool,
}

impl Readiness {
    pub(crate) fn set(&self, phase: Phase) {
        self.0.lock().phase = phase;
    }

    /// It is not ready before its webhooks are.
    pub(crate) fn await_webhooks(&self) {
        self.0.lock().awaits_webhooks = true;
    }

    /// Webhooks are answered.
    pub(crate) fn webhooks_serve(&self) {
        self.0.lock().awaits_webhooks = false;
    }

    /// One more controller knows what there is.
    pub(crate) fn synced(&self) {
        let phase = &mut self.0.lock().phase;
        if let Phase::Leading(unsynced) = *phase {
            *phase = Phase::Leading(unsynced.saturating_sub(1));
        }
    }

    /// Status and body of `/readyz`.
    pub(crate) fn answer(&self) -> (u16, &'static str) {
        let state = self.0.lock();
        match state.phase {
            Phase::Leading(0) | Phase::StandingBy if state.awaits_webhooks => {
                (503, "waiting for a certificate")
            }
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

    #[test]
    fn webhooks_are_waited_for_where_there_are_any() {
        let readiness = Readiness::default();
        readiness.await_webhooks();
        for phase in [Phase::StandingBy, Phase::Leading(0)] {
            readiness.set(phase);
            assert_eq!(readiness.answer().0, 503);
        }
        readiness.webhooks_serve();
        assert_eq!(readiness.answer(), (200, "ok"));
    }
}
