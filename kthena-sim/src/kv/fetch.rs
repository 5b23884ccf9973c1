//! The decode engine's side: fetching a prompt from the engine that has it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::{Arrived, Payload, Refusal, Take};
use crate::config::Config;
use crate::engine::Engine;
use crate::http::client::{self, CallError};

/// Between two attempts to reach a prefill engine.
const RETRY: Duration = Duration::from_millis(50);
/// How long a request that has ended tries to reach a prefill engine.
const RELEASE: Duration = Duration::from_secs(5);

/// Asks for a prompt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) key: String,
    pub(crate) engine_id: Option<String>,
    pub(crate) blocks: Option<Vec<u32>>,
    /// How long it may still take until the prompt is there.
    pub(crate) wait_ms: Option<u64>,
}

/// Refuses a prompt.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) refused: Refusal,
}

/// A prompt that this request may fetch. If the request ends before it has, the prefill engine is told, so
/// that it does not keep the blocks.
pub(crate) struct Claim {
    take: Arc<Take>,
    engine: Arc<Engine>,
    settled: bool,
}

impl Claim {
    pub(crate) fn new(take: Take, engine: Arc<Engine>) -> Self {
        let settled = !take.releases;
        Self {
            take: Arc::new(take),
            engine,
            settled,
        }
    }

    /// Fetches the prompt.
    pub(crate) async fn fetch(&mut self, config: &Config) -> Result<Arrived, Refusal> {
        let outcome = fetch(&self.take, config).await;
        self.settled |= outcome.is_ok()
            || matches!(
                outcome,
                Err(Refusal::Used | Refusal::Expired | Refusal::Unreachable)
            );
        outcome.map(Arc::new)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // An engine that is gone tells nobody.
        if self.settled || !self.engine.is_up() || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let take = self.take.clone();
        self.engine.tasks.spawn(async move {
            let ask = Ask {
                key: take.key.clone(),
                engine_id: take.engine_id.clone(),
                blocks: None,
                wait_ms: None,
            };
            if let Err(error) = client::post(&take.host, take.port, "/kv/release", &ask, RELEASE).await {
                tracing::debug!(%error, key = take.key, "a prefill engine was not told to let go");
            }
        });
    }
}

async fn fetch(take: &Take, config: &Config) -> Result<Payload, Refusal> {
    let deadline = Instant::now() + config.connect_timeout;
    let (host, port) = if take.by_query {
        let (status, body) = reach(deadline, || {
            client::get(&take.host, take.port, "/query", config.connect_timeout)
        })
        .await?;
        let engine = take.engine_id.as_deref().unwrap_or_default();
        worker(status, &body, engine).ok_or(Refusal::Foreign)?
    } else {
        (take.host.clone(), take.port)
    };
    let wait = config.transfer_timeout;
    let ask = Ask {
        key: take.key.clone(),
        engine_id: take.engine_id.clone(),
        blocks: take.blocks.clone(),
        wait_ms: take.may_wait.then_some(wait.as_millis() as u64),
    };
    // The other side ends the wait; the margin is for one that died without a word.
    let patience = wait + config.connect_timeout;
    let call = reach(deadline, || {
        client::post(&host, port, "/kv/take", &ask, config.connect_timeout)
    });
    let (status, body) = tokio::time::timeout(patience, call)
        .await
        .map_err(|_elapsed| Refusal::Timeout)??;
    if status == 200 {
        return serde_json::from_slice(&body).map_err(|_garbage| Refusal::Unreachable);
    }
    Err(serde_json::from_slice::<Refused>(&body).map_or(Refusal::Unreachable, |answer| answer.refused))
}

/// Tries until the peer answers or the time to reach it is over; an answer that breaks off is not retried.
async fn reach<F>(deadline: Instant, call: impl Fn() -> F) -> Result<(u16, Vec<u8>), Refusal>
where
    F: Future<Output = Result<(u16, Vec<u8>), CallError>>,
{
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                tracing::debug!(%error, "a prefill engine did not answer");
                if Instant::now() + RETRY >= deadline {
                    tokio::time::sleep_until(deadline).await;
                    return Err(Refusal::Unreachable);
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The address of an engine in a bootstrap server's answer.
fn worker(status: u16, body: &[u8], engine_id: &str) -> Option<(String, u16)> {
    if status != 200 {
        return None;
    }
    let ranks: Value = serde_json::from_slice(body).ok()?;
    let rank = ranks
        .as_object()?
        .values()
        .find(|rank| rank["engine_id"] == engine_id)?;
    let address = rank["worker_addr"]["0"]["0"]
        .as_str()?
        .trim_start_matches("tcp://");
    let (host, port) = address.rsplit_once(':')?;
    Some((host.to_owned(), port.parse().ok()?))
}
