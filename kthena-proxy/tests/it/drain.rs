//! The end of the process: what is in progress finishes, what is idle ends at once.

use std::time::Duration;

use kthena_sim::{Fault, Rule};
use tokio::net::TcpStream;

use crate::bed::{Bed, eventually, eventually_ok};
use crate::client::Client;

#[tokio::test(flavor = "multi_thread")]
async fn streams_finish_and_new_connections_are_refused() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(
        Rule::new(Fault::DelayEvents {
            by: Duration::from_millis(300),
        })
        .times(1),
    );
    let address = bed.address();
    let mut client = Client::connect(address).await;
    client.chat("a long one", true).await;
    let head = client.head().await.expect("a head");
    let readiness = bed.proxy.readiness.clone();
    let drained = tokio::spawn(bed.proxy.drain());
    eventually("not ready", || !readiness.is_ready()).await;
    let answer = tokio::spawn(async move { client.body(head).await });
    eventually_ok("a closed listener", async || {
        match TcpStream::connect(address).await {
            Ok(_) => Err("a connection".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    assert!(!answer.is_finished(), "the listener was open to the end");
    let answer = answer.await.expect("no panic");
    assert!(answer.complete && answer.events().last().is_some_and(|last| last == "[DONE]"));
    assert_eq!(drained.await.expect("no panic"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_proxy_ends_within_a_second_even_with_connections_open() {
    // On a busy machine one may be late, though it waits for nothing.
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let (bed, _engine) = Bed::plain().await;
        let mut client = Client::connect(bed.address()).await;
        client.chat("x", false).await;
        assert_eq!(client.answer().await.status, 200);
        let begun = tokio::time::Instant::now();
        assert_eq!(bed.proxy.drain().await, 0);
        best = best.min(begun.elapsed());
        assert!(client.head().await.is_none(), "the idle connection was closed");
    }
    assert!(best < Duration::from_secs(1), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_cut_and_counted() {
    let (bed, engine) = Bed::plain_with(|config| config.drain_timeout = Duration::from_millis(900)).await;
    engine.faults().add(Rule::new(Fault::Hang));
    let mut client = Client::connect(bed.address()).await;
    client.chat("x", false).await;
    eventually("it hangs", || engine.faults().hits() > 0).await;
    assert_eq!(bed.proxy.drain().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closes_after_its_answer_while_draining() {
    let (bed, engine) = Bed::plain().await;
    engine.faults().add(
        Rule::new(Fault::Delay {
            by: Duration::from_secs(2),
        })
        .times(1),
    );
    let mut client = Client::connect(bed.address()).await;
    client.chat("x", false).await;
    eventually("it waits", || engine.faults().hits() > 0).await;
    let drained = tokio::spawn(bed.proxy.drain());
    let answer = client.answer().await;
    answer.assert_good("an answer while draining");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(client.head().await.is_none(), "the connection was closed");
    assert_eq!(drained.await.expect("no panic"), 0);
}
