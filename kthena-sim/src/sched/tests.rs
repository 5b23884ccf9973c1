use std::time::Duration;

use super::*;
use crate::text::tokenizer::Token;

const SIZE: u32 = 32;

fn prompt(tokens: impl IntoIterator<Item = Token>) -> Arc<Prompt> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    Arc::new(Prompt::new(&tokens, SIZE, 0, true))
}

fn scheduler(seats: usize) -> Arc<Scheduler> {
    Scheduler::new(seats, 64, SIZE, true)
}

#[tokio::test]
async fn block_ids_are_those_of_the_recorded_engine() {
    // Three prompts of 160, 160 and 181 tokens, the first one again, and a short one: the ids that
    // pd-nixl/{completion,completion-stream,chat} show, with blocks 1 to 4 found again.
    let scheduler = scheduler(8);
    let first = scheduler.admit(prompt(0..160)).await;
    assert_eq!((first.ids(160), first.cached), (vec![1, 2, 3, 4, 5], 0));
    drop(first);
    let second = scheduler.admit(prompt(1000..1160)).await;
    assert_eq!(second.ids(160), [6, 7, 8, 9, 10]);
    drop(second);
    let third = scheduler.admit(prompt(2000..2181)).await;
    assert_eq!(third.ids(181), [11, 12, 13, 14, 15, 16]);
    drop(third);
    let fourth = scheduler.admit(prompt(3000..3181)).await;
    assert_eq!(fourth.ids(181), [16, 17, 18, 19, 20, 21]);
    drop(fourth);
    let again = scheduler.admit(prompt(0..160)).await;
    assert_eq!((again.ids(160), again.cached), (vec![1, 2, 3, 4, 21], 128));
}

#[tokio::test]
async fn sequences_wait_for_seats_in_order_and_cancelled_ones_leave_the_queue() {
    let scheduler = scheduler(1);
    let seated = scheduler.admit(prompt(0..10)).await;
    let spawn = |n: u32| {
        let scheduler = scheduler.clone();
        tokio::spawn(async move { scheduler.admit(prompt(n..n + 10)).await })
    };
    let second = spawn(100);
    tokio::task::yield_now().await;
    let third = spawn(200);
    tokio::task::yield_now().await;
    assert_eq!(scheduler.load().waiting, 2);
    second.abort();
    assert!(second.await.is_err());
    assert_eq!(scheduler.load().waiting, 1);
    drop(seated);
    drop(third.await.unwrap());
    let load = scheduler.load();
    assert_eq!((load.running, load.waiting, load.blocks_used), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_prompt_waits_for_blocks_that_a_hand_over_keeps() {
    let scheduler = Scheduler::new(8, 6, SIZE, true);
    let pinned = scheduler.admit(prompt(0..160)).await.into_blocks();
    assert_eq!(pinned.len(), 5);
    let waiting = scheduler.admit(prompt(500..600));
    tokio::pin!(waiting);
    assert!(
        tokio::time::timeout(Duration::from_secs(60), &mut waiting)
            .await
            .is_err()
    );
    assert_eq!((scheduler.load().running, scheduler.load().waiting), (0, 1));
    drop(pinned);
    assert_eq!(waiting.await.ids(100).len(), 4);
}

#[tokio::test]
async fn growing_beyond_the_pool_counts_a_preemption() {
    let scheduler = Scheduler::new(8, 4, SIZE, true);
    let mut ticket = scheduler.admit(prompt(0..40)).await;
    ticket.grow(96);
    assert_eq!((ticket.ids(96).len(), scheduler.load().preemptions), (3, 0));
    ticket.grow(97);
    assert_eq!(scheduler.load().preemptions, 1);
}

#[tokio::test]
async fn salts_keep_prefixes_apart() {
    let scheduler = scheduler(8);
    let tokens: Vec<Token> = (0..100).collect();
    drop(
        scheduler
            .admit(Arc::new(Prompt::new(&tokens, SIZE, 1, true)))
            .await,
    );
    assert_eq!(
        scheduler
            .admit(Arc::new(Prompt::new(&tokens, SIZE, 2, true)))
            .await
            .cached,
        0
    );
    assert_eq!(
        scheduler
            .admit(Arc::new(Prompt::new(&tokens, SIZE, 1, true)))
            .await
            .cached,
        96
    );
}
