//! What retries may cost: a share of the requests, and a few a second on top.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One retry, in the unit that is counted in: whole numbers add up exactly.
const RETRY: u64 = 1000;
/// Earned by one request: a fifth of a retry.
const PER_REQUEST: u64 = RETRY / 5;
/// Earned by one second: ten retries.
const PER_SECOND: u64 = 10 * RETRY;
/// Seconds for which what was earned can be saved up.
const SAVED_SECONDS: u64 = 10;

/// The budget of one ModelServer. When every engine fails, retries would multiply the load that made them fail; the budget
/// bounds them to a fifth of the requests plus ten a second.
#[derive(Debug)]
pub struct Budget(Mutex<State>);

#[derive(Debug)]
struct State {
    balance: u64,
    /// What requests earned since the period began, and in the one before: it bounds what they may save up.
    earned: [u64; 2],
    period: Instant,
    last: Instant,
}

impl Default for Budget {
    fn default() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State {
            balance: PER_SECOND * SAVED_SECONDS,
            earned: [0; 2],
            period: now,
            last: now,
        }))
    }
}

impl Budget {
    /// A request came.
    pub fn deposit(&self) {
        let mut state = self.0.lock();
        state.balance += PER_REQUEST;
        state.earned[0] += PER_REQUEST;
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&self) -> bool {
        let mut state = self.0.lock();
        state.refill(Instant::now());
        let granted = state.balance >= RETRY;
        if granted {
            state.balance -= RETRY;
        }
        granted
    }
}

impl State {
    fn refill(&mut self, now: Instant) {
        let passed = u64::try_from(now.duration_since(self.last).as_millis()).unwrap_or(u64::MAX);
        // What a part of a millisecond earned is left for the next time.
        self.last += Duration::from_millis(passed);
        match now.duration_since(self.period).as_secs() / SAVED_SECONDS {
            0 => {}
            1 => (self.earned, self.period) = ([0, self.earned[0]], now),
            _ => (self.earned, self.period) = ([0; 2], now),
        }
        let most = PER_SECOND * SAVED_SECONDS + self.earned[0] + self.earned[1];
        self.balance = self
            .balance
            .saturating_add(passed.saturating_mul(PER_SECOND / 1000))
            .min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(budget: &Budget) -> u32 {
        std::iter::repeat_with(|| budget.withdraw())
            .take(1_000_000)
            .take_while(|granted| *granted)
            .count() as u32
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
