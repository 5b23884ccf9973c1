//! What recordings of vLLM 0.32 have shown, in words: names, orders, framing. `recorded.rs` compares with the
//! recordings themselves where they are at hand.

use kthena_sim::{Config, Connector, Engine, Handle, Role};
use serde_json::{Value, json};

use crate::client::{
    Answer, CHAT, COMPLETIONS, chat, completion, exchange, for_prefill, get, post, post_with, raw, with,
};
use crate::recorded::tree::Tree;

async fn engine() -> Handle {
    Engine::start(Config {
        max_model_len: 2048,
        ..Config::instant()
    })
    .await
    .unwrap()
}

/// The members of an object, in their order; `path` leads to it.
fn members(answer: &str, path: &str) -> String {
    let mut tree = Tree::parse(answer);
    for step in path.split('.').filter(|step| !step.is_empty()) {
        tree = match (tree, step.parse::<usize>()) {
            (Tree::List(mut items), Ok(index)) => items.swap_remove(index),
            (Tree::Object(members), Err(_)) => members.into_iter().find(|(name, _)| name == step).unwrap().1,
            (other, _) => panic!("{step} of {other:?}"),
        };
    }
    let Tree::Object(members) = tree else {
        panic!("{tree:?} has no members")
    };
    members
        .into_iter()
        .map(|(name, _)| name)
        .collect::<Vec<_>>()
        .join(" ")
}

fn header_names(answer: &Answer) -> String {
    answer
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

#[tokio::test]
async fn headers_are_uvicorns() {
    let engine = engine().await;
    let whole = post(engine.addr(), COMPLETIONS, &completion("x")).await;
    assert_eq!(
        header_names(&whole),
        "date server content-length content-type vary connection"
    );
    assert_eq!(
        (whole.header("server"), whole.header("vary")),
        (Some("uvicorn"), Some("Origin"))
    );
    assert_eq!(whole.header("content-type"), Some("application/json"));
    let stream = post(
        engine.addr(),
        COMPLETIONS,
        &with(&completion("x"), json!({ "stream": true })),
    )
    .await;
    assert_eq!(
        header_names(&stream),
        "date server content-type vary connection transfer-encoding"
    );
    assert_eq!(
        stream.header("content-type"),
        Some("text/event-stream; charset=utf-8")
    );
    assert_eq!(
        header_names(&get(engine.addr(), "/health").await),
        "date server content-length vary connection"
    );
    let wrong = get(engine.addr(), COMPLETIONS).await;
    assert_eq!(
        (wrong.status, wrong.header("allow"), wrong.text()),
        (405, Some("POST"), r#"{"detail":"Method Not Allowed"}"#.into())
    );
    let slash = get(engine.addr(), "/v1/models/").await;
    let location = format!("http://{}/v1/models", engine.addr());
    assert_eq!(
        (slash.status, slash.header("location")),
        (307, Some(location.as_str()))
    );
    let head = exchange(engine.addr(), &raw(engine.addr(), "HEAD", "/v1/models", &[], b""))
        .await
        .unwrap();
    assert!(head.starts_with(b"HTTP/1.1 405") && head.ends_with(b"\r\n\r\n"));
}

#[tokio::test]
async fn whole_answers_have_their_members_in_order() {
    let engine = engine().await;
    let answer = post(engine.addr(), COMPLETIONS, &completion("x")).await.text();
    assert_eq!(
        members(&answer, ""),
        "id object created model choices service_tier system_fingerprint usage kv_transfer_params \
         ec_transfer_params metrics"
    );
    assert_eq!(
        members(&answer, "choices.0"),
        "index text logprobs finish_reason stop_reason token_ids prompt_logprobs prompt_token_ids routed_experts"
    );
    let usage =
        "prompt_tokens total_tokens completion_tokens prompt_tokens_details completion_tokens_details";
    assert_eq!(members(&answer, "usage"), usage);
    let details = "cached_tokens created_cache_tokens multimodal_tokens";
    assert_eq!(members(&answer, "usage.prompt_tokens_details"), details);
    let answer = post(engine.addr(), CHAT, &chat("x")).await.text();
    assert_eq!(
        members(&answer, ""),
        "id object created model choices service_tier system_fingerprint usage prompt_logprobs prompt_token_ids \
         prompt_text kv_transfer_params ec_transfer_params metrics"
    );
    assert_eq!(
        members(&answer, "choices.0.message"),
        "role content refusal annotations audio function_call reasoning"
    );
    let without = Engine::start(Config {
        prompt_tokens_details: false,
        ..Config::instant()
    })
    .await
    .unwrap();
    let answer = post(without.addr(), COMPLETIONS, &completion("x")).await.json();
    assert_eq!(answer["usage"]["prompt_tokens_details"], Value::Null);
}

#[tokio::test]
async fn streams_open_go_on_and_end_as_recorded() {
    let engine = engine().await;
    let kinds = |answer: &Answer| -> Vec<String> {
        let events = answer.events();
        let kind = |event: &String| {
            if event == "[DONE]" {
                event.clone()
            } else {
                members(event, "")
            }
        };
        let mut kinds: Vec<_> = events.iter().map(kind).collect();
        kinds.dedup();
        kinds
    };
    let base = "id object created model choices";
    let stream =
        |body: &Value, options: Value| with(body, json!({ "stream": true, "stream_options": options }));
    let plain = post(engine.addr(), COMPLETIONS, &stream(&completion("x"), Value::Null)).await;
    assert_eq!(
        kinds(&plain),
        [base, &format!("{base} system_fingerprint"), "[DONE]"]
    );
    let usage = post(
        engine.addr(),
        COMPLETIONS,
        &stream(&completion("x"), json!({ "include_usage": true })),
    )
    .await;
    assert_eq!(
        kinds(&usage),
        [base, &format!("{base} usage system_fingerprint"), "[DONE]"]
    );
    assert_eq!(
        members(&usage.events()[12], "usage.prompt_tokens_details"),
        "cached_tokens"
    );
    let chatting = post(
        engine.addr(),
        CHAT,
        &stream(&chat("x"), json!({ "include_usage": true })),
    )
    .await;
    let opening = format!("{base} prompt_token_ids prompt_text");
    assert_eq!(
        kinds(&chatting),
        [
            &opening,
            base,
            &format!("{base} usage system_fingerprint"),
            "[DONE]"
        ]
    );
    let events = chatting.events();
    assert_eq!(
        members(&events[0], "choices.0"),
        "index delta logprobs finish_reason"
    );
    assert_eq!(
        members(&events[1], "choices.0"),
        "index delta logprobs finish_reason token_ids"
    );
    assert_eq!(
        members(&events[12], "choices.0"),
        "index delta logprobs finish_reason stop_reason token_ids"
    );
    assert_eq!(
        members(&events[13], "usage.prompt_tokens_details"),
        "cached_tokens created_cache_tokens"
    );
    let running = json!({ "include_usage": true, "continuous_usage_stats": true });
    let running = post(engine.addr(), COMPLETIONS, &stream(&completion("x"), running))
        .await
        .chunks();
    assert!(
        running
            .iter()
            .take(12)
            .enumerate()
            .all(|(n, chunk)| chunk["usage"]["completion_tokens"] == n + 1)
    );
}

#[tokio::test]
async fn hand_over_parameters_have_fourteen_members() {
    let p = Engine::start(Config::instant().paired(Role::Prefill, Connector::Nixl))
        .await
        .unwrap();
    let answer = post(p.addr(), COMPLETIONS, &for_prefill(&completion("x")))
        .await
        .text();
    assert_eq!(
        members(&answer, "kv_transfer_params"),
        "do_remote_prefill do_remote_decode remote_block_ids remote_engine_id remote_request_id remote_host \
         remote_port tp_size dcp_size pp_size remote_num_tokens remote_blocks_expiry_time transfer_mode \
         remote_prefill_cached_tokens"
    );
    let told = Config {
        side_channel_host: Some("0.0.0.0".into()),
        ..Config::instant()
    };
    let p = Engine::start(told.paired(Role::Prefill, Connector::Nixl))
        .await
        .unwrap();
    let answer = post(p.addr(), COMPLETIONS, &for_prefill(&completion("x")))
        .await
        .json();
    assert_eq!(answer["kv_transfer_params"]["remote_host"], "0.0.0.0");
    assert_eq!(
        answer["kv_transfer_params"]["remote_port"],
        p.side_channel_addr().unwrap().port()
    );
}

#[tokio::test]
async fn errors_name_status_type_and_parameter() {
    let engine = engine().await;
    let long = vec![300; 2100];
    for (path, body, status, kind, param) in [
        (
            COMPLETIONS,
            json!({ "model": "nope", "prompt": "x" }),
            404,
            "NotFoundError",
            json!("model"),
        ),
        (
            CHAT,
            json!({ "model": "sim" }),
            400,
            "Bad Request",
            json!("body.messages"),
        ),
        (
            CHAT,
            json!({ "messages": [] }),
            400,
            "BadRequestError",
            Value::Null,
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "max_tokens": 5000 }),
            400,
            "BadRequestError",
            json!("max_tokens"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": long }),
            400,
            "BadRequestError",
            json!("input_tokens"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "temperature": -1 }),
            400,
            "BadRequestError",
            json!("temperature"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "max_tokens": 1, "min_tokens": 4 }),
            400,
            "BadRequestError",
            Value::Null,
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "stream_options": {} }),
            400,
            "BadRequestError",
            json!("stream_options"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "n": 2, "temperature": 0 }),
            400,
            "BadRequestError",
            Value::Null,
        ),
        (
            COMPLETIONS,
            json!({ "prompt": "x", "max_tokens": "many" }),
            400,
            "Bad Request",
            json!("body.max_tokens"),
        ),
        (
            COMPLETIONS,
            json!({ "prompt": 5 }),
            400,
            "Bad Request",
            json!("body.prompt"),
        ),
        (COMPLETIONS, json!([]), 400, "Bad Request", json!("body")),
    ] {
        let answer = post(engine.addr(), path, &body).await;
        assert_eq!(members(&answer.text(), "error"), "message type param code");
        let error = &answer.json()["error"];
        let found = (answer.status, &error["code"], &error["type"], &error["param"]);
        assert_eq!(
            found,
            (status, &json!(status), &json!(kind), &param),
            "{}",
            answer.text()
        );
    }
    let text = post_with(
        engine.addr(),
        COMPLETIONS,
        &[("Content-Type", "text/plain")],
        &completion("x"),
    )
    .await;
    assert_eq!((text.status, &text.json()["error"]["param"]), (400, &Value::Null));
    // More tokens than fit beside the prompt are cut, not refused.
    let body = with(
        &completion("x"),
        json!({ "max_tokens": 2048, "ignore_eos": true }),
    );
    assert_eq!(
        post(engine.addr(), COMPLETIONS, &body).await.json()["usage"]["total_tokens"],
        2048
    );
}

#[tokio::test]
async fn a_stream_begins_before_its_first_token() {
    let config = Config {
        max_num_seqs: 1,
        decode_tokens_per_second: 20.0,
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    let body = with(
        &completion("x"),
        json!({ "stream": true, "max_tokens": 200, "ignore_eos": true }),
    )
    .to_string();
    let request = raw(engine.addr(), "POST", COMPLETIONS, &[], body.as_bytes());
    let _busy = crate::client::begin(engine.addr(), &request).await;
    engine
        .wait_for(crate::client::SOON, |stats| stats.running == 1)
        .await
        .unwrap();
    let mut queued = crate::client::begin(engine.addr(), &request).await;
    let mut head = [0; 4096];
    let read = tokio::io::AsyncReadExt::read(&mut queued, &mut head)
        .await
        .unwrap();
    assert!(String::from_utf8_lossy(&head[..read]).ends_with("transfer-encoding: chunked\r\n\r\n"));
    assert_eq!(engine.stats().waiting, 1);
}
