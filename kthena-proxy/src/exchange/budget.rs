//! What retries may cost: a share of the requests, and a few a second on top.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Retries earned by one request.
const SHARE: f64 = 0.2;
/// Retries earned by one second.
const PER_SECOND: f64 = 10.0;
/// Seconds for which what was earned can be saved up.
const SAVED_SECONDS: f64 = 10.0;

/// The budget of one ModelServer. When every engine fails, retries would multiply the load that made them fail; the budget
/// bounds them to a fifth of the requests plus ten a second.
#[derive(Debug)]
pub struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    balance: f64,
    /// What requests earned lately; it decays and bounds what can be saved.
    earned: f64,
    last: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(State { balance: PER_SECOND * SAVED_SECONDS, earned: 0.0, last: Instant::now() }))
    }
}

impl Budget {
    /// A request came.
    pub fn deposit(&self) {
        let mut state = self.0.lock();
        state.balance += SHARE;
        state.earned += SHARE;
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&self) -> bool {
        let mut state = self.0.lock();
        let now = Instant::now();
        let passed = now.duration_since(state.last).as_secs_f64();
        state.last = now;
        state.earned *= (-passed / SAVED_SECONDS).exp();
        let most = PER_SECOND * SAVED_SECONDS + state.earned;
        state.balance = (state.balance + passed * PER_SECOND).min(most);
        let granted = state.balance >= 1.0;
        if granted {
            state.balance -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn granted(budget: &Budget) -> u32 {
        std::iter::repeat_with(|| budget.withdraw()).take(1_000_000).take_while(|granted| *granted).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn a_fifth_of_the_requests_and_ten_a_second() {
        let budget = Budget::default();
        assert_eq!(granted(&budget), 100);
        (0..1000).for_each(|_| budget.deposit());
        assert_eq!(granted(&budget), 200);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(granted(&budget), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_saved_is_bounded() {
        let budget = Budget::default();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(granted(&budget), 100);
        (0..100_000).for_each(|_| budget.deposit());
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(granted(&budget), 100);
    }
}
