//! A plain engine.

use kthena_sim::{Config, Engine, Eos};
use serde_json::json;

use crate::client::{CHAT, COMPLETIONS, chat, completion, get, post, with};

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_says() {
    let engine = Engine::start(Config::instant()).await.unwrap();
    for (path, body) in [
        (COMPLETIONS, completion("tell a story")),
        (CHAT, chat("tell a story")),
    ] {
        let whole = post(engine.addr(), path, &body).await;
        let stream = post(engine.addr(), path, &with(&body, json!({ "stream": true }))).await;
        assert_eq!((whole.status, stream.status), (200, 200));
        assert_eq!(whole.said(), stream.said());
        assert_eq!(whole.json()["usage"]["completion_tokens"], 12);
        assert_eq!(stream.events().last().unwrap(), "[DONE]");
    }
}

#[tokio::test]
async fn prompts_take_all_their_forms() {
    let engine = Engine::start(Config::instant()).await.unwrap();
    let text = post(engine.addr(), COMPLETIONS, &completion("tell a story")).await;
    let ids = with(&completion("tell a story"), json!({ "return_token_ids": true }));
    let ids = post(engine.addr(), COMPLETIONS, &ids).await.json()["choices"][0]["prompt_token_ids"].clone();
    for prompt in [json!(["tell a story"]), ids.clone(), json!([ids])] {
        let answer = post(
            engine.addr(),
            COMPLETIONS,
            &with(&completion(""), json!({ "prompt": prompt })),
        )
        .await;
        assert_eq!(answer.said(), text.said(), "{prompt}");
    }
    let two = json!({ "prompt": ["tell a story", "another one"], "n": 2, "temperature": 1 });
    let two = post(engine.addr(), COMPLETIONS, &with(&completion(""), two)).await;
    assert_eq!(two.said().len(), 4);
    assert_ne!(two.said()[0], two.said()[1]);
}

#[tokio::test]
async fn requests_are_recorded_byte_for_byte() {
    let engine = Engine::start(Config::instant()).await.unwrap();
    let body = completion("remember me");
    post(engine.addr(), COMPLETIONS, &body).await;
    let recorded = engine.requests(COMPLETIONS);
    assert_eq!(recorded.len(), 1);
    assert_eq!(recorded[0].body, body.to_string());
    assert_eq!(
        recorded[0].headers[0],
        ("Host".to_owned(), engine.addr().to_string())
    );
    let end = recorded[0].end.unwrap();
    assert_eq!((end.status, end.complete), (Some(200), true));
    let listed = get(engine.addr(), "/sim/requests?path=/v1/completions")
        .await
        .json();
    assert_eq!(listed[0]["body"], body.to_string());
}

#[tokio::test]
async fn a_prompt_seen_before_comes_from_the_cache() {
    let config = Config {
        block_size: 4,
        eos: Eos::Never,
        ..Config::instant()
    };
    let engine = Engine::start(config).await.unwrap();
    let body = completion("the story of a king and his horse in the dark wood");
    let cached = |answer: &crate::client::Answer| {
        answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].clone()
    };
    assert_eq!(cached(&post(engine.addr(), COMPLETIONS, &body).await), 0);
    assert_eq!(cached(&post(engine.addr(), COMPLETIONS, &body).await), 8);
    let salted = with(&body, json!({ "cache_salt": "tenant" }));
    assert_eq!(cached(&post(engine.addr(), COMPLETIONS, &salted).await), 0);
    assert_eq!(engine.stats().cached_tokens, 8);
}

#[tokio::test]
async fn stats_are_the_same_over_http() {
    let engine = Engine::start(Config::instant()).await.unwrap();
    post(engine.addr(), COMPLETIONS, &completion("x")).await;
    let stats = get(engine.addr(), "/sim/stats").await.json();
    assert_eq!(
        serde_json::from_value::<kthena_sim::Stats>(stats).unwrap(),
        engine.stats()
    );
    assert_eq!(
        (engine.stats().plain.received, engine.stats().plain.finished),
        (1, 1)
    );
}
