//! Changes of routes and endpoints under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::bed::{Bed, NIXL, eventually, plain, plain_server, route};
use crate::client::Client;

/// Sends requests until told to stop, half of them streams, and counts how they were answered.
fn load(
    bed: &Bed,
    clients: usize,
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let address = bed.address();
    (0..clients)
        .map(|n| {
            let (stop, good, failed) = (stop.clone(), good.clone(), failed.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let stream = n % 2 == 0;
                    client.chat("hello", stream).await;
                    let answer = client.answer().await;
                    if (answer.status, answer.complete) == (200, true) && !answer.generated().is_empty() {
                        good.fetch_add(1, Ordering::Relaxed);
                    } else if failed.fetch_add(1, Ordering::Relaxed) == 0 {
                        eprintln!("first failure: {} {}", answer.status, answer.text());
                    }
                }
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_changes_under_load_fail_no_request() {
    let (p1, p2) = (NIXL.prefill(|_| {}).await, NIXL.prefill(|_| {}).await);
    let (d1, d2) = (NIXL.decode(|_| {}).await, NIXL.decode(|_| {}).await);
    let (a, b) = (plain().await, plain().await);
    let bed = Bed::start().await;
    bed.apply(&[route(), plain_server(&[&a])]).await;
    let (stop, good, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let tasks = load(&bed, 16, stop.clone(), good.clone(), failed.clone());
    for n in 0..100 {
        // Plain and split, one engine and several, other policies, other routes beside and around it.
        let server = match n % 5 {
            0 => plain_server(&[&a, &b]),
            1 => NIXL.server(&[(&p1, "g"), (&d1, "g")], json!({})),
            2 => NIXL.server(
                &[(&p1, "g"), (&p2, "g"), (&d1, "g"), (&d2, "g")],
                json!({"trafficPolicy": {"timeout": "30s"}}),
            ),
            3 => NIXL.server(&[(&p2, "h"), (&d2, "h")], json!({})),
            _ => plain_server(&[&b]),
        };
        let mut other = route();
        other["metadata"]["name"] = format!("other-{}", n % 7).into();
        other["spec"]["modelName"] = format!("other-{}", n % 3).into();
        let mut route = route();
        route["spec"]["rules"][0]["name"] = format!("rule-{n}").into();
        bed.apply(&[server, route, other]).await;
        // How many a second it can be is the bench's to say; here there only must be some around each change.
        let before = good.load(Ordering::Relaxed);
        eventually("requests", || {
            good.load(Ordering::Relaxed) >= before + 2 || failed.load(Ordering::Relaxed) > 0
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no panic");
    }
    let good = good.load(Ordering::Relaxed);
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {good} requests");
    assert!(good >= 200, "{good} requests");
}
