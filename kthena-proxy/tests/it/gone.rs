//! Clients that leave: every engine that works for them learns of it at once, and nothing stays behind.

use std::time::Duration;

use kthena_sim::{Fault, Handle, Phase, Rule};
use serde_json::json;

use crate::bed::{Bed, WAYS, Way, eventually, plain, plain_server, route};
use crate::client::{Client, PATIENCE};

/// From the client's close to the engine's notice.
const SOON: Duration = Duration::from_millis(100);
/// The same on a machine that is busy with something else.
const LATEST: Duration = Duration::from_secs(2);

async fn pair(way: &Way) -> (Bed, Handle, Handle) {
    // Shorter than patience: what only a lease has ended is counted as leaked by then.
    way.bed(|config| config.lease = Duration::from_secs(3), json!({}))
        .await
}

/// Sends a request, waits until `there`, leaves, and checks that all engines notice. Returns how long the last one took.
async fn leave_when(
    bed: &Bed,
    engines: &[&Handle],
    stream: bool,
    what: &str,
    there: impl Fn() -> bool,
) -> Duration {
    let mut client = Client::connect(bed.address()).await;
    client.chat("a request that nobody waits for", stream).await;
    eventually(what, there).await;
    let busy: Vec<bool> = engines
        .iter()
        .map(|engine| engine.stats().in_flight() > 0)
        .collect();
    assert!(busy.contains(&true), "{what}: no engine is at work");
    let left = tokio::time::Instant::now();
    drop(client);
    for engine in engines {
        engine.settled(PATIENCE).await.expect(what);
    }
    let mut slowest = Duration::ZERO;
    for (engine, _) in engines.iter().zip(busy).filter(|(_, busy)| *busy) {
        let end = || engine.all_requests().last().and_then(|request| request.end);
        // It is recorded a moment after it is counted.
        eventually(what, || end().is_some()).await;
        let after = end().expect("an end").ended.saturating_duration_since(left);
        assert!(after < LATEST, "{what}: noticed after {after:?}");
        slowest = slowest.max(after);
    }
    eventually("the proxy's own end", || bed.proxy.in_flight() == 0).await;
    for engine in engines {
        // Blocks that were pinned for a decode that never came are given back before their lease ends.
        let stats = engine
            .wait_for(PATIENCE, |stats| stats.kv.pinned == 0 && stats.running == 0)
            .await
            .expect(what);
        assert_eq!(stats.kv.leaked, 0, "{what}: {stats:?}");
    }
    for endpoint in bed.proxy.view.snapshot.load().servers["default/s"]
        .pool
        .endpoints()
    {
        eventually("an exact count", || endpoint.in_flight() == 0).await;
    }
    slowest
}

/// One late notice may be the machine's doing; it is not if all of them are late.
fn assert_soon(after: &[Duration]) {
    assert!(after.iter().min().is_some_and(|best| *best < SOON), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_while_prefill_works() {
    let mut after = Vec::new();
    for way in WAYS {
        let (bed, prefill, decode) = pair(way).await;
        prefill.faults().add(Rule::new(Fault::Hang).phase(Phase::Prefill));
        let one = leave_when(&bed, &[&prefill, &decode], false, way.name, || {
            prefill.stats().prefill.received > 0
        })
        .await;
        after.push(one);
    }
    assert_soon(&after);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_before_decode_has_begun() {
    let mut after = Vec::new();
    for way in WAYS {
        let (bed, prefill, decode) = pair(way).await;
        decode.faults().add(
            Rule::new(Fault::Delay {
                by: Duration::from_secs(60),
            })
            .phase(Phase::Decode),
        );
        let one = leave_when(&bed, &[&prefill, &decode], false, way.name, || {
            decode.stats().decode.received > 0
        })
        .await;
        after.push(one);
    }
    assert_soon(&after);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_in_the_midst_of_a_stream() {
    let mut after = Vec::new();
    for way in WAYS {
        let (bed, prefill, decode) = pair(way).await;
        decode
            .faults()
            .add(Rule::new(Fault::HangAfterEvents { events: 2 }).phase(Phase::Decode));
        let one = leave_when(&bed, &[&prefill, &decode], true, way.name, || {
            decode.faults().hits() > 0
        })
        .await;
        after.push(one);
    }
    assert_soon(&after);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_a_plain_engine() {
    let mut after = Vec::new();
    for (stream, fault) in [
        (false, Fault::Hang),
        (true, Fault::HangAfterEvents { events: 2 }),
        (
            true,
            Fault::DelayEvents {
                by: Duration::from_secs(60),
            },
        ),
    ] {
        let (bed, engine) = Bed::plain().await;
        engine.faults().add(Rule::new(fault.clone()));
        let what = format!("{fault:?}");
        let one = leave_when(&bed, &[&engine], stream, &what, || {
            engine.stats().plain.received > 0
        })
        .await;
        after.push(one);
    }
    assert_soon(&after);
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_during_the_pause_before_a_retry() {
    let (bed, engine) = (Bed::start().await, plain().await);
    let policy = json!({"retry": {"attempts": 5, "retryInterval": "60s"}});
    let mut server = plain_server(&[&engine]);
    server["spec"]["trafficPolicy"] = policy;
    bed.apply(&[route(), server]).await;
    engine.faults().add(Rule::new(Fault::Status {
        status: 503,
        body: String::new(),
        headers: Vec::new(),
    }));
    let mut client = Client::connect(bed.address()).await;
    client.chat("x", false).await;
    eventually("an attempt", || engine.faults().hits() > 0).await;
    drop(client);
    eventually("the end", || bed.proxy.in_flight() == 0).await;
    assert_eq!(engine.faults().hits(), 1);
}
