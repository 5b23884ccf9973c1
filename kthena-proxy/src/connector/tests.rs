use std::sync::Arc;

use kthena_api::model_server::KvConnectorType as Type;

use super::*;
use crate::cluster::endpoint::{Address, EndpointKey, Ports};

fn engine(host: &str, ports: Ports) -> Arc<Endpoint> {
    let key = EndpointKey {
        uid: "uid".into(),
        address: Address::new(host, 8000),
        tls: None,
    };
    Endpoint::new(key, "ns/prefill-0".into(), ports, None)
}

fn hand_over(prefill: &Endpoint, operation: Operation) -> HandOver<'_> {
    HandOver {
        operation,
        prefill,
        id: uuid::Uuid::from_u64_pair(0x1234_5678_9abc_4def, 1),
        prompts: 1,
        engine_id: None,
    }
}

fn edited(body: &str, edit: impl FnOnce(&[u8], &Peek, &mut Edits)) -> String {
    let bytes = Bytes::copy_from_slice(body.as_bytes());
    let peek = Peek::read(&bytes).unwrap();
    let mut edits = Edits::new();
    edit(&bytes, &peek, &mut edits);
    String::from_utf8(edits.apply(&bytes, &peek).to_bytes().to_vec()).unwrap()
}

fn prefill_body(protocol: Protocol, hand_over: &HandOver<'_>, body: &str) -> String {
    edited(body, |bytes, peek, edits| {
        prefill_edits(hand_over.operation, bytes, peek, edits);
        protocol.0.prefill(hand_over, edits);
    })
}

fn decode_body(
    protocol: Protocol,
    hand_over: &HandOver<'_>,
    answer: Option<&str>,
    body: &str,
) -> (String, Decode) {
    let answer = answer.map(|answer| Answer::read(answer.as_bytes()).unwrap());
    let mut decode = Decode::WithCache;
    let text = edited(body, |_, _, edits| {
        decode = protocol.0.decode(hand_over, answer.as_ref(), edits);
    });
    (text, decode)
}

fn vllm(connector: Option<Type>) -> Protocol {
    Protocol::of(&InferenceEngine::Vllm, connector.as_ref())
}

fn sglang(connector: Option<Type>) -> Protocol {
    Protocol::of(&InferenceEngine::Sglang, connector.as_ref())
}

#[test]
fn the_connector_follows_from_engine_and_type() {
    let name = |protocol: Protocol| protocol.0.name();
    assert_eq!(name(vllm(None)), "auto");
    for (connector, expected) in [
        (Type::Http, "http"),
        (Type::Lmcache, "lmcache"),
        (Type::Nixl, "nixl"),
        (Type::Mooncake, "mooncake"),
    ] {
        assert_eq!(name(vllm(Some(connector))), expected);
    }
    assert_eq!(name(sglang(None)), "sglang");
    for connector in [Type::Http, Type::Nixl, Type::Mooncake] {
        assert_eq!(name(sglang(Some(connector))), "sglang");
    }
    assert_eq!(name(sglang(Some(Type::Lmcache))), "lmcache");
}

#[test]
fn prefill_makes_one_token_in_one_piece() {
    let (prefill, http) = (engine("10.0.0.9", Ports::default()), vllm(Some(Type::Http)));
    let check = |operation, body: &str, expected: &str| {
        assert_eq!(
            prefill_body(http, &hand_over(&prefill, operation), body),
            expected
        );
    };
    check(
        Operation::Chat,
        r#"{"model":"m","stream":true,"max_tokens":50,"messages":[{"role":"user","content":"hey"}]}"#,
        r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hey"}]}"#,
    );
    check(
        Operation::Chat,
        r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"max_completion_tokens":200,"n":3,"min_tokens":4}"#,
        r#"{"model":"m","max_completion_tokens":1,"n":1,"max_tokens":1}"#,
    );
    check(
        Operation::Completions,
        r#"{"prompt":"x","best_of":2}"#,
        r#"{"prompt":"x","max_tokens":1}"#,
    );
    check(
        Operation::Completions,
        r#"{"prompt":"x","stop":["a"],"stop_token_ids":[7],"max_tokens":9}"#,
        r#"{"prompt":"x","max_tokens":1}"#,
    );
    check(
        Operation::Completions,
        r#"{"prompt":"x","stop":7,"max_tokens":9}"#,
        r#"{"prompt":"x","stop":7,"max_tokens":1}"#,
    );
    check(
        Operation::Messages,
        r#"{"stop_sequences":["a"],"max_tokens":9,"messages":[]}"#,
        r#"{"max_tokens":1,"messages":[]}"#,
    );
    check(
        Operation::Responses,
        r#"{"input":"x","max_output_tokens":9,"store":true,"background":false}"#,
        r#"{"input":"x","max_output_tokens":1,"store":false}"#,
    );
    check(
        Operation::Messages,
        r#"{"max_tokens":9,"messages":[]}"#,
        r#"{"max_tokens":1,"messages":[]}"#,
    );
}

#[test]
fn http_changes_nothing_for_decode() {
    let (prefill, body) = (
        engine("10.0.0.9", Ports::default()),
        r#"{"model":"m","max_tokens":50}"#,
    );
    for connector in [Type::Http, Type::Lmcache] {
        let decoded = decode_body(
            vllm(Some(connector)),
            &hand_over(&prefill, Operation::Chat),
            Some("{}"),
            body,
        );
        assert_eq!(decoded, (body.to_owned(), Decode::WithCache));
    }
}

const PARAMETERS: &str = r#"{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[4, 5]],"remote_engine_id":"e7","remote_num_tokens":9007199254740993,"remote_host":"10.0.0.9","remote_port":5600}"#;

#[test]
fn nixl_asks_for_parameters_and_hands_them_on_unchanged() {
    let prefill = engine("10.0.0.9", Ports::default());
    let hand_over = hand_over(&prefill, Operation::Completions);
    for protocol in [vllm(None), vllm(Some(Type::Nixl)), vllm(Some(Type::Mooncake))] {
        assert_eq!(protocol.0.order(&prefill), Order::PrefillFirst);
        assert_eq!(
            prefill_body(protocol, &hand_over, r#"{"model":"base","prompt":"x"}"#),
            r#"{"model":"base","prompt":"x","max_tokens":1,"kv_transfer_params":{"do_remote_decode":true,"do_remote_prefill":false}}"#
        );
        let answer = format!(r#"{{"id":"p","choices":[],"kv_transfer_params":{PARAMETERS}}}"#);
        let decoded = decode_body(protocol, &hand_over, Some(&answer), r#"{"prompt":"x"}"#);
        assert_eq!(
            decoded,
            (
                format!(r#"{{"prompt":"x","kv_transfer_params":{PARAMETERS}}}"#),
                Decode::WithCache
            )
        );
        for nothing in [r#"{"kv_transfer_params":null}"#, "{}"] {
            let decoded = decode_body(protocol, &hand_over, Some(nothing), r#"{"prompt":"x"}"#);
            assert_eq!(
                decoded,
                (r#"{"prompt":"x"}"#.to_owned(), Decode::Alone(Alone::NoParameters))
            );
        }
    }
}

#[test]
fn an_unspecified_host_becomes_the_pods_address() {
    for (host, address) in [
        ("10.0.0.9", "10.0.0.9"),
        ("fd00::9", "fd00::9"),
        ("engine.example", "engine.example"),
    ] {
        let prefill = engine(host, Ports::default());
        for unspecified in ["0.0.0.0", "::", ""] {
            let parameters = format!(r#"{{"a":"0.0.0.0","remote_host" : "{unspecified}","z":[1]}}"#);
            let answer = format!(r#"{{"kv_transfer_params":{parameters}}}"#);
            let (body, _) = decode_body(
                vllm(None),
                &hand_over(&prefill, Operation::Chat),
                Some(&answer),
                "{}",
            );
            assert_eq!(
                body,
                format!(r#"{{"kv_transfer_params":{{"a":"0.0.0.0","remote_host" : "{address}","z":[1]}}}}"#)
            );
        }
    }
}

#[test]
fn mooncake_with_a_bootstrap_port_names_the_transfer_itself() {
    let prefill = engine(
        "10.0.0.9",
        Ports {
            mooncake_bootstrap: Some(8998),
            ..Ports::default()
        },
    );
    let hand_over = HandOver {
        engine_id: Some("engine-1"),
        ..hand_over(&prefill, Operation::Completions)
    };
    let protocol = vllm(Some(Type::Mooncake));
    assert_eq!(protocol.0.order(&prefill), Order::TogetherAfterLookup);
    let id = "xfer-12345678-9abc-4def-0000-000000000001";
    assert_eq!(
        prefill_body(protocol, &hand_over, "{}"),
        format!(
            r#"{{"max_tokens":1,"kv_transfer_params":{{"do_remote_decode":true,"do_remote_prefill":false,"transfer_id":"{id}"}}}}"#
        )
    );
    let (body, decode) = decode_body(protocol, &hand_over, None, "{}");
    assert_eq!(decode, Decode::WithCache);
    assert_eq!(
        body,
        format!(
            r#"{{"kv_transfer_params":{{"do_remote_decode":false,"do_remote_prefill":true,"remote_bootstrap_addr":"http://10.0.0.9:8998","remote_engine_id":"engine-1","transfer_id":"{id}"}}}}"#
        )
    );
}

#[test]
fn the_bootstrap_server_tells_the_engine_id() {
    let answer = br#"{"0":{"engine_id":"3c6b5540","worker_addr":{"0":{"0":"tcp://127.0.0.1:46235"}}}}"#;
    assert_eq!(mooncake_engine_id(answer).as_deref(), Some("3c6b5540"));
    for wrong in [
        &b"{}"[..],
        b"[]",
        b"",
        br#"{"0":{}}"#,
        br#"{"0":{"engine_id":7}}"#,
    ] {
        assert_eq!(mooncake_engine_id(wrong), None);
    }
}

#[test]
fn sglang_meets_in_one_room_on_both_sides() {
    let (prefill, protocol) = (engine("10.0.0.9", Ports::default()), sglang(None));
    let hand_over = hand_over(&prefill, Operation::Chat);
    assert_eq!(protocol.0.order(&prefill), Order::Together);
    let room = (0x1234_5678_9abc_4def_u64 >> 1) & !0xFFFF;
    let meeting = format!(r#""bootstrap_host":"10.0.0.9","bootstrap_port":8998,"bootstrap_room":{room}"#);
    assert_eq!(
        prefill_body(protocol, &hand_over, r#"{"stream":true,"n":2,"max_tokens":7}"#),
        format!(r#"{{"n":2,"max_tokens":1,{meeting}}}"#)
    );
    let (body, decode) = decode_body(protocol, &hand_over, None, r#"{"stream":true,"n":2}"#);
    assert_eq!(
        (body, decode),
        (format!(r#"{{"stream":true,"n":2,{meeting}}}"#), Decode::WithCache)
    );

    let other_port = engine(
        "10.0.0.9",
        Ports {
            sglang_bootstrap: Some(9100),
            ..Ports::default()
        },
    );
    let (body, _) = decode_body(
        protocol,
        &self::hand_over(&other_port, Operation::Chat),
        None,
        "{}",
    );
    assert!(body.contains(r#""bootstrap_port":9100"#));
}

#[test]
fn sglang_gives_each_prompt_of_a_batch_a_room() {
    let (prefill, protocol) = (engine("10.0.0.9", Ports::default()), sglang(None));
    let hand_over = HandOver {
        prompts: 2,
        ..hand_over(&prefill, Operation::Completions)
    };
    let (body, _) = decode_body(protocol, &hand_over, None, r#"{"prompt":["a","b"]}"#);
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        body["bootstrap_host"],
        serde_json::json!(["10.0.0.9", "10.0.0.9"])
    );
    assert_eq!(body["bootstrap_port"], serde_json::json!([8998, 8998]));
    let rooms = body["bootstrap_room"].as_array().unwrap();
    assert!(
        rooms.len() == 2 && rooms[0] != rooms[1] && rooms.iter().all(|room| room.as_u64().unwrap() < 1 << 63)
    );
}

#[test]
fn what_cannot_be_split_is_answered_by_decode_alone() {
    let check = |operation, body: &str, expected: Option<Alone>| {
        let peek = Peek::read(body.as_bytes()).unwrap();
        assert_eq!(
            alone(operation, body.as_bytes(), &peek, vllm(None).0),
            expected,
            "{body}"
        );
        assert_eq!(
            alone(operation, body.as_bytes(), &peek, sglang(None).0),
            None,
            "{body}"
        );
    };
    check(Operation::Completions, r#"{"prompt":"a"}"#, None);
    check(Operation::Completions, r#"{"prompt":["a"]}"#, None);
    check(Operation::Completions, r#"{"prompt":[1,2,3]}"#, None);
    check(
        Operation::Completions,
        r#"{"prompt":[ [1,2], [3] ]}"#,
        Some(Alone::Batch),
    );
    check(
        Operation::Completions,
        r#"{"prompt":["a","b"]}"#,
        Some(Alone::Batch),
    );
    check(
        Operation::Completions,
        r#"{"prompt":"a","prompt_logprobs":1}"#,
        Some(Alone::PromptLogprobs),
    );
    check(
        Operation::Completions,
        r#"{"prompt":"a","prompt_logprobs":null}"#,
        None,
    );
    check(Operation::Completions, r#"{"prompt":"a","echo":true}"#, None);
    check(
        Operation::Completions,
        r#"{"prompt":"a","echo":true,"logprobs":2}"#,
        Some(Alone::EchoLogprobs),
    );
    check(
        Operation::Chat,
        r#"{"use_beam_search":true}"#,
        Some(Alone::BeamSearch),
    );
    check(
        Operation::Responses,
        r#"{"background":true}"#,
        Some(Alone::Background),
    );
}

#[test]
fn several_answers_are_not_made_of_a_cache_that_is_read_once() {
    let check = |protocol: Protocol, body: &str, expected: Option<Alone>| {
        let peek = Peek::read(body.as_bytes()).unwrap();
        let found = alone(Operation::Chat, body.as_bytes(), &peek, protocol.0);
        assert_eq!(found, expected, "{} {body}", protocol.0.name());
    };
    for protocol in [vllm(None), vllm(Some(Type::Nixl)), vllm(Some(Type::Mooncake))] {
        for (body, expected) in [
            (r#"{"n":2}"#, Some(Alone::SeveralAnswers)),
            (r#"{"best_of":3}"#, Some(Alone::SeveralAnswers)),
            (r#"{"n":1,"best_of":1}"#, None),
            (r#"{"n":null}"#, None),
            (r#"{"n":"2"}"#, None),
            ("{}", None),
        ] {
            check(protocol, body, expected);
        }
    }
    for protocol in [vllm(Some(Type::Http)), vllm(Some(Type::Lmcache)), sglang(None)] {
        check(protocol, r#"{"n":2}"#, None);
    }
}

#[test]
fn an_answer_that_came_to_its_own_end_is_not_cut() {
    let cut = |operation, answer: &str| Answer::read(answer.as_bytes()).unwrap().is_cut(operation);
    assert!(cut(
        Operation::Chat,
        r#"{"choices":[{"index":0,"finish_reason":"length"}]}"#
    ));
    assert!(!cut(
        Operation::Chat,
        r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#
    ));
    assert!(!cut(Operation::Completions, r#"{"choices":[]}"#));
    assert!(cut(
        Operation::Responses,
        r#"{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"}}"#
    ));
    assert!(!cut(
        Operation::Responses,
        r#"{"status":"completed","incomplete_details":null}"#
    ));
    assert!(cut(Operation::Messages, r#"{"stop_reason":"max_tokens"}"#));
    assert!(!cut(Operation::Messages, r#"{"stop_reason":"end_turn"}"#));
}
