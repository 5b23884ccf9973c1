//! ModelRoutes and ModelServers that are made, changed and removed while requests come.

use anyhow::Result;
use k8s_openapi::api::core::v1;
use kthena_api::{ModelRoute, ModelServer, labels};
use kthena_tests::kubelet::RunningPod;
use kube::{ResourceExt, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    bed::{Bed, models_asked, received, stats},
    object::{Pod, plain_server, route},
};

/// ModelServers `a` and `b` with a pod each of the same name.
async fn two_servers(bed: &Bed) -> Result<[RunningPod; 2]> {
    let mut pods = Vec::new();
    for name in ["a", "b"] {
        bed.apply(&[plain_server(name, name)]).await?;
        pods.push(
            bed.run(Pod::plain(name).label(labels::MODEL_SERVING_NAME, name))
                .await?,
        );
        bed.proxy.until_engines(&bed.space, name, &[name]).await?;
    }
    Ok(pods.try_into().expect("two pods"))
}

/// So many requests, and how many of them each pod got.
async fn shares(bed: &Bed, pods: &[RunningPod; 2], requests: u64) -> Result<[u64; 2]> {
    let mut before = [0; 2];
    for (count, pod) in before.iter_mut().zip(pods) {
        *count = received(pod).await?;
    }
    for _ in 0..requests {
        bed.ask("hello").await?.said()?;
    }
    let [a, b] = pods;
    let shares = [received(a).await? - before[0], received(b).await? - before[1]];
    assert_eq!(shares.iter().sum::<u64>(), requests);
    Ok(shares)
}

#[tokio::test]
async fn weights_can_be_shifted_from_one_server_to_another() -> Result<()> {
    let bed = Bed::start("weights").await?;
    let pods = two_servers(&bed).await?;
    let weights = |a, b| route("split", bed.model(), &[("a", a), ("b", b)]);
    bed.apply(&[weights(100, 0)]).await?;
    assert_eq!(shares(&bed, &pods, 30).await?, [30, 0]);
    bed.apply(&[weights(50, 50)]).await?;
    let [a, b] = shares(&bed, &pods, 60).await?;
    assert!(
        a > 5 && b > 5,
        "{a} and {b} of 60: less than once in a billion times"
    );
    bed.apply(&[weights(0, 100)]).await?;
    assert_eq!(shares(&bed, &pods, 30).await?, [0, 30]);
    bed.apply(&[route("split", bed.model(), &[("a", 1)])]).await?;
    assert_eq!(shares(&bed, &pods, 30).await?, [30, 0]);
    Ok(())
}

#[tokio::test]
async fn a_model_gets_another_name() -> Result<()> {
    let bed = Bed::start("rename").await?;
    two_servers(&bed).await?;
    let new = format!("{}-new", bed.model());
    bed.apply(&[route("llm", bed.model(), &[("a", 1)])]).await?;
    bed.ask("hello").await?.said()?;
    // The name of a route's model is not to be changed; the API server says so, and nothing happens.
    let refused = bed.apply(&[route("llm", &new, &[("a", 1)])]).await.unwrap_err();
    assert!(format!("{refused:#}").contains("immutable"), "{refused:#}");
    bed.apply(&[route("llm-new", &new, &[("a", 1)])]).await?;
    bed.ask_for(&new, "hello").await?.said()?;
    let routes = bed.space.api::<ModelRoute>().await?;
    routes.delete("llm", &DeleteParams::default()).await?;
    bed.proxy
        .until(&bed.space, "modelroutes", "llm", Value::is_null)
        .await?;
    let lost = bed.ask("hello").await?;
    assert_eq!((lost.status, lost.code()?.as_str()), (404, "model_not_found"));
    bed.ask_for(&new, "hello").await?.said()?;
    let models = bed.proxy.models().await?;
    assert!(models.contains(&new) && !models.iter().any(|model| model == bed.model()));
    Ok(())
}

#[tokio::test]
async fn adapters_are_added_and_removed() -> Result<()> {
    let bed = Bed::start("lora").await?;
    bed.apply(&[plain_server("llm", "llm")]).await?;
    let [sql, law] = ["sql", "law"].map(|adapter| format!("{}-{adapter}", bed.model()));
    let pod = bed
        .run(
            Pod::plain("pod")
                .argument("--lora", &sql)
                .argument("--lora", &law),
        )
        .await?;
    bed.until_engines(&["pod"]).await?;
    let adapters = |names: &[&String]| {
        let mut route = route("llm", bed.model(), &[("llm", 1)]);
        route["spec"]["loraAdapters"] = json!(names);
        route
    };
    bed.apply(&[adapters(&[&sql])]).await?;
    let answer = bed.ask_for(&sql, "hello").await?;
    answer.said()?;
    assert_eq!(
        answer.json()?["model"],
        sql,
        "the engine was asked for the adapter, not for its base"
    );
    assert_eq!(bed.ask_for(&law, "hello").await?.status, 404);
    bed.apply(&[adapters(&[&law])]).await?;
    bed.ask_for(&law, "hello").await?.said()?;
    assert_eq!(bed.ask_for(&sql, "hello").await?.status, 404);
    assert_eq!(received(&pod).await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_is_deleted_is_not_found_and_what_comes_back_is() -> Result<()> {
    let bed = Bed::start("delete").await?;
    bed.plain().await?;
    bed.run(Pod::plain("pod").tokens_per_second(20)).await?;
    bed.until_engines(&["pod"]).await?;
    let mut stream = bed.stream("a long story", 50).await?;
    stream.events(3).await?;
    let servers = bed.space.api::<ModelServer>().await?;
    servers.delete("llm", &DeleteParams::default()).await?;
    bed.proxy
        .until(&bed.space, "modelservers", "llm", Value::is_null)
        .await?;
    let lost = bed.ask("hello").await?;
    assert_eq!(
        (lost.status, lost.code()?.as_str()),
        (404, "model_server_not_found")
    );
    let routes = bed.space.api::<ModelRoute>().await?;
    routes.delete("llm", &DeleteParams::default()).await?;
    bed.proxy
        .until(&bed.space, "modelroutes", "llm", Value::is_null)
        .await?;
    let lost = bed.ask("hello").await?;
    assert_eq!((lost.status, lost.code()?.as_str()), (404, "model_not_found"));
    // A request keeps the world in which it began.
    stream.rest().await?.said()?;
    bed.plain().await?;
    bed.until_engines(&["pod"]).await?;
    bed.until_answered("hello").await?;
    Ok(())
}

#[tokio::test]
async fn a_server_follows_its_own_changes() -> Result<()> {
    let bed = Bed::start("server").await?;
    bed.plain().await?;
    let first = bed.run(Pod::plain("first")).await?;
    let named = Pod::plain("second")
        .label(labels::MODEL_SERVING_NAME, "other")
        .argument("--model", "second-name")
        .port(8001);
    let second = bed.run(named).await?;
    bed.until_engines(&["first"]).await?;
    let mut server = plain_server("llm", "llm");
    bed.ask("hello").await?.said()?;

    // Selector and port change together.
    server["spec"]["workloadSelector"]["matchLabels"][labels::MODEL_SERVING_NAME] = "other".into();
    server["spec"]["workloadPort"]["port"] = 8001.into();
    bed.apply(std::slice::from_ref(&server)).await?;
    bed.until_engines(&["second"]).await?;
    bed.ask("hello").await?.said()?;
    assert_eq!((received(&first).await?, received(&second).await?), (1, 1));
    // The engine's other name.
    server["spec"]["model"] = "second-name".into();
    bed.apply(std::slice::from_ref(&server)).await?;
    bed.ask("hello").await?.said()?;
    server["spec"]["model"] = "unknown".into();
    bed.apply(std::slice::from_ref(&server)).await?;
    assert_eq!(bed.ask("hello").await?.status, 404);
    server["spec"]["model"] = "tiny".into();
    bed.apply(std::slice::from_ref(&server)).await?;
    bed.ask("hello").await?.said()?;
    assert_eq!(
        models_asked(&second).await?,
        ["tiny", "second-name", "unknown", "tiny"]
    );

    // A selector that nothing matches leaves nothing, where the reference keeps what it had.
    server["spec"]["workloadSelector"]["matchLabels"][labels::MODEL_SERVING_NAME] = "nobody".into();
    bed.apply(std::slice::from_ref(&server)).await?;
    bed.until_engines(&[]).await?;
    let lost = bed.ask("hello").await?;
    assert_eq!((lost.status, lost.code()?.as_str()), (503, "no_available_pods"));
    // Two labels must both match.
    server["spec"]["workloadSelector"]["matchLabels"] =
        json!({labels::MODEL_SERVING_NAME: "llm", "tier": "gold"});
    server["spec"]["workloadPort"]["port"] = 8000.into();
    bed.apply(&[server]).await?;
    bed.until_engines(&[]).await?;
    bed.pods(&[Pod::plain("first").label("tier", "gold")]).await?;
    bed.until_engines(&["first"]).await?;
    bed.ask("hello").await?.said()?;
    assert_eq!(stats(&first).await?.plain.finished, 2);
    Ok(())
}

#[tokio::test]
async fn of_two_routes_for_a_model_the_older_counts() -> Result<()> {
    let bed = Bed::start("older").await?;
    let pods = two_servers(&bed).await?;
    bed.apply(&[route("z-older", bed.model(), &[("a", 1)])]).await?;
    // Times of creation are whole seconds; names decide among equals.
    let routes = bed.space.api::<ModelRoute>().await?;
    let older = routes.get("z-older").await?.creation_timestamp();
    kthena_tests::wait::until("a later second", || async {
        let namespaces = bed.space.api::<v1::ConfigMap>().await?;
        let mut probe = v1::ConfigMap::default();
        probe.metadata.generate_name = Some("clock-".to_owned());
        let now = namespaces
            .create(&kube::api::PostParams::default(), &probe)
            .await?;
        Ok((now.creation_timestamp() > older).then_some(()))
    })
    .await?;
    bed.apply(&[route("a-younger", bed.model(), &[("b", 1)])]).await?;
    assert_eq!(shares(&bed, &pods, 10).await?, [10, 0]);
    // A change does not make it younger.
    bed.apply(&[route("z-older", bed.model(), &[("a", 2)])]).await?;
    assert_eq!(shares(&bed, &pods, 10).await?, [10, 0]);
    routes.delete("z-older", &DeleteParams::default()).await?;
    bed.proxy
        .until(&bed.space, "modelroutes", "z-older", Value::is_null)
        .await?;
    assert_eq!(shares(&bed, &pods, 10).await?, [0, 10]);
    Ok(())
}
