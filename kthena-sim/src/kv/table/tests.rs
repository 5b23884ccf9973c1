use super::*;
use crate::sched::{Prompt, Scheduler};
use crate::text::model::Weights;

const LEASE: Duration = Duration::from_secs(30);

struct Bed {
    scheduler: Arc<Scheduler>,
    counters: Arc<Counters>,
    table: Arc<Table>,
}

impl Bed {
    fn new() -> Self {
        let counters = Arc::new(Counters::new());
        let table = Table::new(counters.clone(), LEASE);
        let reaper = table.clone();
        tokio::spawn(async move { reaper.reap().await });
        Self {
            scheduler: Scheduler::new(8, 64, 16, true),
            counters,
            table,
        }
    }

    async fn offer(&self, key: &str) -> Offer {
        let tokens: Vec<u32> = (0..40).collect();
        let ticket = self
            .scheduler
            .admit(Arc::new(Prompt::new(&tokens, 16, 0, true)))
            .await;
        let ids = ticket.ids(40);
        let blocks = ticket.into_blocks();
        self.table.offer(
            key,
            Payload::new(Weights::of("m", None), &tokens, ids.len()),
            ids,
            blocks,
        )
    }

    async fn take(&self, key: &str) -> Option<Refusal> {
        self.table.take(key, None).await.map(Taken::done).err()
    }

    fn kv(&self) -> crate::stats::KvStats {
        self.counters.snapshot().kv
    }
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_is_read_once() {
    let bed = Bed::new();
    bed.offer("a").await.keep();
    assert_eq!((bed.kv().pinned, bed.scheduler.load().blocks_used), (3, 3));
    assert_eq!(bed.take("b").await, Some(Refusal::Unknown));
    assert_eq!(bed.take("a").await, None);
    assert_eq!(bed.take("a").await, Some(Refusal::Used));
    let kv = bed.kv();
    assert_eq!(
        (kv.pinned, kv.handed_over, kv.transfers_out, kv.leaked),
        (0, 3, 1, 0)
    );
    assert_eq!(bed.scheduler.load().blocks_used, 0);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_leaks_when_its_lease_ends() {
    let bed = Bed::new();
    bed.offer("a").await.keep();
    tokio::time::sleep(LEASE + Duration::from_millis(10)).await;
    assert_eq!(bed.take("a").await, Some(Refusal::Expired));
    let kv = bed.kv();
    assert_eq!((kv.pinned, kv.leaked, kv.leaked_transfers), (0, 3, 1));
    assert_eq!(bed.scheduler.load().blocks_used, 0);
}

#[tokio::test(start_paused = true)]
async fn an_offer_whose_answer_never_left_is_taken_back() {
    let bed = Bed::new();
    drop(bed.offer("a").await);
    let kv = bed.kv();
    assert_eq!((kv.pinned, kv.released_unread, kv.leaked), (0, 3, 0));
}

#[tokio::test(start_paused = true)]
async fn reading_that_breaks_off_leaves_the_hand_over() {
    let bed = Bed::new();
    bed.offer("a").await.keep();
    drop(bed.table.take("a", None).await.unwrap());
    assert_eq!(bed.take("a").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_decode_engine_may_come_first_and_waits_only_so_long() {
    let bed = Bed::new();
    let table = bed.table.clone();
    let early = tokio::spawn(async move {
        table
            .take("a", Some(Duration::from_secs(5)))
            .await
            .map(Taken::done)
            .err()
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.offer("a").await.keep();
    assert_eq!(early.await.unwrap(), None);
    let late = bed
        .table
        .take("b", Some(Duration::from_secs(5)))
        .await
        .map(Taken::done)
        .err();
    assert_eq!(late, Some(Refusal::Timeout));
}

#[tokio::test(start_paused = true)]
async fn other_block_ids_garble_the_payload() {
    let bed = Bed::new();
    bed.offer("a").await.keep();
    let taken = bed.table.take("a", None).await.unwrap();
    assert!(!taken.payload(Some(&[1, 2, 3])).unwrap().garbled);
    assert!(taken.payload(Some(&[1, 2, 4])).unwrap().garbled);
    assert!(!taken.payload(None).unwrap().garbled);
}

#[tokio::test(start_paused = true)]
async fn the_same_name_twice_pins_twice_and_is_read_once() {
    let bed = Bed::new();
    bed.offer("a").await.keep();
    bed.offer("a").await.keep();
    assert_eq!(bed.take("a").await, None);
    assert_eq!(bed.take("a").await, Some(Refusal::Used));
    assert_eq!(bed.kv().pinned, 3);
}
