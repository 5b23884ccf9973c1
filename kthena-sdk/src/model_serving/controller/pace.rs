//! Requests for the same object, at most one in a while: the first at once, what comes soon after it together.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use futures::{Stream, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What was let through not long ago.
struct Pace<T> {
    waiting: mpsc::Receiver<T>,
    pause: Duration,
    /// Whether it was asked for again.
    recent: HashMap<T, bool>,
    /// When its pause ends, the earliest first.
    ends: VecDeque<(Instant, T)>,
}

/// Lets items through, each one of them no more often than once in this time. None is lost: whatever comes during the pause comes out at its
/// end, once.
///
/// Unlike with a debounce, a steady stream of requests for an item does not hold it back.
pub(super) fn paced<T: Hash + Eq + Clone>(
    waiting: mpsc::Receiver<T>,
    pause: Duration,
) -> impl Stream<Item = T> {
    let pace = Pace {
        waiting,
        pause,
        recent: HashMap::new(),
        ends: VecDeque::new(),
    };
    stream::unfold(pace, async |mut pace| {
        let item = pace.next().await?;
        Some((item, pace))
    })
}

impl<T: Hash + Eq + Clone> Pace<T> {
    /// The next item; `None` once there will be none.
    async fn next(&mut self) -> Option<T> {
        loop {
            let end = self.ends.front().map(|(end, _)| *end);
            let asked = tokio::select! {
                biased;
                () = async { sleep_until(end.unwrap_or_else(Instant::now)).await }, if end.is_some() => None,
                asked = self.waiting.recv() => Some(asked?),
            };
            let item = match asked {
                Some(item) => match self.recent.get_mut(&item) {
                    Some(again) => {
                        *again = true;
                        continue;
                    }
                    None => item,
                },
                None => {
                    let Some((_, item)) = self.ends.pop_front() else {
                        continue;
                    };
                    if self.recent.remove(&item) != Some(true) {
                        continue;
                    }
                    item
                }
            };
            self.recent.insert(item.clone(), false);
            self.ends.push_back((Instant::now() + self.pause, item.clone()));
            return Some(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(100);

    async fn next<S: Stream<Item = u8> + Unpin>(items: &mut S) -> (u8, Duration) {
        let before = Instant::now();
        let item = items.next().await.unwrap();
        (item, before.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_comes_at_once_and_what_follows_soon_comes_together() {
        let (ask, waiting) = mpsc::channel(100);
        let mut items = std::pin::pin!(paced(waiting, PAUSE));
        for item in [1, 1, 2, 1, 2, 1] {
            ask.send(item).await.unwrap();
        }
        assert_eq!(next(&mut items).await, (1, Duration::ZERO));
        assert_eq!(next(&mut items).await, (2, Duration::ZERO));
        let (item, after) = next(&mut items).await;
        assert!(item == 1 && after >= PAUSE, "{item} after {after:?}");
        assert_eq!(next(&mut items).await.0, 2);
        tokio::time::timeout(PAUSE * 10, items.next()).await.unwrap_err();
        ask.send(1).await.unwrap();
        assert_eq!(next(&mut items).await, (1, Duration::ZERO));
        drop(ask);
        assert_eq!(items.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_holds_nothing_back() {
        let (ask, waiting) = mpsc::channel(100);
        let asks = async move {
            for _ in 0..1000 {
                ask.send(1).await.unwrap();
                tokio::time::sleep(PAUSE / 20).await;
            }
        };
        let items = paced(waiting, PAUSE).count();
        let ((), count) = tokio::join!(asks, items);
        assert!((49..=51).contains(&count), "{count}");
    }
}
