//! Scaling and rollouts while clients ask: nobody who asks may notice.

use std::cell::Cell;

use anyhow::{Context, Result};
use futures::future::{join, try_join_all};
use kthena_tests::{http, proxy::Proxy};
use serde_json::{Value, json};

use crate::bed::Bed;

/// Clients that ask without a pause, every other time for a stream.
const CLIENTS: usize = 4;

fn serving() -> Value {
    let pod = |role: &str| {
        json!({ "spec": {
            "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "engine",
                "image": "kthena-sim",
                "args": ["--model", "tiny", "--eos", "never", "--connector", "nixl", "--role", role],
                "ports": [{ "containerPort": 8000 }],
                "lifecycle": { "preStop": { "sleep": { "seconds": 2 } } },
            }],
        } })
    };
    json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": { "name": "llm" },
        "spec": { "replicas": 1, "schedulerName": "default-scheduler", "template": { "roles": [
            { "name": "prefill", "replicas": 1, "entryTemplate": pod("prefill") },
            { "name": "decode", "replicas": 1, "entryTemplate": pod("decode") },
        ] } },
    })
}

fn traffic(model: &str) -> [Value; 2] {
    let server = json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelServer",
        "metadata": { "name": "llm" },
        "spec": {
            "model": "tiny",
            "inferenceEngine": "vLLM",
            "kvConnector": { "type": "nixl" },
            "workloadPort": { "port": 8000 },
            "workloadSelector": {
                "matchLabels": { "modelserving.volcano.sh/name": "llm" },
                "pdGroup": {
                    "groupKey": "modelserving.volcano.sh/group-name",
                    "prefillLabels": { "modelserving.volcano.sh/role": "prefill" },
                    "decodeLabels": { "modelserving.volcano.sh/role": "decode" },
                },
            },
        },
    });
    let route = json!({
        "apiVersion": "networking.serving.volcano.sh/v1alpha1",
        "kind": "ModelRoute",
        "metadata": { "name": "llm" },
        "spec": { "modelName": model, "rules": [{ "targetModels": [{ "modelServerName": "llm" }] }] },
    });
    [server, route]
}

async fn client(proxy: &Proxy, model: &str, number: usize, enough: &Cell<bool>) -> Result<usize> {
    let client = http::client();
    let url = format!("{}/chat/completions", proxy.base());
    let mut asked = 0;
    while !enough.get() {
        let prompt = format!("question {asked} of client {number}");
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": prompt }], "max_tokens": 8,
            "stream": asked % 2 == 0 });
        let answer = async { http::begin(&client, &url, &body).await?.rest().await?.said() };
        answer
            .await
            .with_context(|| format!("request {asked}; the proxy's last lines:\n{}", proxy.tail()))?;
        asked += 1;
    }
    Ok(asked)
}

/// Roles' numbers of instances.
fn roles(prefill: u32, decode: u32) -> Value {
    let mut roles = serving()["spec"]["template"]["roles"].take();
    roles[0]["replicas"] = prefill.into();
    roles[1]["replicas"] = decode.into();
    json!({ "spec": { "template": { "roles": roles } } })
}

async fn change(bed: &Bed) -> Result<()> {
    let count = async |pods: usize, groups: i32| -> Result<()> {
        bed.until_pods("llm", "that many pods", |found| found.len() == pods)
            .await?;
        bed.until_settled("llm", groups).await?;
        Ok(())
    };
    bed.patch("llm", roles(2, 1)).await?;
    count(3, 1).await?;
    bed.patch("llm", roles(1, 2)).await?;
    count(3, 1).await?;
    let mut pairs = roles(1, 1);
    pairs["spec"]["replicas"] = 2.into();
    bed.patch("llm", pairs).await?;
    count(4, 2).await?;
    // And a new revision of both, one group after the other.
    let before = bed.pods("llm").await?;
    let mut next = roles(1, 1);
    for role in next["spec"]["template"]["roles"]
        .as_array_mut()
        .context("roles")?
    {
        role["entryTemplate"]["metadata"]["annotations"] = json!({ "revision": "next" });
    }
    bed.patch("llm", next).await?;
    bed.until_pods("llm", "other pods", |found| {
        found.len() == 4 && found.iter().all(|(name, uid)| before.get(name) != Some(uid))
    })
    .await?;
    bed.until_settled("llm", 2).await?;
    Ok(())
}

#[tokio::test]
async fn scaling_and_a_rollout_fail_no_request() -> Result<()> {
    let bed = Bed::start().await?;
    let proxy = Proxy::on(&bed.cluster, &bed.space).await?;
    bed.space.apply(&serving().to_string()).await?;
    for object in traffic("pair") {
        bed.space.apply(&object.to_string()).await?;
    }
    bed.until_settled("llm", 1).await?;
    proxy
        .until_split(&bed.space, "llm", &["llm-0-prefill-0-0"], &["llm-0-decode-0-0"])
        .await?;
    let enough = Cell::new(false);
    let work = async {
        let done = change(&bed).await;
        enough.set(true);
        done
    };
    let clients = try_join_all((0..CLIENTS).map(|number| client(&proxy, "pair", number, &enough)));
    let (done, asked) = join(work, clients).await;
    let asked = asked?;
    done?;
    assert!(
        asked.iter().all(|asked| *asked > 50),
        "too little was asked to show anything: {asked:?}"
    );
    Ok(())
}
