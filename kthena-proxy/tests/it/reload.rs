//! Changes of routes and endpoints under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::bed::{Bed, CHAT, WAYS, chat, plain, plain_server, route};
use crate::client::Client;

/// Sends requests until told to stop, some of them streams that take a while; returns how many were answered well.
async fn load(
    bed: &Bed,
    clients: usize,
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicU64>,
) -> Vec<tokio::task::JoinHandle<u64>> {
    let address = bed.address();
    (0..clients)
        .map(|n| {
            let (stop, failed) = (stop.clone(), failed.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                let mut good = 0;
                while !stop.load(Ordering::Relaxed) {
                    let stream = n % 2 == 0;
                    client
                        .post(CHAT, &[], chat("hello", stream).to_string().as_bytes())
                        .await;
                    let answer = client.answer().await;
                    if (answer.status, answer.complete) == (200, true) && !answer.generated().is_empty() {
                        good += 1;
                    } else if failed.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("first failure: {} {}", answer.status, answer.text());
                    }
                }
                good
            })
        })
        .collect()
}

async fn finish(tasks: Vec<tokio::task::JoinHandle<u64>>) -> u64 {
    let mut good = 0;
    for task in tasks {
        good += task.await.expect("no panic");
    }
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_under_load_fail_no_request() {
    let way = &WAYS[1];
    let (p1, p2) = (way.prefill(|_| {}).await, way.prefill(|_| {}).await);
    let (d1, d2) = (way.decode(|_| {}).await, way.decode(|_| {}).await);
    let (a, b) = (plain().await, plain().await);
    let bed = Bed::start().await;
    bed.apply(&[route(), plain_server(&[&a])]).await;
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tasks = load(&bed, 16, stop.clone(), failed.clone()).await;
    let begun = tokio::time::Instant::now();
    for n in 0..100 {
        // Plain and split, one engine and several, other policies, other routes beside and around it.
        let server = match n % 5 {
            0 => plain_server(&[&a, &b]),
            1 => way.server(&[(&p1, "g"), (&d1, "g")], json!({})),
            2 => way.server(
                &[(&p1, "g"), (&p2, "g"), (&d1, "g"), (&d2, "g")],
                json!({"trafficPolicy": {"timeout": "30s"}}),
            ),
            3 => way.server(&[(&p2, "h"), (&d2, "h")], json!({})),
            _ => plain_server(&[&b]),
        };
        let mut other = route();
        other["metadata"]["name"] = format!("other-{}", n % 7).into();
        other["spec"]["modelName"] = format!("other-{}", n % 3).into();
        let mut route = route();
        route["spec"]["rules"][0]["name"] = format!("rule-{n}").into();
        bed.apply(&[server, route, other]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let good = finish(tasks).await;
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {good} requests");
    // How many a second it can be is the bench's to say; here there only must have been some around each change.
    assert!(good > 200, "{good} requests in {:?}", begun.elapsed());
}
