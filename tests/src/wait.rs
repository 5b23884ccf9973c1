//! Waiting for a condition, with a deadline and a reason.

use std::{fmt::Debug, future::Future, time::Duration};

use anyhow::{Result, bail};

use crate::stopwatch::Stopwatch;

/// What most waits may take. Generous, since it is spent only by tests that fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(25);

/// The pause between two looks.
pub async fn a_moment() {
    tokio::time::sleep(PAUSE).await;
}

/// Looks until `check` finds something, for [`PATIENCE`] at most. An error from `check` counts as "not yet" and becomes
/// the reason when time runs out.
pub async fn until<T, F, Fut>(what: &str, check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    within(PATIENCE, what, check).await
}

/// [`until`] with another deadline.
pub async fn within<T, F, Fut>(limit: Duration, what: &str, mut check: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let clock = Stopwatch::start();
    loop {
        let reason = match tokio::time::timeout(limit.saturating_sub(clock.elapsed()), check()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("the last look did not come back")),
        };
        if clock.elapsed() >= limit {
            match reason {
                Some(reason) => return Err(reason.context(format!("waited {limit:?} for {what}"))),
                None => bail!("waited {limit:?} for {what}"),
            }
        }
        a_moment().await;
    }
}

/// [`within`], but an error of `alive`, which comes before every look, ends it at once.
pub async fn within_while<T, F, Fut>(
    limit: Duration,
    what: &str,
    mut alive: impl FnMut() -> Result<()>,
    mut look: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let found = within(limit, what, || {
        let look = alive().map(|()| look());
        async move {
            match look {
                Ok(look) => Ok(look.await?.map(Ok)),
                Err(ended) => Ok(Some(Err(ended))),
            }
        }
    });
    found.await.flatten()
}

/// Looks until `observe` gives what `accept` takes; when time runs out, the error shows the last observation.
pub async fn until_value<T, F, Fut>(what: &str, mut observe: F, accept: impl Fn(&T) -> bool) -> Result<T>
where
    T: Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let clock = Stopwatch::start();
    loop {
        let seen = observe().await;
        match seen {
            Ok(value) if accept(&value) => return Ok(value),
            seen if clock.elapsed() >= PATIENCE => match seen {
                Ok(value) => bail!("waited {PATIENCE:?} for {what}; last seen: {value:?}"),
                Err(error) => return Err(error.context(format!("waited {PATIENCE:?} for {what}"))),
            },
            _ => a_moment().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reason_of_the_last_look_is_part_of_the_error() {
        let look = || async { anyhow::bail!("connection refused") };
        let error = within::<(), _, _>(Duration::from_millis(60), "a server", look)
            .await
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("for a server") && text.contains("connection refused"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn looks_go_on_until_one_succeeds() {
        let mut looks = 0;
        let found = until("the third look", || {
            looks += 1;
            let answer = (looks == 3).then_some(looks);
            async move { Ok(answer) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }
}
