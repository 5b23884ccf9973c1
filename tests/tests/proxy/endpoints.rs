//! Engines that no selector finds: a ModelServer lists them by address.

use anyhow::Result;
use kthena_api::{ModelServer, labels};
use kthena_tests::{
    cluster::Namespace,
    kubelet::{Kubelet, RunningPod},
    relay::Relay,
};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, assert_pairs, received, stats},
    object::{Pod, plain_server, route, split_server},
};

/// Engines in a namespace that no ModelServer of the test's own looks at.
struct Outside {
    space: Namespace,
    kubelet: Kubelet,
}

impl Outside {
    async fn of(bed: &Bed) -> Result<Self> {
        let space = bed.cluster.namespace("outside").await?;
        let kubelet = Kubelet::on(&bed.cluster, &space).start().await?;
        Ok(Self { space, kubelet })
    }

    async fn run(&self, pod: Pod, name: &str) -> Result<RunningPod> {
        self.space.apply(&pod.yaml()).await?;
        self.kubelet.until_ready(&self.space, name).await
    }
}

/// A ModelServer with endpoints instead of a selector.
fn listed(mut server: Value, endpoints: &[Value]) -> Value {
    let selector = server["spec"]["workloadSelector"]
        .as_object_mut()
        .expect("a selector");
    selector.remove("matchLabels");
    if selector.is_empty() {
        server["spec"]
            .as_object_mut()
            .expect("a spec")
            .remove("workloadSelector");
    }
    server["spec"]["endpoints"] = json!(endpoints);
    server
}

/// Waits until the proxy sends requests to these addresses.
async fn until_addresses(bed: &Bed, addresses: &[String]) -> Result<()> {
    let mut wanted: Vec<&str> = addresses.iter().map(String::as_str).collect();
    wanted.sort_unstable();
    let accept = |server: &Value| {
        let engines = server["endpoints"].as_array().into_iter().flatten();
        let mut found: Vec<&str> = engines.filter_map(|engine| engine["address"].as_str()).collect();
        found.sort_unstable();
        found == wanted
    };
    bed.proxy.until(&bed.space, "modelservers", "llm", accept).await?;
    Ok(())
}

#[tokio::test]
async fn addresses_names_and_ports_are_followed() -> Result<()> {
    let bed = Bed::start("listed").await?;
    let outside = Outside::of(&bed).await?;
    let first = outside.run(Pod::plain("first"), "first").await?;
    let second = outside.run(Pod::plain("second").port(8001), "second").await?;
    // Names are resolved where the proxy is; this one is known everywhere.
    let relay = Relay::to(&format!("{}:{}", second.ip, second.port)).await?;
    let by_address = json!({"address": first.ip});
    let by_name = json!({"address": "localhost", "port": relay.address().port()});
    bed.apply(&[
        route("llm", bed.model(), &[("llm", 1)]),
        listed(plain_server("llm", "llm"), &[by_address, by_name]),
    ])
    .await?;
    let name = format!("localhost:{}", relay.address().port());
    until_addresses(&bed, &[format!("{}:8000", first.ip), name.clone()]).await?;
    bed.ask_many(40).await?;
    let (a, b) = (received(&first).await?, received(&second).await?);
    assert!(a > 0 && b > 0 && a + b == 40, "{a} and {b}");
    let is_told = |server: &ModelServer| {
        let count = server.status.as_ref().and_then(|status| status.endpoints);
        count.is_some_and(|count| (count.total, count.ready) == (2, 2))
    };
    bed.space
        .until("llm", "two endpoints in its status", is_told)
        .await?;

    // One of them is listed no longer, and then another port, and then a selector comes instead.
    let by_name = json!({"address": "localhost", "port": relay.address().port()});
    bed.apply(&[listed(plain_server("llm", "llm"), &[by_name])])
        .await?;
    until_addresses(&bed, &[name]).await?;
    bed.ask_many(10).await?;
    assert_eq!(
        (received(&first).await?, received(&second).await?),
        (a, 40 - a + 10)
    );
    let third = bed.run(Pod::plain("third")).await?;
    bed.apply(&[plain_server("llm", "llm")]).await?;
    bed.until_engines(&["third"]).await?;
    bed.ask("hello").await?.said()?;
    assert_eq!(received(&third).await?, 1);
    Ok(())
}

#[tokio::test]
async fn labels_of_endpoints_make_pairs() -> Result<()> {
    let bed = Bed::start("listed-pairs").await?;
    let outside = Outside::of(&bed).await?;
    let mut pods = Vec::new();
    for group in ["a", "b"] {
        for (role, make) in [
            ("prefill", Pod::prefill as fn(&str) -> Pod),
            ("decode", Pod::decode),
        ] {
            let name = format!("{role}-{group}");
            let pod = outside.run(make(&name), &name).await?;
            let own = json!({labels::GROUP_NAME: group, labels::ROLE: role});
            pods.push((pod.clone(), json!({"address": pod.ip, "labels": own})));
        }
    }
    let endpoints: Vec<Value> = pods.iter().map(|(_, endpoint)| endpoint.clone()).collect();
    bed.apply(&[
        route("llm", bed.model(), &[("llm", 1)]),
        listed(split_server("llm", "llm"), &endpoints),
    ])
    .await?;
    let all: Vec<String> = pods.iter().map(|(pod, _)| format!("{}:8000", pod.ip)).collect();
    until_addresses(&bed, &all).await?;
    bed.ask_many(40).await?;
    let [(p_a, _), (d_a, _), (p_b, _), (d_b, _)] = pods.as_slice() else {
        unreachable!("four pods")
    };
    let in_a = received(d_a).await?;
    assert!(in_a > 0 && in_a < 40, "{in_a}");
    assert_pairs(&[p_a], &[d_a], in_a).await?;
    assert_pairs(&[p_b], &[d_b], 40 - in_a).await?;
    Ok(())
}

/// Nobody says whether such an engine is ready; a dead one costs an attempt and no request.
#[tokio::test]
async fn a_listed_engine_that_is_gone_is_passed_over() -> Result<()> {
    let bed = Bed::start("listed-dead").await?;
    let outside = Outside::of(&bed).await?;
    let alive = outside.run(Pod::plain("alive"), "alive").await?;
    let dead = outside
        .run(Pod::plain("dead").restart_policy("Never"), "dead")
        .await?;
    bed.apply(&[
        route("llm", bed.model(), &[("llm", 1)]),
        listed(
            plain_server("llm", "llm"),
            &[json!({"address": alive.ip}), json!({"address": dead.ip})],
        ),
    ])
    .await?;
    until_addresses(&bed, &[alive.ip, dead.ip].map(|ip| format!("{ip}:8000"))).await?;
    bed.ask("warm").await?.said()?;
    outside.kubelet.crash(&outside.space, "dead").await?;
    bed.ask_many(30).await?;
    assert!(stats(&alive).await?.plain.finished >= 30);
    let retries = ["kthena_router_retries_total", bed.model()];
    assert!(
        bed.proxy.settled_metric(&retries).await? > 0.0,
        "nothing went to the dead one"
    );
    Ok(())
}
