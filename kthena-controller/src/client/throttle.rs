//! Requests at a steady pace: a token bucket in front of a service.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tower::{Layer, Service};

use crate::args::Pace;

/// Lets requests through as fast as told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throttle {
    pace: Pace,
}

/// A service whose requests wait for their turn.
pub(crate) struct Throttled<S> {
    inner: S,
    bucket: Bucket,
    turn: Option<Pin<Box<Sleep>>>,
}

/// A bucket of tokens, kept as the time at which it would be full.
#[derive(Debug)]
struct Bucket {
    /// Between two tokens.
    interval: Duration,
    /// How long an empty bucket takes to fill, but for one token.
    slack: Duration,
    full: Instant,
}

impl Throttle {
    pub(crate) const fn new(pace: Pace) -> Self {
        Self { pace }
    }
}

impl<S> Layer<S> for Throttle {
    type Service = Throttled<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Throttled {
            inner,
            bucket: Bucket::new(self.pace, Instant::now()),
            turn: None,
        }
    }
}

impl<S: Service<R>, R> Service<R> for Throttled<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let bucket = &mut self.bucket;
        let turn = self
            .turn
            .get_or_insert_with(|| Box::pin(sleep_until(bucket.take(Instant::now()))));
        ready!(turn.as_mut().poll(cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.turn = None;
        self.inner.call(request)
    }
}

impl Bucket {
    fn new(pace: Pace, now: Instant) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / pace.rate).unwrap_or(Duration::MAX);
        Self {
            interval,
            slack: interval.saturating_mul(pace.burst.saturating_sub(1)),
            full: now,
        }
    }

    /// Takes a token, and says when it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        let turn = self
            .full
            .checked_sub(self.slack)
            .map_or(now, |turn| turn.max(now));
        // A pace of less than a request in centuries means never.
        self.full = self.full.max(now).checked_add(self.interval).unwrap_or(self.full);
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { rate: 5.0, burst: 3 };

    /// When requests that come at these times, in milliseconds, get their turn.
    fn turns(times: &[u64]) -> Vec<u64> {
        let start = Instant::now();
        let mut bucket = Bucket::new(PACE, start);
        let millis = |at: Instant| u64::try_from(at.duration_since(start).as_millis()).unwrap();
        let turn = |time: &u64| millis(bucket.take(start + Duration::from_millis(*time)));
        times.iter().map(turn).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rest_at_the_pace() {
        assert_eq!(turns(&[0; 6]), [0, 0, 0, 200, 400, 600]);
        assert_eq!(turns(&[0, 0, 0, 300, 300]), [0, 0, 0, 300, 400]);
        assert_eq!(
            turns(&[0, 200, 400, 600, 800, 1000]),
            [0, 200, 400, 600, 800, 1000]
        );
        // A pause fills the bucket, and no more than that.
        assert_eq!(
            turns(&[0, 0, 0, 9000, 9000, 9000, 9000]),
            [0, 0, 0, 9000, 9000, 9000, 9200]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_is_asked_at_the_pace() {
        let echo = tower::service_fn(|number: u32| async move { Ok::<_, std::convert::Infallible>(number) });
        let mut service = Throttle::new(PACE).layer(echo);
        let begun = Instant::now();
        for number in 0..8 {
            std::future::poll_fn(|cx| Service::<u32>::poll_ready(&mut service, cx))
                .await
                .unwrap();
            assert_eq!(service.call(number).await.unwrap(), number);
        }
        assert_eq!(begun.elapsed().as_millis().div_ceil(10), 100);
    }

    #[test]
    fn no_pace_breaks_it() {
        for rate in [f64::MIN_POSITIVE, f64::MAX, f64::INFINITY] {
            let now = Instant::now();
            let mut bucket = Bucket::new(
                Pace {
                    rate,
                    burst: u32::MAX,
                },
                now,
            );
            assert!((0..10).all(|_| bucket.take(now) >= now));
        }
    }
}
