//! The hand-overs of one prefill engine: which prompts wait for a decode engine, and which did.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Payload, Refusal};
use crate::sched::Blocks;
use crate::stats::Counters;

/// Hand-overs that are remembered after their end, to tell a used one from an unknown one.
const REMEMBERED: usize = 100_000;

/// All hand-overs, by the name under which a decode engine asks for them.
pub(crate) struct Table {
    counters: Arc<Counters>,
    lease: Duration,
    inner: Mutex<Inner>,
    changed: Notify,
}

/// A hand-over that was offered. Unless it is kept, dropping it takes the offer back.
pub(crate) struct Offer {
    table: Arc<Table>,
    key: String,
    kept: bool,
}

/// A hand-over that is being read. Unless it is done, dropping it puts it back.
pub(crate) struct Taken {
    table: Arc<Table>,
    key: String,
    ready: Option<Ready>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    leases: BTreeSet<(Instant, String)>,
    gone: VecDeque<String>,
}

enum Entry {
    Ready(Ready),
    Reading,
    Gone(Refusal),
}

struct Ready {
    payload: Payload,
    ids: Vec<u32>,
    blocks: Blocks,
    expires: Instant,
}

// === impl Table ===

impl Table {
    pub(crate) fn new(counters: Arc<Counters>, lease: Duration) -> Arc<Self> {
        Arc::new(Self {
            counters,
            lease,
            inner: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Offers a prompt under a name. A name that is taken gets a number, which nobody will ask for.
    pub(crate) fn offer(
        self: &Arc<Self>,
        key: &str,
        payload: Payload,
        ids: Vec<u32>,
        blocks: Blocks,
    ) -> Offer {
        let expires = Instant::now() + self.lease;
        let pinned = blocks.len() as u64;
        let key = {
            let mut inner = self.inner.lock();
            let mut name = key.to_owned();
            let mut number = 1;
            while matches!(inner.entries.get(&name), Some(Entry::Ready(_) | Entry::Reading)) {
                number += 1;
                name = format!("{key}#{number}");
            }
            inner.leases.insert((expires, name.clone()));
            inner.entries.insert(
                name.clone(),
                Entry::Ready(Ready {
                    payload,
                    ids,
                    blocks,
                    expires,
                }),
            );
            name
        };
        self.counters.kv(|kv| kv.pinned += pinned);
        self.changed.notify_waiters();
        Offer {
            table: self.clone(),
            key,
            kept: false,
        }
    }

    /// Takes a prompt, once it is there. Without waiting, a prompt that is not there is unknown.
    pub(crate) async fn take(self: &Arc<Self>, key: &str, wait: Option<Duration>) -> Result<Taken, Refusal> {
        let deadline = wait.map(|wait| Instant::now() + wait);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_take(key) {
                Ok(ready) => {
                    return Ok(Taken {
                        table: self.clone(),
                        key: key.to_owned(),
                        ready: Some(ready),
                    });
                }
                Err(Refusal::Unknown) => {}
                Err(refusal) => return Err(refusal),
            }
            let deadline = deadline.ok_or(Refusal::Unknown)?;
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Refusal::Timeout);
            }
        }
    }

    /// Gives up a prompt because the decode engine does not want it any more.
    pub(crate) fn release(&self, key: &str) {
        self.unread(self.end(key, Some(Refusal::Used), None));
    }

    /// Takes an offer back; whoever comes for it waits as if it had never been there.
    fn withdraw(&self, key: &str) {
        self.unread(self.end(key, None, None));
    }

    fn unread(&self, ready: Option<Ready>) {
        let Some(ready) = ready else { return };
        let blocks = ready.blocks.len() as u64;
        drop(ready);
        self.counters.kv(|kv| {
            kv.pinned -= blocks;
            kv.released_unread += blocks;
        });
    }

    /// Waits until a prompt has been read or has gone.
    pub(crate) async fn read(&self, key: &str, wait: Duration) -> Result<(), Refusal> {
        let deadline = Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.inner.lock().entries.get(key) {
                Some(Entry::Gone(Refusal::Used)) => return Ok(()),
                Some(Entry::Gone(refusal)) => return Err(*refusal),
                None => return Err(Refusal::Unknown),
                Some(Entry::Ready(_) | Entry::Reading) => {}
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return Err(Refusal::Timeout);
            }
        }
    }

    /// Ends leases as their time comes; runs as long as the engine does.
    pub(crate) async fn reap(&self) {
        loop {
            let changed = self.changed.notified();
            let next = self.inner.lock().leases.first().map(|(expires, _)| *expires);
            match next {
                None => changed.await,
                Some(expires) if expires <= Instant::now() => self.expire(expires),
                Some(expires) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(expires) => {}
                        () = changed => {}
                    }
                }
            }
        }
    }

    fn expire(&self, until: Instant) {
        loop {
            let due = {
                let inner = self.inner.lock();
                inner
                    .leases
                    .first()
                    .filter(|(expires, _)| *expires <= until)
                    .cloned()
            };
            let Some((expires, key)) = due else { return };
            match self.end(&key, Some(Refusal::Expired), Some(expires)) {
                Some(ready) => {
                    let blocks = ready.blocks.len() as u64;
                    drop(ready);
                    self.counters.kv(|kv| {
                        kv.pinned -= blocks;
                        kv.leaked += blocks;
                        kv.leaked_transfers += 1;
                    });
                }
                // It is being read; if that fails, it comes back with a lease that is over.
                None => drop(self.inner.lock().leases.remove(&(expires, key))),
            }
        }
    }

    fn try_take(&self, key: &str) -> Result<Ready, Refusal> {
        let mut inner = self.inner.lock();
        match inner.entries.get(key) {
            None => Err(Refusal::Unknown),
            Some(Entry::Gone(refusal)) => Err(*refusal),
            Some(Entry::Reading) => Err(Refusal::Used),
            Some(Entry::Ready(ready)) if ready.expires <= Instant::now() => Err(Refusal::Expired),
            Some(Entry::Ready(_)) => match inner.entries.insert(key.to_owned(), Entry::Reading) {
                Some(Entry::Ready(ready)) => Ok(ready),
                _ => Err(Refusal::Unknown),
            },
        }
    }

    /// Ends a waiting hand-over, and remembers why if that is to be told.
    fn end(&self, key: &str, refusal: Option<Refusal>, lease: Option<Instant>) -> Option<Ready> {
        let mut inner = self.inner.lock();
        match inner.entries.get(key) {
            Some(Entry::Ready(ready)) if lease.is_none_or(|lease| ready.expires == lease) => {}
            _ => return None,
        }
        let Some(Entry::Ready(ready)) = inner.entries.remove(key) else {
            return None;
        };
        inner.leases.remove(&(ready.expires, key.to_owned()));
        if let Some(refusal) = refusal {
            inner.bury(key, refusal);
        }
        drop(inner);
        self.changed.notify_waiters();
        Some(ready)
    }
}

impl Inner {
    fn bury(&mut self, key: &str, refusal: Refusal) {
        self.entries.insert(key.to_owned(), Entry::Gone(refusal));
        self.gone.push_back(key.to_owned());
        if self.gone.len() > REMEMBERED
            && let Some(oldest) = self.gone.pop_front()
            && matches!(self.entries.get(&oldest), Some(Entry::Gone(_)))
        {
            self.entries.remove(&oldest);
        }
    }
}

// === impl Offer ===

impl Offer {
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The answer is out: the prompt stays until it is read or its lease ends.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.kept {
            self.table.withdraw(&self.key);
        }
    }
}

// === impl Taken ===

impl Taken {
    /// What is handed over to a request that names these block ids.
    pub(crate) fn payload(&self, ids: Option<&[u32]>) -> Option<Payload> {
        let ready = self.ready.as_ref()?;
        let garbled = ids.is_some_and(|ids| ids != ready.ids);
        Some(Payload {
            garbled,
            ..ready.payload.clone()
        })
    }

    pub(crate) fn tokens(&self) -> usize {
        self.ready.as_ref().map_or(0, |ready| ready.payload.len())
    }

    /// The decode engine has it; the blocks are free again.
    pub(crate) fn done(mut self) {
        let Some(ready) = self.ready.take() else { return };
        {
            let mut inner = self.table.inner.lock();
            inner.leases.remove(&(ready.expires, self.key.clone()));
            inner.bury(&self.key, Refusal::Used);
        }
        let blocks = ready.blocks.len() as u64;
        drop(ready);
        self.table.counters.kv(|kv| {
            kv.pinned -= blocks;
            kv.handed_over += blocks;
            kv.transfers_out += 1;
        });
        self.table.changed.notify_waiters();
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(ready) = self.ready.take() {
            let mut inner = self.table.inner.lock();
            inner.leases.insert((ready.expires, self.key.clone()));
            inner.entries.insert(self.key.clone(), Entry::Ready(ready));
            drop(inner);
            self.table.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
