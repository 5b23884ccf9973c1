//! Computing sequences: waiting, prefill or hand-over, then token after token.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::config::{Connector, Role};
use crate::engine::Engine;
use crate::kv::params::{self, Kept};
use crate::kv::{Give, Payload, Transfer};
use crate::models::Use;
use crate::sched::{Prompt, Ticket};
use crate::text::model::State;
use crate::text::tokenizer::Token;

mod job;
mod output;
mod sampling;

pub(crate) use job::{Failure, Job};
use output::Output;
pub(crate) use output::{Finish, Step, TokenLogprob};
pub(crate) use sampling::Sampling;

/// One sequence.
pub(crate) struct Sequence {
    job: Arc<Job>,
    id: String,
    prompt: Arc<[Token]>,
    ticket: Option<Ticket>,
    output: Output,
    /// When the next token is there.
    next_at: Instant,
    /// When the last token came.
    last_at: Instant,
    times: Times,
    adapter: Option<Use>,
    pub(crate) cached: u32,
    pub(crate) created: u32,
}

/// Moments of a sequence's life, and what it cost.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub(crate) arrived: Instant,
    pub(crate) seated: Instant,
    pub(crate) first: Instant,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached: u32,
    pub(crate) external: u32,
    pub(crate) generated: u32,
}

/// Brings the engine down when the sequence that waits for ever is given up.
struct Bomb(Arc<Engine>);

// === impl Sequence ===

impl Sequence {
    /// Brings a prompt to its first token. `child` tells the answers of one prompt apart.
    pub(crate) async fn begin(
        job: &Arc<Job>,
        id: String,
        prompt: Arc<[Token]>,
        child: u32,
    ) -> Result<Self, Failure> {
        let engine = &job.engine;
        let config = &engine.config;
        if !config.overhead.is_zero() {
            tokio::time::sleep(config.overhead).await;
        }
        let taking = matches!(job.transfer, Transfer::Take(_));
        let blocks = Arc::new(Prompt::new(&prompt, config.block_size, job.salt, !taking));
        let mut adapter = job.adapter.as_deref().map(|name| engine.adapters.wait(name));
        let mut ticket = engine.scheduler.admit(blocks.clone()).await;
        if let Some(adapter) = &mut adapter {
            adapter.run();
        }
        let seated = Instant::now();
        let cached = ticket.cached;
        let length = prompt.len() as u32;
        let mut external = 0;
        let state = match &job.transfer {
            Transfer::Stuck { deadly } => {
                ticket.set_loading(true);
                let _bomb = deadly.then(|| Bomb(engine.clone()));
                std::future::pending::<State>().await
            }
            Transfer::Fatal => {
                engine.die();
                std::future::pending::<State>().await
            }
            // An assertion of the real engine: it may not read more blocks than it was given.
            Transfer::Take(take)
                if take.is_short(length.div_ceil(config.block_size) - cached / config.block_size) =>
            {
                engine.die();
                std::future::pending::<State>().await
            }
            Transfer::Take(_) => {
                ticket.set_loading(true);
                let arrived = job.arrive().await?;
                ticket.set_loading(false);
                if !arrived.garbled {
                    ticket.publish(&blocks);
                }
                external = length - cached;
                arrived.state(&prompt)
            }
            Transfer::None | Transfer::Give(_) => {
                let state = State::after(job.weights, &prompt);
                external = from_store(job, &blocks, length, cached).await;
                let alone = matches!(job.transfer, Transfer::None) && config.connector != Connector::Lmcache;
                if alone && config.role == Role::Decode && child == 0 {
                    engine.counters.recomputed();
                }
                job.prefill(length - cached - external, state).await;
                state
            }
        };
        let first = Instant::now();
        let counters = &engine.counters;
        counters
            .prompt_tokens
            .fetch_add(u64::from(length), Ordering::Relaxed);
        counters
            .cached_tokens
            .fetch_add(u64::from(cached), Ordering::Relaxed);
        let full = length / config.block_size.max(1) * config.block_size;
        let created = if taking { 0 } else { full.saturating_sub(cached) };
        let shown = if taking {
            job.prefill_cached().unwrap_or(cached + external)
        } else {
            cached + external
        };
        let times = Times {
            arrived: job.at,
            seated,
            first,
            prompt_tokens: length,
            cached,
            external,
            generated: 0,
        };
        engine.metrics.first_token(&times);
        Ok(Self {
            output: Output::new(state, job.sampling.seed(child), &job.sampling, config.eos),
            job: job.clone(),
            id,
            prompt,
            ticket: Some(ticket),
            next_at: first,
            last_at: first,
            adapter,
            times,
            cached: shown,
            created,
        })
    }

    /// Generates up to so many tokens and waits until the last of them is there.
    pub(crate) async fn step(&mut self, most: usize) -> Result<Step, Failure> {
        let mut step = Step::default();
        while step.tokens.len() < most && step.finish.is_none() {
            let (state, before) = (self.output.state(), self.output.len());
            self.output.advance(&self.job.sampling, &mut step);
            if before > 0 {
                self.next_at += self.job.token_time(state);
            }
        }
        if let Some(ticket) = &mut self.ticket {
            ticket.grow(self.prompt.len() + self.output.len());
        }
        if self.next_at > Instant::now() {
            tokio::time::sleep_until(self.next_at).await;
        } else {
            tokio::task::consume_budget().await;
        }
        let now = Instant::now();
        let after_first = step.tokens.len().min(self.output.len().saturating_sub(1));
        self.job
            .engine
            .metrics
            .tokens(after_first as u64, now - self.last_at);
        self.last_at = now;
        if let Some(finish) = &mut step.finish {
            finish.params = self.end(finish).await?;
        }
        Ok(step)
    }

    pub(crate) fn generated(&self) -> u32 {
        self.output.len() as u32
    }

    /// Ends the sequence: hands its prompt over, or frees its blocks.
    async fn end(&mut self, finish: &Finish) -> Result<Option<Box<RawValue>>, Failure> {
        let engine = self.job.engine.clone();
        self.times.generated = self.output.len() as u32;
        engine
            .counters
            .generated_tokens
            .fetch_add(u64::from(self.times.generated), Ordering::Relaxed);
        engine
            .metrics
            .finished(&self.times, self.last_at, finish.is_stop(), &self.job.sampling);
        self.adapter = None;
        let Some(ticket) = self.ticket.take() else {
            return Ok(None);
        };
        if let Some(store) = &engine.store {
            let prompt = Prompt::new(&self.prompt, engine.config.block_size, self.job.salt, true);
            if let Err(refusal) = store.put(prompt.hashes(), engine.config.connect_timeout).await {
                refusal.count(&engine.counters);
            }
        }
        // The Mooncake connectors do not hand over a prompt whose answer ended by itself; the others do.
        let mooncake = matches!(
            engine.config.connector,
            Connector::Mooncake | Connector::MooncakeAscend
        );
        let give = match &self.job.transfer {
            Transfer::Give(give) if !(mooncake && finish.is_stop()) => give,
            _ => return Ok(None),
        };
        // The last token was said and never computed.
        let computed = self.prompt.len() + self.output.len().saturating_sub(1);
        let ids = ticket.ids(computed);
        let payload = Payload::new(self.job.weights, &self.prompt, ids.len());
        let key = match give {
            Give::Answered => &self.id,
            Give::Named(key) | Give::Met(key) => key,
        };
        let offer = engine
            .table
            .offer(key, payload, ids.clone(), ticket.into_blocks());
        match give {
            Give::Met(_) => {
                if let Err(refusal) = engine
                    .table
                    .read(offer.key(), engine.config.transfer_timeout)
                    .await
                {
                    refusal.count(&engine.counters);
                    return Err(refusal.into());
                }
                Ok(None)
            }
            Give::Answered | Give::Named(_) => {
                let (host, port) = &engine.side_channel;
                let params = params::answer(
                    engine.config.connector,
                    &Kept {
                        request_id: offer.key(),
                        block_ids: &ids,
                        computed_tokens: computed as u32,
                        cached_tokens: (self.output.len() == 1).then_some(self.times.cached),
                        last_token: self.output.last(),
                        engine_id: &engine.engine_id,
                        host,
                        port: *port,
                    },
                );
                self.job.offers.lock().push(offer);
                Ok(params)
            }
        }
    }
}

/// Tokens that the shared store has beyond the engine's own cache.
async fn from_store(job: &Job, blocks: &Prompt, length: u32, cached: u32) -> u32 {
    let engine = &job.engine;
    let Some(store) = &engine.store else { return 0 };
    let size = engine.config.block_size.max(1);
    let usable = length.saturating_sub(1) / size * size;
    let hits = match store.hits(blocks.hashes(), engine.config.connect_timeout).await {
        Ok(hits) => hits,
        Err(refusal) => {
            refusal.count(&engine.counters);
            0
        }
    };
    let stored = (hits as u32 * size).min(usable);
    if engine.config.role == Role::Decode && stored.max(cached) < usable {
        engine.counters.recomputed();
    }
    stored.saturating_sub(cached)
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.die();
    }
}
