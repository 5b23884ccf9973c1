//! KV blocks: which are free, which hold a prefix that another prompt may reuse.

use std::collections::{BTreeMap, HashMap};

use crate::text::model::mix;
use crate::text::tokenizer::Token;

/// A prompt as the block pool sees it.
#[derive(Debug)]
pub(crate) struct Prompt {
    tokens: u32,
    /// Hash of each full block and everything before it.
    hashes: Vec<u64>,
    /// Whether its blocks may be reused from the start; those of a prompt that is still to come from another
    /// engine are published when it has come.
    published: bool,
}

/// Blocks for a prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    pub(super) ids: Vec<u32>,
    pub(super) cached: u32,
}

/// All blocks of an engine. Block 0 is never handed out, as in vLLM.
#[derive(Debug)]
pub(super) struct Pool {
    size: u32,
    caching: bool,
    blocks: Vec<Block>,
    /// Free blocks in the order they will be taken.
    free: BTreeMap<i64, u32>,
    next_free: i64,
    next_front: i64,
    cached: HashMap<u64, u32>,
}

#[derive(Debug, Clone, Default)]
struct Block {
    users: u32,
    hash: Option<u64>,
    free_key: i64,
}

impl Prompt {
    /// `salt` separates prompts that must not share blocks: adapters and cache salts.
    pub(crate) fn new(tokens: &[Token], block_size: u32, salt: u64, published: bool) -> Self {
        let mut hash = mix(salt);
        let full = tokens.chunks_exact(block_size.max(1) as usize);
        let hashes = full
            .map(|block| {
                hash = block
                    .iter()
                    .fold(hash, |hash, &token| mix(hash ^ (u64::from(token) + 1)));
                hash
            })
            .collect();
        Self {
            tokens: tokens.len() as u32,
            hashes,
            published,
        }
    }

    /// Hashes of the full blocks, each with everything before it.
    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }
}

impl Pool {
    pub(super) fn new(blocks: u32, size: u32, caching: bool) -> Self {
        let mut pool = Self {
            size: size.max(1),
            caching,
            blocks: vec![Block::default(); blocks.max(2) as usize],
            free: BTreeMap::new(),
            next_free: 0,
            next_front: -1,
            cached: HashMap::new(),
        };
        for id in 1..pool.blocks.len() as u32 {
            pool.release(id);
        }
        pool
    }

    pub(super) fn block_size(&self) -> usize {
        self.size as usize
    }

    pub(super) fn total(&self) -> usize {
        self.blocks.len() - 1
    }

    pub(super) fn used(&self) -> usize {
        self.total() - self.free.len()
    }

    /// Blocks for a whole prompt, or none if there are not enough.
    pub(super) fn allocate(&mut self, prompt: &Prompt) -> Option<Allocation> {
        // One token must be computed to have something to continue from.
        let reusable = (prompt.tokens.saturating_sub(1) / self.size) as usize;
        let hits: Vec<u32> = match self.caching {
            true => prompt
                .hashes
                .iter()
                .take(reusable)
                .map_while(|hash| self.cached.get(hash).copied())
                .collect(),
            false => Vec::new(),
        };
        let wanted = prompt.tokens.div_ceil(self.size) as usize;
        let idle_hits = hits
            .iter()
            .filter(|&&id| self.blocks[id as usize].users == 0)
            .count();
        // A prompt larger than the whole pool gets what there is, or it would wait for ever.
        let wanted = wanted.min(self.total());
        if wanted.saturating_sub(hits.len()) + idle_hits > self.free.len() {
            return None;
        }
        let cached = hits.len() as u32 * self.size;
        let mut ids = hits;
        for &id in &ids {
            self.claim(id);
        }
        while ids.len() < wanted {
            ids.push(self.one()?);
        }
        if prompt.published {
            self.publish(prompt, &ids);
        }
        Some(Allocation { ids, cached })
    }

    /// One more block.
    pub(super) fn one(&mut self) -> Option<u32> {
        let (_, id) = self.free.pop_first()?;
        let block = &mut self.blocks[id as usize];
        block.users = 1;
        if let Some(hash) = block.hash.take() {
            self.cached.remove(&hash);
        }
        Some(id)
    }

    /// Makes full blocks of a prompt reusable.
    pub(super) fn publish(&mut self, prompt: &Prompt, ids: &[u32]) {
        if !self.caching {
            return;
        }
        for (&hash, &id) in prompt.hashes.iter().zip(ids) {
            let block = &mut self.blocks[id as usize];
            if block.hash.is_none() && !self.cached.contains_key(&hash) {
                block.hash = Some(hash);
                self.cached.insert(hash, id);
            }
        }
    }

    /// Gives blocks back; the last ones are taken again first, because they are the least likely to be reused.
    pub(super) fn free(&mut self, ids: &[u32]) {
        for &id in ids.iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.users = block.users.saturating_sub(1);
            if block.users == 0 {
                self.release(id);
            }
        }
    }

    fn claim(&mut self, id: u32) {
        let block = &mut self.blocks[id as usize];
        if block.users == 0 {
            self.free.remove(&block.free_key);
        }
        block.users += 1;
    }

    fn release(&mut self, id: u32) {
        let started = self.next_free as usize >= self.blocks.len() - 1;
        let block = &mut self.blocks[id as usize];
        // A block that nobody can reuse goes to the front, except at the start.
        block.free_key = if block.hash.is_none() && started {
            self.next_front -= 1;
            self.next_front
        } else {
            self.next_free += 1;
            self.next_free
        };
        self.free.insert(block.free_key, id);
    }
}
