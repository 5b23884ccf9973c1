//! What ModelRoutes and ModelServers are told about themselves.

use anyhow::Result;
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::Condition};
use kthena_api::{
    ModelRoute, ModelServer,
    model_server::{EndpointCount, ModelServerStatus},
};
use kthena_tests::{
    cluster::{Cluster, Mark},
    kubelet::Readiness,
    proxy::Proxy,
};
use kube::api::DeleteParams;
use serde_json::json;

use crate::{
    bed::Bed,
    object::{Pod, plain_server, route},
};

/// Engines in all, prefill, decode; of each kind those that are there and those that serve.
type Counts = [(i32, i32); 3];

fn counts(status: &ModelServerStatus) -> Counts {
    let pair = |count: Option<EndpointCount>| count.map_or((-1, -1), |count| (count.total, count.ready));
    [pair(status.endpoints), pair(status.prefill), pair(status.decode)]
}

/// Status and reason of a condition that speaks about the object as it is.
fn verdict(conditions: &[Condition], type_: &str, generation: Option<i64>) -> Option<(String, String)> {
    let mut found = conditions
        .iter()
        .filter(|condition| condition.type_ == type_ && condition.observed_generation == generation);
    found
        .next()
        .map(|condition| (condition.status.clone(), condition.reason.clone()))
}

async fn until_counts(bed: &Bed, wanted: Counts) -> Result<ModelServer> {
    let is_told = |server: &ModelServer| {
        let status = server.status.as_ref();
        status.is_some_and(|status| counts(status) == wanted)
    };
    bed.space
        .until("llm", &format!("the counts {wanted:?}"), is_told)
        .await
}

/// Waits until the conditions of a route are these, about the route as it is now.
async fn until_route(bed: &Bed, name: &str, accepted: [&str; 2], resolved: [&str; 2]) -> Result<ModelRoute> {
    let is_told = |route: &ModelRoute| {
        let conditions = route.status.iter().flat_map(|status| &status.conditions);
        let conditions: Vec<Condition> = conditions.cloned().collect();
        [("Accepted", accepted), ("ResolvedRefs", resolved)]
            .into_iter()
            .all(|(type_, [status, reason])| {
                verdict(&conditions, type_, route.metadata.generation)
                    == Some((status.to_owned(), reason.to_owned()))
            })
    };
    bed.space
        .until(name, &format!("{accepted:?} and {resolved:?}"), is_told)
        .await
}

fn message<'a>(route: &'a ModelRoute, type_: &str) -> &'a str {
    let mut conditions = route.status.iter().flat_map(|status| &status.conditions);
    conditions
        .find(|condition| condition.type_ == type_)
        .map_or("", |condition| condition.message.as_str())
}

const ACCEPTED: [&str; 2] = ["True", "Accepted"];
const RESOLVED: [&str; 2] = ["True", "ResolvedRefs"];
const NOT_FOUND: [&str; 2] = ["False", "BackendNotFound"];

#[tokio::test]
async fn a_server_counts_its_engines_by_part_and_by_readiness() -> Result<()> {
    let bed = Bed::start("counts").await?;
    bed.split().await?;
    let server = until_counts(&bed, [(0, 0), (0, 0), (0, 0)]).await?;
    let generation = server.metadata.generation;
    let conditions = server.status.map(|status| status.conditions).unwrap_or_default();
    for (type_, [status, reason]) in [("Accepted", ACCEPTED), ("ResolvedRefs", RESOLVED)] {
        let told = verdict(&conditions, type_, generation);
        assert_eq!(
            told,
            Some((status.to_owned(), reason.to_owned())),
            "{conditions:?}"
        );
    }
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0")).await?;
    bed.run(Pod::decode("d-1")).await?;
    until_counts(&bed, [(3, 3), (1, 1), (2, 2)]).await?;
    bed.kubelet.set_ready(&bed.space, "d-1", Readiness::Never).await?;
    until_counts(&bed, [(3, 2), (1, 1), (2, 1)]).await?;
    // The selector takes it and the proxy has no use for it.
    bed.run(Pod::plain("other")).await?;
    until_counts(&bed, [(4, 2), (1, 1), (2, 1)]).await?;
    bed.delete("p-0").await?;
    bed.delete("other").await?;
    until_counts(&bed, [(2, 1), (0, 0), (2, 1)]).await?;
    // The part is no more: every engine counts.
    bed.apply(&[plain_server("llm", "llm")]).await?;
    let server = until_counts(&bed, [(2, 1), (-1, -1), (-1, -1)]).await?;
    assert!(server.metadata.generation > generation);
    let observed = server.status.and_then(|status| status.observed_generation);
    assert_eq!(observed, server.metadata.generation);
    Ok(())
}

#[tokio::test]
async fn a_route_says_which_of_its_servers_are_missing() -> Result<()> {
    let bed = Bed::start("refs").await?;
    bed.apply(&[route("llm", bed.model(), &[("a", 1), ("b", 1)])])
        .await?;
    let told = until_route(&bed, "llm", ACCEPTED, NOT_FOUND).await?;
    assert_eq!(
        message(&told, "ResolvedRefs"),
        "not found: ModelServer a, ModelServer b"
    );
    bed.apply(&[plain_server("a", "a"), plain_server("b", "b")])
        .await?;
    until_route(&bed, "llm", ACCEPTED, RESOLVED).await?;
    let servers = bed.space.api::<ModelServer>().await?;
    servers.delete("b", &DeleteParams::default()).await?;
    let told = until_route(&bed, "llm", ACCEPTED, NOT_FOUND).await?;
    assert_eq!(message(&told, "ResolvedRefs"), "not found: ModelServer b");
    // The route itself is changed instead.
    bed.apply(&[route("llm", bed.model(), &[("a", 1)])]).await?;
    until_route(&bed, "llm", ACCEPTED, RESOLVED).await?;
    Ok(())
}

#[tokio::test]
async fn a_route_that_cannot_be_used_says_why() -> Result<()> {
    let bed = Bed::start("refused").await?;
    bed.apply(&[plain_server("a", "a")]).await?;
    let mut broken = route("broken", bed.model(), &[("a", 1)]);
    broken["spec"]["rules"][0]["modelMatch"] = json!({"headers": {"x-user": {"regex": "("}}});
    bed.apply(&[broken.clone()]).await?;
    let told = until_route(&bed, "broken", ["False", "Invalid"], RESOLVED).await?;
    assert!(message(&told, "Accepted").contains("x-user"), "{told:?}");
    broken["spec"]["rules"][0]["modelMatch"] = json!({"headers": {"x-user": {"regex": "a+"}}});
    bed.apply(&[broken]).await?;
    let told = until_route(&bed, "broken", ACCEPTED, RESOLVED).await?;
    assert_eq!(message(&told, "Accepted"), "");
    let mut gateway = route("gateway", &format!("{}-gateway", bed.model()), &[("a", 1)]);
    gateway["spec"]["parentRefs"] = json!([{"name": "default"}]);
    bed.apply(&[gateway]).await?;
    until_route(&bed, "gateway", ["False", "NoMatchingParent"], RESOLVED).await?;
    Ok(())
}

/// The statuses that two proxies have written, by resource and name.
fn writes(cluster: &Cluster, from: Mark, resource: &str, name: &str) -> Result<Vec<(String, u16)>> {
    let entries = cluster.audit().since(from)?.into_iter().filter(|entry| {
        let object = &entry.object_ref;
        object.resource == resource && object.subresource == "status" && object.name == name
    });
    Ok(entries
        .map(|entry| {
            (
                entry.user.username,
                entry.response_status.map_or(0, |status| status.code),
            )
        })
        .collect())
}

/// Every replica comes to the same statuses; what one has written, the others leave alone.
#[tokio::test]
async fn replicas_do_not_write_more_than_there_is_to_say() -> Result<()> {
    const REPLICAS: usize = 2;
    let cluster = Cluster::builder().start().await?;
    let bed = Bed::on(&cluster, "storm").await?;
    let elsewhere = cluster.namespace("replica").await?;
    let second = Proxy::on(&cluster, &elsewhere).await?;
    let begin = cluster.audit().mark()?;

    bed.split().await?;
    until_counts(&bed, [(0, 0), (0, 0), (0, 0)]).await?;
    let mut steps = 1;
    for (pod, wanted) in [
        (Pod::prefill("p-0"), [(1, 1), (1, 1), (0, 0)]),
        (Pod::decode("d-0"), [(2, 2), (1, 1), (1, 1)]),
        (Pod::decode("d-1"), [(3, 3), (1, 1), (2, 2)]),
    ] {
        bed.run(pod).await?;
        until_counts(&bed, wanted).await?;
        steps += 2; // it is there, and it is ready
    }
    bed.delete("d-0").await?;
    bed.space.until_gone::<v1::Pod>("d-0").await?;
    until_counts(&bed, [(2, 2), (1, 1), (1, 1)]).await?;
    steps += 2;
    let written = writes(&cluster, begin, "modelservers", "llm")?;
    assert!(written.iter().all(|(_, code)| *code == 200), "{written:?}");
    assert!(
        (2..=steps * REPLICAS).contains(&written.len()),
        "{steps} changes: {written:?}"
    );
    // The servers' pods are none of the route's business.
    let written = writes(&cluster, begin, "modelroutes", "llm")?;
    assert!((1..=2 * REPLICAS).contains(&written.len()), "{written:?}");

    // Much happens, and nothing that a status would tell.
    let quiet = cluster.audit().mark()?;
    for number in 0..20 {
        bed.ask(&format!("question {number}")).await?.said()?;
        let pod = Pod::decode("d-1").annotation("example.com/number", &number.to_string());
        bed.pods(&[pod.label("example.com/number", &number.to_string())])
            .await?;
    }
    for proxy in [&bed.proxy, &second] {
        let is_last = |pod: &serde_json::Value| pod["podInfo"]["labels"]["example.com/number"] == "19";
        proxy.until(&bed.space, "pods", "d-1", is_last).await?;
    }
    // Whoever had something to write about it has written by the time that a later change is told.
    for fence in ["fence-a", "fence-b", "fence-c"] {
        bed.apply(&[plain_server(fence, "nobody")]).await?;
        let is_told = |server: &ModelServer| server.status.is_some();
        bed.space.until(fence, "its status", is_told).await?;
        let written = writes(&cluster, quiet, "modelservers", fence)?.len();
        assert!((1..=REPLICAS).contains(&written), "{written}");
    }
    for (resource, name) in [("modelservers", "llm"), ("modelroutes", "llm")] {
        assert_eq!(writes(&cluster, quiet, resource, name)?, []);
    }
    Ok(())
}

#[tokio::test]
async fn a_status_that_somebody_else_has_written_is_put_right() -> Result<()> {
    let bed = Bed::start("nonsense").await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    until_counts(&bed, [(1, 1), (1, 1), (0, 0)]).await?;
    let servers = bed.space.api::<ModelServer>().await?;
    let nonsense = json!({"status": {"endpoints": {"total": 7, "ready": 7}}});
    servers
        .patch_status(
            "llm",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&nonsense),
        )
        .await?;
    until_counts(&bed, [(1, 1), (1, 1), (0, 0)]).await?;
    Ok(())
}
