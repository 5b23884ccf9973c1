//! Hand-over through a shared store.

use kthena_sim::{Config, Connector, Engine, Handle, Role};

use crate::client::{COMPLETIONS, completion, post};

async fn start(role: Role, store: &str) -> Handle {
    let config = Config {
        block_size: 4,
        store: store.into(),
        ..Config::instant()
    };
    Engine::start(config.paired(role, Connector::Lmcache))
        .await
        .unwrap()
}

#[tokio::test]
async fn decode_finds_what_prefill_stored() {
    let (p, d) = (
        start(Role::Prefill, "shared").await,
        start(Role::Decode, "shared").await,
    );
    let body = completion("the story of a king and his horse");
    let expected = post(
        Engine::start(Config::instant()).await.unwrap().addr(),
        COMPLETIONS,
        &body,
    )
    .await
    .said();
    post(
        p.addr(),
        COMPLETIONS,
        &crate::client::with(&body, serde_json::json!({ "max_tokens": 1 })),
    )
    .await;
    let answer = post(d.addr(), COMPLETIONS, &body).await;
    assert_eq!(answer.said(), expected);
    assert_eq!(
        answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"],
        4
    );
    assert_eq!((d.stats().decode_recomputed, d.stats().cached_tokens), (0, 0));
}

#[tokio::test]
async fn what_is_not_in_the_store_is_computed_and_counted() {
    let (p, d) = (
        start(Role::Prefill, "one").await,
        start(Role::Decode, "another").await,
    );
    let body = completion("the story of a king and his horse");
    post(p.addr(), COMPLETIONS, &body).await;
    post(d.addr(), COMPLETIONS, &body).await;
    assert_eq!(d.stats().decode_recomputed, 1);
    // The second time it is in the engine's own cache.
    post(d.addr(), COMPLETIONS, &body).await;
    assert_eq!(d.stats().decode_recomputed, 1);
}
