//! What the proxy may do, and what it says when that is too little.

use std::collections::BTreeSet;

use anyhow::Result;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kthena_api::{ModelRoute, ModelServer};
use kthena_tests::{
    cluster::{Cluster, Mark, documents},
    proxy::{Proxy, ROLE},
    wait,
};

use crate::{
    bed::{Bed, assert_pairs},
    object::Pod,
};

/// The role without the rules for one kind.
fn without(kind: &str, name: &str) -> Result<String> {
    let mut role = documents(ROLE)?.remove(0);
    role["metadata"]["name"] = name.into();
    let rules = role["rules"].as_array_mut().expect("a role has rules");
    for rule in rules.iter_mut() {
        let resources = rule["resources"].as_array_mut().expect("a rule has resources");
        resources.retain(|resource| resource != kind);
    }
    rules.retain(|rule| rule["resources"] != serde_json::json!([]));
    Ok(role.to_string())
}

/// Waits until the proxy has said that it may not have these.
async fn until_refused(proxy: &Proxy, kind: &str) -> Result<()> {
    wait::until("the refusal in the log", || async {
        let log = proxy.log()?;
        let refusal = log
            .lines()
            .find(|line| line.contains("forbidden") && line.contains(kind));
        Ok(refusal.map(drop))
    })
    .await
}

#[tokio::test]
async fn a_missing_permission_is_named_and_keeps_the_proxy_from_being_ready() -> Result<()> {
    let cluster = Cluster::shared().await?;
    for kind in [
        "pods",
        "modelroutes",
        "modelservers",
        "externalmodelproviders",
        "secrets",
    ] {
        let space = cluster.namespace("access").await?;
        let role = format!("kthena-proxy-without-{kind}");
        cluster.apply(&without(kind, &role)?).await?;
        let account = Proxy::bound(cluster, &space, &role).await?;
        let mut proxy = Proxy::builder(&account).start().await?;
        until_refused(&proxy, kind).await?;
        assert_eq!(proxy.readiness().await?.status, 503, "{kind}");
        // With the permission it becomes ready by itself.
        Proxy::account(cluster, &space).await?;
        proxy.until_ready().await?;
    }
    Ok(())
}

/// Without it only the statuses are missing.
#[tokio::test]
async fn requests_do_not_depend_on_the_permission_to_write_statuses() -> Result<()> {
    let cluster = Cluster::builder().start().await?; // where nobody else writes them
    let mut bed = Bed::on(&cluster, "mute").await?;
    let role = "kthena-proxy-mute";
    cluster.apply(&without("modelservers/status", role)?).await?;
    let space = cluster.namespace("mute-proxy").await?;
    let account = Proxy::bound(&cluster, &space, role).await?;
    bed.proxy = Proxy::builder(&account).start().await?;
    bed.proxy.until_ready().await?;
    bed.split().await?;
    bed.run(Pod::prefill("p-0")).await?;
    bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    until_refused(&bed.proxy, "modelservers/status").await?;
    bed.ask("hello").await?.said()?;
    assert_eq!(bed.proxy.readiness().await?.status, 200);
    let untold = |server: &ModelServer| server.status.is_none();
    bed.space.until("llm", "no status", untold).await?;
    // With the permission it is told by itself.
    Proxy::account(&cluster, &space).await?;
    let told = |server: &ModelServer| server.status.is_some();
    bed.space.until("llm", "its status", told).await?;
    Ok(())
}

/// What an account has asked for, as (group, resource, verb). None of it may have been refused.
fn asked(cluster: &Cluster, account: &str) -> Result<BTreeSet<(String, String, String)>> {
    let mut asked = BTreeSet::new();
    for entry in cluster.audit().since(Mark::default())? {
        if entry.user.username == account {
            let code = entry.response_status.map_or(0, |status| status.code);
            assert!(code < 400, "{code} for {} {}", entry.verb, entry.request_uri);
            let object = entry.object_ref;
            let resource = match object.subresource.as_str() {
                "" => object.resource,
                subresource => format!("{}/{subresource}", object.resource),
            };
            asked.insert((object.api_group, resource, entry.verb));
        }
    }
    Ok(asked)
}

/// Every other test runs with these permissions, too; this one says that none of them could be left out.
#[tokio::test]
async fn the_published_role_is_enough_and_no_more_than_that() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let bed = Bed::on(&cluster, "role").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask("hello").await?.said()?;
    assert_pairs(&[&prefill], &[&decode], 1).await?;
    bed.space
        .until("llm", "its status", |route: &ModelRoute| route.status.is_some())
        .await?;
    bed.space
        .until("llm", "its status", |server: &ModelServer| {
            server.status.is_some()
        })
        .await?;

    let mut allowed = BTreeSet::new();
    let role: ClusterRole = serde_json::from_value(documents(ROLE)?.remove(0))?;
    for rule in role.rules.into_iter().flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for verb in &rule.verbs {
                    allowed.insert((group.clone(), resource.clone(), verb.clone()));
                }
            }
        }
    }
    let account = Proxy::account(&cluster, &bed.space).await?;
    let asked = || async { asked(&cluster, account.name()) };
    // Whatever it does last may be on its way to the log.
    wait::until_value("all that the role allows in the log", asked, |asked| {
        *asked == allowed
    })
    .await?;
    Ok(())
}
