//! Choosing engines: filter, score, pick.
//!
//! Pure: plugins see the request and the candidates' own numbers; nothing is awaited, counted or timed. An addition is a file
//! below `schedule/plugins` and a line in [`plugins::ALL`].

use std::sync::Arc;

use rand::Rng;
use rand::seq::index;

use crate::cluster::endpoint::Endpoint;
use crate::cluster::snapshot::{Pool, SplitPool};

pub mod plugins;

/// How many candidates are looked at for one request. Of a larger fleet a random sample of this size is scored, so that the
/// cost of a request does not grow with the fleet while the choice stays as good as one among this many.
pub const SAMPLE: usize = 64;

/// What plugins may know of a request.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The model that the engine will be asked for.
    pub model: &'a str,
}

/// An engine that could take the request.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The engine.
    pub endpoint: &'a Arc<Endpoint>,
    /// Requests in flight there, read once so that one decision sees one number.
    pub in_flight: u32,
    index: usize,
}

/// Takes candidates away.
pub trait Filter: Send + Sync {
    /// Whether a candidate may stay.
    fn keep(&self, request: &Request<'_>, candidate: &Candidate<'_>) -> bool;
}

/// Rates candidates.
pub trait Score: Send + Sync {
    /// Writes a score from 0 to 100 for each candidate; the whole slice at once, because formulas take a maximum over it.
    fn score(&self, request: &Request<'_>, candidates: &[Candidate<'_>], scores: &mut [f64]);
}

/// The configured plugins.
pub struct Scheduler {
    filters: Vec<Box<dyn Filter>>,
    scorers: Vec<(Box<dyn Score>, f64)>,
}

impl Default for Scheduler {
    /// Least requests in flight.
    fn default() -> Self {
        Self {
            filters: Vec::new(),
            scorers: vec![(Box::new(plugins::LeastRequest), 1.0)],
        }
    }
}

/// Engines for a request.
#[derive(Debug, Clone)]
pub enum Choice {
    /// One engine answers.
    Whole(Arc<Endpoint>),
    /// Prefill on the first, decode on the second.
    Pair(Arc<Endpoint>, Arc<Endpoint>),
}

impl PartialEq for Choice {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Arc::ptr_eq(a, b),
            (Self::Pair(a, b), Self::Pair(c, d)) => Arc::ptr_eq(a, c) && Arc::ptr_eq(b, d),
            _ => false,
        }
    }
}

/// Which engines a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A prefill and a decode engine that belong together; on a server that is not split, one engine.
    Pair,
    /// One prefill engine, or any where the server is not split.
    Prefill,
    /// One decode engine, or any where the server is not split.
    Decode,
}

/// What this request has tried before. Engines that it failed on are taken again only where no other is left.
#[derive(Debug, Default)]
pub struct Tried {
    failed: Vec<Arc<Endpoint>>,
    asked: Vec<Choice>,
}

impl Tried {
    /// Remembers an engine's failure.
    pub fn add(&mut self, endpoint: &Arc<Endpoint>) {
        if !self.has(endpoint) {
            self.failed.push(endpoint.clone());
        }
    }

    /// Whether this request has failed there.
    #[must_use]
    pub fn has(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.failed.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }

    /// Remembers that an engine, or two together, were asked.
    pub fn ask(&mut self, choice: &Choice) {
        self.asked.push(choice.clone());
    }

    /// Whether they were asked before.
    #[must_use]
    pub fn has_asked(&self, choice: &Choice) -> bool {
        self.asked.contains(choice)
    }

    /// The less, the better: engines that failed come behind others.
    fn rank(&self, endpoint: &Arc<Endpoint>) -> u8 {
        u8::from(self.has(endpoint))
    }

    /// The less, the better: two of which one has failed come behind others, two that were asked together behind those, because
    /// what fails with one partner may do well with another.
    fn rank_pair(&self, prefill: &Arc<Endpoint>, decode: &Arc<Endpoint>) -> u8 {
        const ASKED: u8 = 3;
        if self.has_asked(&Choice::Pair(prefill.clone(), decode.clone())) {
            ASKED
        } else {
            self.rank(prefill) + self.rank(decode)
        }
    }

    /// The rank of a decode engine with the best of its partners.
    fn rank_best(&self, partners: &[Arc<Endpoint>], decode: &Arc<Endpoint>) -> u8 {
        if self.failed.is_empty() && self.asked.is_empty() {
            return 0; // which is what most requests ask for
        }
        let ranks = partners.iter().map(|prefill| self.rank_pair(prefill, decode));
        ranks.min().unwrap_or(u8::MAX)
    }
}

impl Scheduler {
    /// Chooses engines of a pool; `None` where it has none that fit.
    pub fn choose(
        &self,
        request: &Request<'_>,
        pool: &Pool,
        wanted: Wanted,
        tried: &Tried,
    ) -> Option<Choice> {
        let one = |all: &[Arc<Endpoint>]| {
            self.pick(request, all.len(), |i| &all[i], |i| tried.rank(&all[i]))
                .map(|i| all[i].clone())
        };
        match (pool, wanted) {
            (Pool::Whole(all), _) => one(all).map(Choice::Whole),
            (Pool::Split(split), Wanted::Pair) => self.choose_pair(request, split, tried),
            (Pool::Split(split), Wanted::Prefill) => one(&split.all_prefill).map(Choice::Whole),
            (Pool::Split(split), Wanted::Decode) => one(&split.all_decode).map(Choice::Whole),
        }
    }

    /// The best decode engine that has a partner, then the best partner in its cell.
    fn choose_pair(&self, request: &Request<'_>, split: &SplitPool, tried: &Tried) -> Option<Choice> {
        let all = &split.decode;
        let partners = |cell: usize| split.cells.get(cell).map_or(&[][..], |cell| &cell.prefill);
        let rank = |i: usize| tried.rank_best(partners(all[i].1), &all[i].0);
        let decode = self.pick(request, all.len(), |i| &all[i].0, rank)?;
        let (decode, cell) = &all[decode];
        let partners = partners(*cell);
        let rank = |i: usize| tried.rank_pair(&partners[i], decode);
        let prefill = self.pick(request, partners.len(), |i| &partners[i], rank)?;
        Some(Choice::Pair(partners[prefill].clone(), decode.clone()))
    }

    fn pick<'a>(
        &self,
        request: &Request<'_>,
        count: usize,
        get: impl Fn(usize) -> &'a Arc<Endpoint>,
        rank: impl Fn(usize) -> u8,
    ) -> Option<usize> {
        let candidate = |index| {
            let endpoint = get(index);
            Candidate {
                endpoint,
                in_flight: endpoint.in_flight(),
                index,
            }
        };
        let mut candidates: Vec<Candidate<'_>> = if count <= SAMPLE {
            (0..count).map(candidate).collect()
        } else {
            index::sample(&mut rand::rng(), count, SAMPLE)
                .into_iter()
                .map(candidate)
                .collect()
        };
        candidates.retain(|one| self.filters.iter().all(|filter| filter.keep(request, one)));
        let best = candidates.iter().map(|one| rank(one.index)).min()?;
        candidates.retain(|one| rank(one.index) == best);
        match candidates.as_slice() {
            [] => None,
            [only] => Some(only.index),
            several => self.best(request, several),
        }
    }

    fn best(&self, request: &Request<'_>, candidates: &[Candidate<'_>]) -> Option<usize> {
        let mut totals = vec![0.0; candidates.len()];
        let mut scores = vec![0.0; candidates.len()];
        for (scorer, weight) in &self.scorers {
            scores.fill(0.0);
            scorer.score(request, candidates, &mut scores);
            totals
                .iter_mut()
                .zip(&scores)
                .for_each(|(total, score)| *total += weight * score);
        }
        // The n-th of equals takes the place with one chance in n, which makes all of them equally likely.
        let (mut best, mut equals) = (0, 0_u32);
        for (at, total) in totals.iter().enumerate() {
            if *total > totals[best] {
                (best, equals) = (at, 1);
            } else if *total == totals[best] {
                equals += 1;
                if rand::rng().random_range(0..equals) == 0 {
                    best = at;
                }
            }
        }
        candidates.get(best).map(|one| one.index)
    }
}

#[cfg(test)]
mod tests;
