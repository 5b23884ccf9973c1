//! The end of the process: what is in progress finishes, what is idle ends at once.

use std::time::Duration;

use kthena_sim::{Fault, Rule};
use tokio::net::TcpStream;

use crate::bed::{Bed, CHAT, chat, eventually, plain, plain_server, route};
use crate::client::Client;

#[tokio::test(flavor = "multi_thread")]
async fn streams_finish_and_new_connections_are_refused() {
    let (bed, engine) = (Bed::start().await, plain().await);
    bed.apply(&[route(), plain_server(&[&engine])]).await;
    engine.faults().add(
        Rule::new(Fault::DelayEvents {
            by: Duration::from_millis(150),
        })
        .times(1),
    );
    let address = bed.address();
    let mut client = Client::connect(address).await;
    client
        .post(CHAT, &[], chat("a long one", true).to_string().as_bytes())
        .await;
    let head = client.head().await.expect("a head");
    let readiness = bed.proxy.readiness.clone();
    let drained = tokio::spawn(bed.proxy.drain());
    eventually("not ready", || !readiness.is_ready()).await;
    let answer = tokio::spawn(async move { client.body(head).await });
    let mut refused = false;
    while !refused && !answer.is_finished() {
        refused = TcpStream::connect(address).await.is_err();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(refused, "the listener was open to the end");
    let answer = answer.await.expect("no panic");
    assert!(answer.complete && answer.events().last().is_some_and(|last| last == "[DONE]"));
    assert_eq!(drained.await.expect("no panic"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_proxy_ends_within_a_second_even_with_connections_open() {
    let (bed, engine) = (Bed::start().await, plain().await);
    bed.apply(&[route(), plain_server(&[&engine])]).await;
    let mut client = Client::connect(bed.address()).await;
    client
        .post(CHAT, &[], chat("x", false).to_string().as_bytes())
        .await;
    assert_eq!(client.answer().await.status, 200);
    let begun = tokio::time::Instant::now();
    assert_eq!(bed.proxy.drain().await, 0);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(client.head().await.is_none(), "the idle connection was closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_finish_in_time_is_cut_and_counted() {
    let (bed, engine) = (
        Bed::with(|config| config.drain_timeout = Duration::from_millis(900)).await,
        plain().await,
    );
    bed.apply(&[route(), plain_server(&[&engine])]).await;
    engine.faults().add(Rule::new(Fault::Hang));
    let mut client = Client::connect(bed.address()).await;
    client
        .post(CHAT, &[], chat("x", false).to_string().as_bytes())
        .await;
    eventually("it hangs", || engine.faults().hits() > 0).await;
    assert_eq!(bed.proxy.drain().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_told_to_close_while_draining() {
    let (bed, engine) = (Bed::start().await, plain().await);
    bed.apply(&[route(), plain_server(&[&engine])]).await;
    engine.faults().add(
        Rule::new(Fault::Delay {
            by: Duration::from_millis(900),
        })
        .times(1),
    );
    let mut client = Client::connect(bed.address()).await;
    client
        .post(CHAT, &[], chat("x", false).to_string().as_bytes())
        .await;
    eventually("it waits", || engine.faults().hits() > 0).await;
    let drained = tokio::spawn(bed.proxy.drain());
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(drained.await.expect("no panic"), 0);
}
