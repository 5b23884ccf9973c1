//! Which sequences are computed: seats, KV blocks, and the queue in front of them.

mod pool;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

pub(crate) use pool::Prompt;
use pool::{Allocation, Pool};

/// Admits sequences in the order they came, while there are seats and blocks.
#[derive(Debug)]
pub(crate) struct Scheduler {
    table: Mutex<Table>,
}

/// What the gauges show.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Load {
    pub(crate) running: usize,
    /// Waiting for a seat or for blocks.
    pub(crate) waiting: usize,
    /// Admitted, waiting for KV blocks of another engine.
    pub(crate) loading: usize,
    pub(crate) blocks_used: usize,
    pub(crate) blocks_total: usize,
    pub(crate) preemptions: u64,
}

/// A seat and the blocks that go with it. Dropping it gives both back.
#[derive(Debug)]
pub(crate) struct Ticket {
    scheduler: Arc<Scheduler>,
    blocks: Blocks,
    /// Prompt tokens whose blocks were there already.
    pub(crate) cached: u32,
    loading: bool,
    seated: bool,
}

/// Blocks held without a seat, as by a prompt that waits to be handed over. Dropping it frees them.
#[derive(Debug)]
pub(crate) struct Blocks {
    scheduler: Arc<Scheduler>,
    ids: Vec<u32>,
}

/// A place in the queue; dropping it gives the place up.
struct Place<'a> {
    scheduler: &'a Arc<Scheduler>,
    number: u64,
}

#[derive(Debug)]
struct Table {
    seats: usize,
    running: usize,
    loading: usize,
    preemptions: u64,
    next: u64,
    queue: VecDeque<Waiting>,
    pool: Pool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    prompt: Arc<Prompt>,
    grant: oneshot::Sender<Ticket>,
}

// === impl Scheduler ===

impl Scheduler {
    pub(crate) fn new(seats: usize, blocks: u32, block_size: u32, caching: bool) -> Arc<Self> {
        let pool = Pool::new(blocks, block_size, caching);
        let queue = VecDeque::new();
        let table = Table {
            seats: seats.max(1),
            running: 0,
            loading: 0,
            preemptions: 0,
            next: 0,
            queue,
            pool,
        };
        Arc::new(Self {
            table: Mutex::new(table),
        })
    }

    /// Waits for a seat and for the prompt's blocks.
    pub(crate) async fn admit(self: &Arc<Self>, prompt: Arc<Prompt>) -> Ticket {
        let (grant, granted) = oneshot::channel();
        let number = {
            let mut table = self.table.lock();
            table.next += 1;
            let number = table.next;
            table.queue.push_back(Waiting {
                number,
                prompt,
                grant,
            });
            number
        };
        let place = Place {
            scheduler: self,
            number,
        };
        self.pump();
        match granted.await {
            Ok(ticket) => {
                std::mem::forget(place);
                ticket
            }
            // The queue never drops a waiting sequence by itself.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn load(&self) -> Load {
        let table = self.table.lock();
        Load {
            running: table.running - table.loading,
            waiting: table.queue.len(),
            loading: table.loading,
            blocks_used: table.pool.used(),
            blocks_total: table.pool.total(),
            preemptions: table.preemptions,
        }
    }

    /// Seats whoever is first in the queue, as long as that works.
    fn pump(self: &Arc<Self>) {
        loop {
            // Tickets are sent outside the lock: one that nobody takes frees itself, which locks again.
            let (grant, ticket) = {
                let mut table = self.table.lock();
                if table.running >= table.seats {
                    return;
                }
                let Some(first) = table.queue.front() else { return };
                let prompt = first.prompt.clone();
                let Some(Allocation { ids, cached }) = table.pool.allocate(&prompt) else {
                    return;
                };
                let Some(first) = table.queue.pop_front() else {
                    return;
                };
                table.running += 1;
                let blocks = Blocks {
                    scheduler: self.clone(),
                    ids,
                };
                let ticket = Ticket {
                    scheduler: self.clone(),
                    blocks,
                    cached,
                    loading: false,
                    seated: true,
                };
                (first.grant, ticket)
            };
            drop(grant.send(ticket));
        }
    }
}

// === impl Ticket ===

impl Ticket {
    /// Marks the time in which the sequence waits for another engine's blocks.
    pub(crate) fn set_loading(&mut self, loading: bool) {
        if self.loading == loading {
            return;
        }
        self.loading = loading;
        let mut table = self.scheduler.table.lock();
        if loading {
            table.loading += 1;
        } else {
            table.loading -= 1;
        }
    }

    /// Lets other prompts reuse these blocks: for prompts that came from another engine.
    pub(crate) fn publish(&self, prompt: &Prompt) {
        self.scheduler.table.lock().pool.publish(prompt, &self.blocks.ids);
    }

    /// Makes room for a sequence of this length. An engine that has no block left would preempt a sequence;
    /// this one counts a preemption and goes on without the block.
    pub(crate) fn grow(&mut self, tokens: usize) {
        let mut table = self.scheduler.table.lock();
        while self.blocks.ids.len() * table.pool.block_size() < tokens {
            match table.pool.one() {
                Some(id) => self.blocks.ids.push(id),
                None => {
                    table.preemptions += 1;
                    return;
                }
            }
        }
    }

    /// Ids of the blocks that hold the first tokens.
    pub(crate) fn ids(&self, tokens: usize) -> Vec<u32> {
        let size = self.scheduler.table.lock().pool.block_size();
        self.blocks
            .ids
            .iter()
            .copied()
            .take(tokens.div_ceil(size))
            .collect()
    }

    /// Gives the seat back and keeps the blocks.
    pub(crate) fn into_blocks(mut self) -> Blocks {
        let ids = std::mem::take(&mut self.blocks.ids);
        Blocks {
            scheduler: self.scheduler.clone(),
            ids,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.set_loading(false);
        if self.seated {
            self.scheduler.table.lock().running -= 1;
        }
        // The blocks go before the next sequence is seated, so that it finds them free.
        self.scheduler
            .table
            .lock()
            .pool
            .free(&std::mem::take(&mut self.blocks.ids));
        self.scheduler.pump();
    }
}

// === impl Blocks ===

impl Blocks {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.scheduler.table.lock().pool.free(&self.ids);
            self.scheduler.pump();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.scheduler
            .table
            .lock()
            .queue
            .retain(|waiting| waiting.number != self.number);
        self.scheduler.pump();
    }
}

#[cfg(test)]
mod tests;
