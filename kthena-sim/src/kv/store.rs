//! A KV store that several engines share, as LMCache's.
//!
//! Engines of one process that name the same store share it: the only state that engines share. Engines of
//! several processes name the address of one that serves its store. It holds the hashes of prompt chunks; a
//! chunk that is there need not be computed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;

use super::Refusal;
use crate::http::client;
use crate::http::conn::Service;
use crate::http::request::Request;
use crate::http::respond::{Cut, Reply, Responder};

/// Chunks that a store holds.
const CHUNKS: usize = 1 << 20;

static STORES: LazyLock<Mutex<HashMap<String, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// A store as an engine reaches it.
#[derive(Debug)]
pub(crate) enum Access {
    /// In this process.
    Here(Arc<Store>),
    /// In another one.
    There { host: String, port: u16 },
}

/// Serves a store to engines of other processes.
pub(crate) struct Server(pub(crate) Arc<Store>);

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

    fn put(&self, chunks: &[u64]) {
        let mut inner = self.inner.lock();
        for &hash in chunks {
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

    fn hits(&self, chunks: &[u64]) -> usize {
        let inner = self.inner.lock();
        chunks
            .iter()
            .take_while(|hash| inner.chunks.contains(hash))
            .count()
    }
}

impl Access {
    /// The store that a configuration names: `tcp://host:port`, or a name in this process.
    pub(crate) fn named(name: &str) -> Self {
        let address = name
            .strip_prefix("tcp://")
            .and_then(|address| address.rsplit_once(':'));
        match address.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))) {
            Some((host, port)) => Self::There { host, port },
            None => Self::Here(Store::named(name)),
        }
    }

    /// Stores a prompt's full chunks.
    pub(crate) async fn put(&self, chunks: &[u64], patience: Duration) -> Result<(), Refusal> {
        match self {
            Self::Here(store) => store.put(chunks),
            Self::There { host, port } => drop(ask(host, *port, "/store/put", chunks, patience).await?),
        }
        Ok(())
    }

    /// How many chunks of a prompt, from its start, are there.
    pub(crate) async fn hits(&self, chunks: &[u64], patience: Duration) -> Result<usize, Refusal> {
        match self {
            Self::Here(store) => Ok(store.hits(chunks)),
            Self::There { host, port } => {
                let answer = ask(host, *port, "/store/hits", chunks, patience).await?;
                Ok(answer
                    .as_u64()
                    .and_then(|hits| usize::try_from(hits).ok())
                    .unwrap_or(0))
            }
        }
    }
}

async fn ask(
    host: &str,
    port: u16,
    path: &str,
    chunks: &[u64],
    patience: Duration,
) -> Result<serde_json::Value, Refusal> {
    match client::post(host, port, path, &chunks, patience).await {
        Ok((200, body)) => Ok(serde_json::from_slice(&body).unwrap_or_default()),
        Ok((status, _)) => {
            tracing::debug!(status, "the shared store does not answer as one");
            Err(Refusal::Unreachable)
        }
        Err(error) => {
            tracing::debug!(%error, "the shared store is not there");
            Err(Refusal::Unreachable)
        }
    }
}

impl Service for Server {
    async fn call(&self, request: Request, out: &mut Responder<'_>) -> Result<(), Cut> {
        let Ok(chunks) = serde_json::from_slice::<Vec<u64>>(&request.body) else {
            return out.reply(Reply::json(400, &json!({}))).await;
        };
        let answer = match request.path() {
            "/store/put" => {
                self.0.put(&chunks);
                json!(null)
            }
            _ => json!(self.0.hits(&chunks)),
        };
        out.reply(Reply::json(200, &answer)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_store_while_somebody_uses_it() {
        let store = Store::named("a-name-of-this-test");
        store.put(&[1, 2]);
        assert_eq!(Store::named("a-name-of-this-test").hits(&[1, 2, 3]), 2);
        assert_eq!(Store::named("another-name-of-this-test").hits(&[1]), 0);
        drop(store);
        assert_eq!(Store::named("a-name-of-this-test").hits(&[1]), 0);
    }
}
