//! The main job: the official clients talk to a model whose prefill and decode engines were found by labels.

use anyhow::Result;
use kthena_api::labels;
use kthena_tests::{clients::Client, cluster::documents, http};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, assert_pairs, chat},
    object::{Pod, SERVED},
};

/// One call as it is, and one streamed, with each client; all must say `expected`.
async fn ask_both_ways(base: &str, call: &str, arguments: &Value, expected: &str) -> Result<u64> {
    let mut calls = 0;
    for client in Client::all().await? {
        for stream in [false, true] {
            let mut arguments = arguments.clone();
            arguments["stream"] = stream.into();
            let answer = client.call(base, call, arguments).await?;
            assert_eq!(answer.text()?, expected, "{client:?} {call} {stream}");
            assert_eq!(answer.events_so_far().len() > 2, stream, "{client:?} {call}");
            calls += 1;
        }
    }
    Ok(calls)
}

#[tokio::test]
async fn both_clients_talk_to_a_pair_that_was_found_by_labels() -> Result<()> {
    let bed = Bed::start("clients").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("llm-0-prefill-0-0")).await?;
    let decode = bed.run(Pod::decode("llm-0-decode-0-0")).await?;
    bed.until_split(&[&prefill.name], &[&decode.name]).await?;
    // An engine that computes everything itself says what a pair has to say.
    let alone = bed
        .run(Pod::plain("alone").label(labels::MODEL_SERVING_NAME, "other"))
        .await?;

    let mut requests = 0;
    let question = "What is the capital of France?";
    let direct = http::post(
        &format!("{}/v1/chat/completions", alone.url()),
        &chat(SERVED, question),
    )
    .await?;
    requests += ask_both_ways(
        &bed.proxy.base(),
        "chat.completions.create",
        &chat(bed.model(), question),
        &direct.said()?,
    )
    .await?;

    let completion = |model: &str| json!({"model": model, "prompt": "Once upon a time", "max_tokens": 6});
    let direct = http::post(&format!("{}/v1/completions", alone.url()), &completion(SERVED)).await?;
    requests += ask_both_ways(
        &bed.proxy.base(),
        "completions.create",
        &completion(bed.model()),
        &direct.said()?,
    )
    .await?;

    for client in Client::all().await? {
        let list = client.call(&bed.proxy.base(), "models.list", json!({})).await?;
        let listed = list.data()?["data"].as_array().cloned().unwrap_or_default();
        assert!(
            listed.iter().any(|model| model["id"] == bed.model()),
            "{listed:?}"
        );
        let long = chat(bed.model(), &"many words ".repeat(10_000));
        let answer = client
            .call(&bed.proxy.base(), "chat.completions.create", long)
            .await?;
        assert!(answer.data()?["usage"]["prompt_tokens"].as_u64() > Some(20_000));
        requests += 1;
        let unknown = chat("nobody-serves-this", question);
        let failure = client
            .call(&bed.proxy.base(), "chat.completions.create", unknown)
            .await?
            .failure()?;
        assert_eq!(
            (failure.class.as_str(), failure.status),
            ("NotFoundError", Some(404))
        );
    }
    assert_pairs(&[&prefill], &[&decode], requests).await?;
    for counter in [
        "kthena_router_retries_total",
        "kthena_router_prefill_decode_alone_total",
    ] {
        let count = bed.proxy.settled_metric(&[counter, bed.model()]).await?;
        assert_eq!(count, 0.0, "{counter}");
    }
    Ok(())
}

/// Pods as the controller makes them of the ModelServing in the vLLM-Ascend guide: a sidecar comes before the engine, whose
/// arguments are vLLM's own.
#[tokio::test]
async fn the_objects_of_the_ascend_guide_serve_a_pair() -> Result<()> {
    let bed = Bed::start("guide").await?;
    let model = format!("deepseek-ai/{}", bed.model()); // the guide's own name may belong to another test
    for (role, kv_role) in [("prefill", "kv_producer"), ("decode", "kv_consumer")] {
        let pod = GUIDE_POD.replace("ROLE", role).replace("KIND", kv_role);
        bed.space.apply(&pod).await?;
    }
    bed.apply(&documents(&GUIDE.replace("MODEL", &model))?).await?;
    let [prefill, decode] = ["deepseek-v2-lite-0-prefill-0-0", "deepseek-v2-lite-0-decode-0-0"];
    bed.proxy
        .until_split(&bed.space, "deepseek-v2", &[prefill], &[decode])
        .await?;
    let prefill = bed.kubelet.until_ready(&bed.space, prefill).await?;
    let decode = bed.kubelet.until_ready(&bed.space, decode).await?;

    let mut question = chat(&model, "Where is the capital of China?");
    let whole = http::post(&bed.chat_url(), &question).await?;
    question["stream"] = true.into();
    let streamed = http::post(&bed.chat_url(), &question).await?;
    assert_eq!(whole.said()?, streamed.said()?);
    assert_eq!(whole.json()?["model"], "deepseek-ai/DeepSeekV2");
    assert_pairs(&[&prefill], &[&decode], 2).await?;
    Ok(())
}

const GUIDE: &str = r#"
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelServer
metadata:
  name: deepseek-v2
spec:
  kvConnector:
    type: nixl
  workloadSelector:
    matchLabels:
      modelserving.volcano.sh/name: deepseek-v2-lite
    pdGroup:
      groupKey: "modelserving.volcano.sh/group-name"
      prefillLabels:
        modelserving.volcano.sh/role: prefill
      decodeLabels:
        modelserving.volcano.sh/role: decode
  workloadPort:
    port: 8000
  model: "deepseek-ai/DeepSeekV2"
  inferenceEngine: "vLLM"
  trafficPolicy:
    timeout: 10s
---
apiVersion: networking.serving.volcano.sh/v1alpha1
kind: ModelRoute
metadata:
  name: deepseek-v2
spec:
  modelName: "MODEL"
  rules:
    - name: "default"
      targetModels:
        - modelServerName: "deepseek-v2"
"#;

const GUIDE_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  name: deepseek-v2-lite-0-ROLE-0-0
  labels:
    modelserving.volcano.sh/name: deepseek-v2-lite
    modelserving.volcano.sh/group-name: deepseek-v2-lite-0
    modelserving.volcano.sh/role: ROLE
    modelserving.volcano.sh/role-id: ROLE-0
    modelserving.volcano.sh/entry: "true"
    modelserving.volcano.sh/revision: 7d8f9c
  annotations:
    sim.kthena.io/container: vllm
spec:
  containers:
    - name: runtime
      image: ghcr.io/volcano-sh/runtime:latest
      ports:
        - containerPort: 8100
    - name: vllm
      image: ghcr.io/volcano-sh/kthena-engine:vllm-ascend_v0.10.1rc1_mooncake_v0.3.5
      ports:
        - containerPort: 8000
      args:
        - "/mnt/cache/deepseek-ai/DeepSeek-V2-Lite/"
        - "--served-model-name"
        - "deepseek-ai/DeepSeekV2"
        - "--kv-transfer-config"
        - '{"kv_connector":"MooncakeConnectorV1","kv_role":"KIND","kv_port":"20001","engine_id":"0"}'
"#;
