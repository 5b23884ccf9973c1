//! A KV store that several engines share, as LMCache's.
//!
//! Engines of one process that name the same store share it: the only state that engines share. It holds the
//! hashes of prompt chunks; a chunk that is there need not be computed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use crate::sched::Prompt;

/// Chunks that a store holds.
const CHUNKS: usize = 1 << 20;

static STORES: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// One store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Store {
    /// The store of a name; it lives as long as an engine uses it.
    pub(crate) fn named(name: &str) -> Arc<Self> {
        let mut stores = STORES.lock();
        stores.retain(|_, store| store.strong_count() > 0);
        if let Some(store) = stores.get(name).and_then(Weak::upgrade) {
            return store;
        }
        let store = Arc::new(Self::default());
        stores.insert(name.to_owned(), Arc::downgrade(&store));
        store
    }

    /// Stores a prompt's full chunks.
    pub(crate) fn put(&self, prompt: &Prompt) {
        let mut inner = self.inner.lock();
        for &hash in prompt.hashes() {
            if inner.chunks.insert(hash) {
                inner.order.push_back(hash);
            }
        }
        while inner.order.len() > CHUNKS {
            if let Some(oldest) = inner.order.pop_front() {
                inner.chunks.remove(&oldest);
            }
        }
    }

    /// How many chunks of a prompt, from its start, are there.
    pub(crate) fn hits(&self, prompt: &Prompt) -> usize {
        let inner = self.inner.lock();
        prompt
            .hashes()
            .iter()
            .take_while(|hash| inner.chunks.contains(hash))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_store_while_somebody_uses_it() {
        let prompt = Prompt::new(&(0..40).collect::<Vec<_>>(), 16, 0, true);
        let store = Store::named("a-name-of-this-test");
        store.put(&prompt);
        assert_eq!(Store::named("a-name-of-this-test").hits(&prompt), 2);
        assert_eq!(Store::named("another-name-of-this-test").hits(&prompt), 0);
        drop(store);
        assert_eq!(Store::named("a-name-of-this-test").hits(&prompt), 0);
    }
}
