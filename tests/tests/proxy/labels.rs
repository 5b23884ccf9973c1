//! Labels that change: pods leave and join ModelServers, roles and groups.

use anyhow::Result;
use kthena_api::labels;
use serde_json::Value;

use crate::{
    bed::{Bed, assert_pairs, received, stats},
    object::{Pod, plain_server, route, split_server},
};

const REQUESTS: u64 = 40;

#[tokio::test]
async fn a_pod_moves_from_one_server_to_another() -> Result<()> {
    let bed = Bed::start("move").await?;
    let other_model = format!("{}-other", bed.model());
    bed.plain().await?;
    bed.apply(&[
        plain_server("other", "other"),
        route("other", &other_model, &[("other", 100)]),
    ])
    .await?;
    let stays = bed.run(Pod::plain("stays")).await?;
    let moves = bed.run(Pod::plain("moves")).await?;
    bed.until_engines(&["moves", "stays"]).await?;
    bed.ask_many(REQUESTS).await?;
    assert!(received(&stays).await? > 0 && received(&moves).await? > 0);

    bed.pods(&[Pod::plain("moves").label(labels::MODEL_SERVING_NAME, "other")])
        .await?;
    bed.until_engines(&["stays"]).await?;
    bed.proxy.until_engines(&bed.space, "other", &["moves"]).await?;
    let (before, moved_before) = (received(&stays).await?, received(&moves).await?);
    bed.ask_many(REQUESTS).await?;
    assert_eq!(received(&stays).await? - before, REQUESTS);
    assert_eq!(received(&moves).await?, moved_before);
    bed.ask_for(&other_model, "hello").await?.said()?;
    assert_eq!(received(&moves).await? - moved_before, 1);

    // It leaves all of them.
    bed.pods(&[Pod::plain("moves").label(labels::MODEL_SERVING_NAME, "nobody")])
        .await?;
    bed.proxy.until_engines(&bed.space, "other", &[]).await?;
    let answer = bed.ask_for(&other_model, "hello").await?;
    assert_eq!(
        (answer.status, answer.code()?.as_str()),
        (503, "no_available_pods")
    );
    Ok(())
}

/// Engines that can play both parts swap them, one after the other.
#[tokio::test]
async fn prefill_and_decode_swap_their_roles() -> Result<()> {
    let bed = Bed::start("swap").await?;
    bed.split().await?;
    let a = bed.run(Pod::either("a", "prefill")).await?;
    let b = bed.run(Pod::either("b", "decode")).await?;
    bed.until_split(&["a"], &["b"]).await?;
    bed.ask("hello").await?.said()?;
    assert_eq!(
        (
            stats(&a).await?.prefill.finished,
            stats(&b).await?.decode.finished
        ),
        (1, 1)
    );

    bed.pods(&[Pod::either("a", "decode")]).await?;
    bed.until_split(&[], &["a", "b"]).await?;
    let refused = bed.ask("two decoders").await?;
    assert_eq!(
        (refused.status, refused.code()?.as_str()),
        (503, "no_prefill_decode_pair")
    );
    bed.pods(&[Pod::either("b", "prefill")]).await?;
    bed.until_split(&["b"], &["a"]).await?;
    bed.ask("hello again").await?.said()?;
    let (a, b) = (stats(&a).await?, stats(&b).await?);
    assert_eq!((a.prefill.finished, a.decode.finished), (1, 1), "{a:?}");
    assert_eq!((b.prefill.finished, b.decode.finished), (1, 1), "{b:?}");
    assert_eq!((a.plain.received, b.plain.received), (0, 0));
    Ok(())
}

#[tokio::test]
async fn pairs_stay_inside_their_group_and_follow_its_label() -> Result<()> {
    let bed = Bed::start("groups").await?;
    bed.split().await?;
    let decode = |name: &str, group: &str| Pod::decode(name).group(group);
    let mut pods = Vec::new();
    for pod in [
        Pod::prefill("p-a").group("a"),
        decode("d-a", "a"),
        Pod::prefill("p-b").group("b"),
        decode("d-b", "b"),
    ] {
        pods.push(bed.run(pod).await?);
    }
    let [p_a, d_a, p_b, d_b] = pods.as_slice() else {
        unreachable!("four pods")
    };
    bed.until_split(&["p-a", "p-b"], &["d-a", "d-b"]).await?;
    bed.ask_many(REQUESTS).await?;
    let in_a = received(d_a).await?;
    assert!(in_a > 0 && in_a < REQUESTS, "{in_a}");
    assert_pairs(&[p_a], &[d_a], in_a).await?;
    assert_pairs(&[p_b], &[d_b], REQUESTS - in_a).await?;

    // Its prefill engine stays behind and has nobody to work with.
    bed.pods(&[decode("d-b", "a")]).await?;
    let moved = |pod: &Value| pod["podInfo"]["labels"][labels::GROUP_NAME] == "a";
    bed.proxy.until(&bed.space, "pods", "d-b", moved).await?;
    let left_before = received(p_b).await?;
    bed.ask_many(REQUESTS).await?;
    assert_eq!(received(p_b).await?, left_before);
    assert!(received(d_b).await? > REQUESTS - in_a);
    assert_pairs(&[p_a, p_b], &[d_a, d_b], 2 * REQUESTS).await?;

    // A pod without a group belongs to none.
    bed.pods(&[decode("d-b", "")]).await?;
    bed.until_split(&["p-a", "p-b"], &["d-a"]).await?;
    bed.ask("hello").await?.said()?;
    Ok(())
}

/// While a rollout runs, old and new revisions of a group live side by side and must not be mixed.
#[tokio::test]
async fn revisions_are_not_mixed_while_both_are_complete() -> Result<()> {
    let bed = Bed::start("revisions").await?;
    bed.split().await?;
    let mut pods = Vec::new();
    for revision in ["old", "new"] {
        for (role, make) in [("p", Pod::prefill as fn(&str) -> Pod), ("d", Pod::decode)] {
            let pod = make(&format!("{role}-{revision}")).label(labels::REVISION, revision);
            pods.push(bed.run(pod).await?);
        }
    }
    let [p_old, d_old, p_new, d_new] = pods.as_slice() else {
        unreachable!("four pods")
    };
    bed.until_split(&["p-old", "p-new"], &["d-old", "d-new"]).await?;
    bed.ask_many(REQUESTS).await?;
    let old = received(d_old).await?;
    assert!(old > 0 && old < REQUESTS, "{old}");
    assert_pairs(&[p_old], &[d_old], old).await?;
    assert_pairs(&[p_new], &[d_new], REQUESTS - old).await?;
    // Of the old one only decode is left: no pair goes there any more.
    bed.delete("p-old").await?;
    bed.until_split(&["p-new"], &["d-new", "d-old"]).await?;
    bed.ask_many(REQUESTS).await?;
    assert_eq!(received(d_old).await?, old);
    assert_pairs(&[p_new], &[d_new], 2 * REQUESTS - old).await
}

/// The reference does not sort pods that were there before `pdGroup` was.
#[tokio::test]
async fn a_server_is_split_and_joined_again() -> Result<()> {
    let bed = Bed::start("resplit").await?;
    bed.plain().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_engines(&["d-0", "p-0"]).await?;
    bed.apply(&[split_server("llm", "llm")]).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask_many(REQUESTS).await?;
    assert_pairs(&[&prefill], &[&decode], REQUESTS).await?;
    bed.apply(&[plain_server("llm", "llm")]).await?;
    let joined = |server: &Value| server["prefillPods"].is_null() && !server["associatedPods"].is_null();
    bed.proxy.until(&bed.space, "modelservers", "llm", joined).await?;
    bed.ask("hello").await?.said()?;
    let (prefill, decode) = (stats(&prefill).await?, stats(&decode).await?);
    assert_eq!(
        prefill.prefill.received + decode.decode.received,
        2 * REQUESTS + 1,
        "one engine answered"
    );
    Ok(())
}
