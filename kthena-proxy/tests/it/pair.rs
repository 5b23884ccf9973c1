//! Prefill on one engine, decode on another.

use serde_json::{Value, json};

use crate::bed::{CHAT, COMPLETIONS, WAYS, direct, settled};

fn requests() -> Vec<(&'static str, Value)> {
    let messages = json!([{"role": "system", "content": "You are terse."}, {"role": "user", "content": "What is the capital of France?"}]);
    let chat = json!({"model": "m", "messages": messages, "max_tokens": 12, "temperature": 0});
    let completion = json!({"model": "m", "prompt": "The quick brown fox jumps over the lazy dog", "max_tokens": 12, "temperature": 0});
    let with = |base: &Value, more: Value| {
        let mut all = base.clone();
        more.as_object()
            .expect("an object")
            .iter()
            .for_each(|(name, value)| all[name] = value.clone());
        all
    };
    vec![
        (CHAT, chat.clone()),
        (CHAT, with(&chat, json!({"stream": true}))),
        (
            CHAT,
            with(
                &chat,
                json!({"stream": true, "stream_options": {"include_usage": true}}),
            ),
        ),
        (CHAT, with(&chat, json!({"max_completion_tokens": 5}))),
        (COMPLETIONS, completion.clone()),
        (
            COMPLETIONS,
            with(&completion, json!({"stream": true, "min_tokens": 3})),
        ),
        (COMPLETIONS, with(&completion, json!({"max_tokens": 1}))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_answers_what_one_engine_answers() {
    for way in WAYS {
        let single = way.plain().await;
        let (bed, prefill, decode) = way.bed(|_| {}, json!({})).await;
        for (path, body) in requests() {
            let answer = bed.post(path, &body).await;
            let expected = direct(&single, path, &body).await;
            answer.assert_good(format_args!("{}: {body}", way.name));
            assert_eq!(answer.generated(), expected.generated(), "{}: {body}", way.name);
            assert_eq!(
                answer.events().len(),
                expected.events().len(),
                "{}: {body}: {}",
                way.name,
                answer.text()
            );
        }
        let (p, d) = (settled(&prefill).await, settled(&decode).await);
        let count = requests().len() as u64;
        assert_eq!(
            (p.prefill.finished, d.decode.finished),
            (count, count),
            "{}: {p:?} {d:?}",
            way.name
        );
        assert_eq!(
            (d.decode_recomputed, d.refused.total(), p.kv.leaked),
            (0, 0, 0),
            "{}: {d:?}",
            way.name
        );
        if way.sim == kthena_sim::Connector::Lmcache {
            // The store is looked into by whole blocks of the prompt.
            assert!(d.cached_tokens > 0, "{}: {d:?}", way.name);
        } else {
            assert!(d.kv.transfers_in >= count, "{}: {d:?}", way.name);
        }
    }
}
