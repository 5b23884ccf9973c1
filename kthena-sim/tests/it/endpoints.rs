//! Endpoints beyond completions and chat.

use kthena_sim::{Config, Connector, Engine, Eos, Handle, Task};
use serde_json::{Value, json};

use crate::client::{Answer, CHAT, COMPLETIONS, chat, completion, decode, get, pair, post, prefill, with};

async fn engine() -> Handle {
    Engine::start(Config {
        eos: Eos::Within { least: 6, most: 6 },
        ..Config::instant()
    })
    .await
    .unwrap()
}

fn event_names(answer: &Answer) -> Vec<String> {
    let mut names: Vec<String> = answer
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("event: "))
        .map(str::to_owned)
        .collect();
    names.dedup();
    names
}

#[tokio::test]
async fn responses_whole_and_streamed() {
    let engine = engine().await;
    let expected = post(
        engine.addr(),
        CHAT,
        &with(&chat("hi"), json!({ "max_tokens": 4 })),
    )
    .await
    .said();
    let body = json!({ "model": "sim", "input": "hi", "max_output_tokens": 4, "temperature": 0 });
    let whole = post(engine.addr(), "/v1/responses", &body).await.json();
    assert_eq!(whole["output"][0]["content"][0]["text"], expected[0].as_str());
    assert_eq!(
        (&whole["status"], &whole["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    let stream = post(
        engine.addr(),
        "/v1/responses",
        &with(&body, json!({ "stream": true })),
    )
    .await;
    assert_eq!(
        event_names(&stream),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let events = stream.chunks();
    assert!(
        events
            .iter()
            .enumerate()
            .all(|(number, event)| event["sequence_number"] == number)
    );
    let said: String = events
        .iter()
        .filter_map(|event| event["delta"].as_str())
        .collect();
    assert_eq!(said, expected[0]);
    let last = &events.last().unwrap()["response"];
    assert_eq!(
        (&last["usage"], &last["output"][0]["content"][0]["text"]),
        (&whole["usage"], &json!(said))
    );
    let ended = post(
        engine.addr(),
        "/v1/responses",
        &with(&body, json!({ "max_output_tokens": 50 })),
    )
    .await
    .json();
    assert_eq!(
        (&ended["status"], &ended["incomplete_details"]),
        (&json!("completed"), &Value::Null)
    );
}

#[tokio::test]
async fn messages_whole_and_streamed() {
    let engine = engine().await;
    let body = json!({
        "model": "sim", "max_tokens": 4, "temperature": 0, "messages": [{ "role": "user", "content": "hi" }],
    });
    let whole = post(engine.addr(), "/v1/messages", &body).await.json();
    let stream = post(
        engine.addr(),
        "/v1/messages",
        &with(&body, json!({ "stream": true })),
    )
    .await;
    assert_eq!(
        event_names(&stream),
        [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]
    );
    let said: String = stream
        .chunks()
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(whole["content"][0]["text"], said.as_str());
    assert_eq!(whole["stop_reason"], "max_tokens");
    let ended = post(
        engine.addr(),
        "/v1/messages",
        &with(&body, json!({ "max_tokens": 50 })),
    )
    .await
    .json();
    assert_eq!(ended["stop_reason"], "end_turn");
    let word = said.split_whitespace().nth(1).unwrap();
    let stopped = with(&body, json!({ "stop_sequences": [word] }));
    let stopped = post(engine.addr(), "/v1/messages", &stopped).await.json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(word))
    );
    let unknown = post(
        engine.addr(),
        "/v1/messages",
        &with(&body, json!({ "model": "nope" })),
    )
    .await;
    assert_eq!((unknown.status, &unknown.json()["type"]), (404, &json!("error")));
    let count = post(engine.addr(), "/v1/messages/count_tokens", &body)
        .await
        .json();
    assert_eq!(count["input_tokens"], whole["usage"]["input_tokens"]);
}

#[tokio::test]
async fn every_text_endpoint_hands_over() {
    let (p, d) = pair(Config::instant(), Connector::Nixl).await;
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let give = json!({ "kv_transfer_params": { "do_remote_decode": true, "do_remote_prefill": false } });
    for (path, body, limit) in [
        (
            "/v1/responses",
            json!({ "input": "hi", "temperature": 0 }),
            "max_output_tokens",
        ),
        (
            "/v1/messages",
            json!({ "messages": messages, "temperature": 0 }),
            "max_tokens",
        ),
    ] {
        let answer = post(
            p.addr(),
            path,
            &with(&with(&body, give.clone()), json!({ limit: 1 })),
        )
        .await
        .json();
        let params = &answer["kv_transfer_params"];
        assert!(params["remote_request_id"].is_string(), "{path}: {answer}");
        let answer = decode(d.addr(), path, &with(&body, json!({ limit: 5 })), params).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(
        (
            d.stats().kv.transfers_in,
            d.stats().decode_recomputed,
            p.stats().kv.pinned
        ),
        (2, 0, 0)
    );
}

#[tokio::test]
async fn pooling_endpoints_are_there_when_the_model_is_for_them() {
    let plain = engine().await;
    assert_eq!(
        post(plain.addr(), "/v1/embeddings", &json!({ "input": "x" }))
            .await
            .status,
        404
    );
    let config = Config {
        task: vec![Task::Embed, Task::Score],
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    assert_eq!(
        post(engine.addr(), COMPLETIONS, &completion("x")).await.status,
        404
    );
    let two = post(
        engine.addr(),
        "/v1/embeddings",
        &json!({ "input": ["one", "two"] }),
    )
    .await
    .json();
    let vector = |n: usize| two["data"][n]["embedding"].as_array().unwrap().clone();
    assert!(vector(0) != vector(1) && vector(0).len() == 64);
    let length: f64 = vector(0).iter().map(|x| x.as_f64().unwrap().powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-4);
    let packed = json!({ "input": "one", "encoding_format": "base64", "dimensions": 2 });
    let packed = post(engine.addr(), "/v1/embeddings", &packed).await.json();
    assert_eq!(packed["data"][0]["embedding"].as_str().unwrap().len(), 12);
    let score = json!({ "text_1": "query", "text_2": ["a", "b"] });
    let score = post(engine.addr(), "/score", &score).await.json();
    assert_eq!(score["data"].as_array().unwrap().len(), 2);
    let rerank = json!({ "query": "q", "documents": ["a", "b", "c"], "top_n": 2 });
    for path in ["/rerank", "/v1/rerank", "/v2/rerank"] {
        let ranked = post(engine.addr(), path, &rerank).await.json();
        let scores: Vec<_> = ranked["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["relevance_score"].as_f64())
            .collect();
        assert!(scores.len() == 2 && scores[0] >= scores[1]);
    }
}

#[tokio::test]
async fn adapters_come_and_go() {
    let engine = engine().await;
    let base = post(engine.addr(), COMPLETIONS, &completion("hi")).await.said();
    let tuned = with(&completion("hi"), json!({ "model": "tuned" }));
    assert_eq!(post(engine.addr(), COMPLETIONS, &tuned).await.status, 404);
    let load = json!({ "lora_name": "tuned", "lora_path": "/adapters/tuned" });
    assert_eq!(
        post(engine.addr(), "/v1/load_lora_adapter", &load).await.status,
        200
    );
    assert_eq!(
        post(engine.addr(), "/v1/load_lora_adapter", &load).await.status,
        400
    );
    let cards = get(engine.addr(), "/v1/models").await.json();
    assert_eq!(
        (&cards["data"][1]["id"], &cards["data"][1]["parent"]),
        (&json!("tuned"), &json!("sim"))
    );
    let answer = post(engine.addr(), COMPLETIONS, &tuned).await;
    assert_eq!(answer.json()["model"], "tuned");
    assert_ne!(answer.said(), base);
    let unload = json!({ "lora_name": "tuned" });
    assert_eq!(
        post(engine.addr(), "/v1/unload_lora_adapter", &unload)
            .await
            .status,
        200
    );
    assert_eq!(
        post(engine.addr(), "/v1/unload_lora_adapter", &unload)
            .await
            .status,
        404
    );
    assert_eq!(post(engine.addr(), COMPLETIONS, &tuned).await.status, 404);
}

#[tokio::test]
async fn adapters_hand_over_as_themselves() {
    let config = Config {
        lora: vec!["tuned".into()],
        ..Config::instant()
    };
    let plain = Engine::start(config.clone()).await.unwrap();
    let (p, d) = pair(config, Connector::Nixl).await;
    let body = with(&completion("hi"), json!({ "model": "tuned" }));
    let expected = post(plain.addr(), COMPLETIONS, &body).await.said();
    let wrong = with(&body, json!({ "model": "sim" }));
    for (prefilled, same) in [(&body, true), (&wrong, false)] {
        let params = prefill(p.addr(), COMPLETIONS, prefilled).await;
        let answer = decode(d.addr(), COMPLETIONS, &body, &params).await;
        assert_eq!(answer.said() == expected, same);
    }
}

#[tokio::test]
async fn tokens_go_back_and_forth() {
    let engine = engine().await;
    let tokens = post(engine.addr(), "/tokenize", &json!({ "prompt": "hello world" }))
        .await
        .json();
    assert_eq!(tokens["count"], 2);
    let text = post(
        engine.addr(),
        "/detokenize",
        &json!({ "tokens": tokens["tokens"] }),
    )
    .await
    .json();
    assert_eq!(text["prompt"], "hello world");
    let messages = json!([{ "role": "user", "content": [{ "type": "text", "text": "hi" }] }]);
    let conversation = json!({ "messages": messages, "return_token_strs": true });
    let conversation = post(engine.addr(), "/tokenize", &conversation).await.json();
    assert_eq!(
        (&conversation["token_strs"][0], &conversation["token_strs"][2]),
        (&json!("<|im_start|>"), &json!("Ċ"))
    );
    let usage = post(
        engine.addr(),
        CHAT,
        &with(&chat(""), json!({ "messages": messages })),
    )
    .await
    .json();
    assert_eq!(usage["usage"]["prompt_tokens"], conversation["count"]);
}
