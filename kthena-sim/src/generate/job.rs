//! One request's part of the computing: what its sequences share.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::Sampling;
use crate::engine::Engine;
use crate::kv::fetch::Claim;
use crate::kv::table::Offer;
use crate::kv::{Arrived, Refusal, Transfer};
use crate::text::model::{State, Weights};

/// What the sequences of one request have in common.
pub(crate) struct Job {
    pub(crate) engine: Arc<Engine>,
    pub(crate) weights: Weights,
    /// The LoRA adapter, if one is used.
    pub(crate) adapter: Option<String>,
    /// Keeps prompts apart that must not share blocks.
    pub(crate) salt: u64,
    pub(crate) sampling: Sampling,
    pub(super) transfer: Transfer,
    claim: tokio::sync::Mutex<Option<Claim>>,
    arrived: OnceCell<Arrived>,
    pub(super) offers: Mutex<Vec<Offer>>,
    pub(crate) at: Instant,
}

/// Why a sequence has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the KV blocks of the prompt did not arrive")]
    Transfer(#[from] Refusal),
}

// === impl Job ===

impl Job {
    pub(crate) fn new(
        engine: Arc<Engine>,
        adapter: Option<String>,
        salt: u64,
        sampling: Sampling,
        transfer: Transfer,
    ) -> Arc<Self> {
        let weights = Weights::of(engine.config.root(), adapter.as_deref());
        let claim = match &transfer {
            Transfer::Take(take) => Some(Claim::new(take.clone(), engine.clone())),
            _ => None,
        };
        Arc::new(Self {
            engine,
            weights,
            adapter,
            salt,
            sampling,
            transfer,
            claim: tokio::sync::Mutex::new(claim),
            arrived: OnceCell::new(),
            offers: Mutex::default(),
            at: Instant::now(),
        })
    }

    /// The answer is out: what was offered stays on offer.
    pub(crate) fn delivered(&self) {
        for offer in self.offers.lock().drain(..) {
            offer.keep();
        }
    }

    /// Tokens that the prefill engine had in its cache, where the request says so.
    pub(super) fn prefill_cached(&self) -> Option<u32> {
        match &self.transfer {
            Transfer::Take(take) => take.prefill_cached,
            _ => None,
        }
    }

    /// Gets the prompt from the prefill engine, once for all sequences.
    pub(super) async fn arrive(&self) -> Result<Arrived, Failure> {
        let fetched = self.arrived.get_or_try_init(|| async {
            let begun = Instant::now();
            let mut claim = self.claim.lock().await;
            let fetched = match claim.as_mut() {
                Some(claim) => claim.fetch(&self.engine.config).await,
                None => Err(Refusal::Unknown),
            };
            let counters = &self.engine.counters;
            match &fetched {
                Ok(payload) => {
                    counters.kv(|kv| {
                        kv.received += u64::from(payload.blocks);
                        kv.transfers_in += 1;
                    });
                    self.engine
                        .metrics
                        .transferred(payload.len(), payload.blocks, begun.elapsed());
                }
                Err(refusal) => refusal.count(counters),
            }
            fetched
        });
        Ok(fetched.await?.clone())
    }

    pub(super) async fn prefill(&self, tokens: u32, state: State) {
        let config = &self.engine.config;
        if config.prefill_tokens_per_second > 0.0 {
            let seconds = f64::from(tokens) / config.prefill_tokens_per_second * self.jitter(state);
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
    }

    /// How much longer than usual something takes.
    fn jitter(&self, state: State) -> f64 {
        let jitter = self.engine.config.jitter.clamp(0.0, 1.0);
        1.0 + jitter * (state.number(6, 2001) as f64 / 1000.0 - 1.0)
    }

    pub(super) fn token_time(&self, state: State) -> Duration {
        let rate = self.engine.config.decode_tokens_per_second;
        if rate > 0.0 {
            Duration::from_secs_f64(self.jitter(state) / rate)
        } else {
            Duration::ZERO
        }
    }
}
