//! What the proxy may do, and what it says when that is too little.

use anyhow::Result;
use kthena_tests::{
    cluster::Cluster,
    proxy::{Proxy, ROLE},
    wait,
};

use crate::{
    bed::{Bed, assert_pairs},
    object::Pod,
};

/// The role without the rules for one kind.
fn without(kind: &str, name: &str) -> Result<String> {
    let mut role = kthena_tests::cluster::documents(ROLE)?.remove(0);
    role["metadata"]["name"] = name.into();
    let rules = role["rules"].as_array_mut().expect("a role has rules");
    for rule in rules.iter_mut() {
        let resources = rule["resources"].as_array_mut().expect("a rule has resources");
        resources.retain(|resource| resource != kind);
    }
    rules.retain(|rule| rule["resources"] != serde_json::json!([]));
    Ok(role.to_string())
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
        let proxy = Proxy::builder(&account).start().await?;
        wait::until("the refusal in the log", || async {
            let log = proxy.log()?;
            let refusal = log
                .lines()
                .find(|line| line.contains("forbidden") && line.contains(kind));
            Ok(refusal.map(drop))
        })
        .await?;
        assert_eq!(proxy.readiness().await?.status, 503, "{kind}");
        // With the permission it becomes ready by itself.
        Proxy::account(cluster, &space).await?;
        proxy.until_ready().await?;
    }
    Ok(())
}

/// Every other test runs with these permissions, too; this one says that they are not more than an account of a namespace
/// has.
#[tokio::test]
async fn the_published_role_is_enough_and_is_all_there_is() -> Result<()> {
    let bed = Bed::start("role").await?;
    bed.split().await?;
    let prefill = bed.run(Pod::prefill("p-0")).await?;
    let decode = bed.run(Pod::decode("d-0")).await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    bed.ask("hello").await?.said()?;
    assert_pairs(&[&prefill], &[&decode], 1).await?;
    let account = Proxy::account(&bed.cluster, &bed.space).await?;
    let refused = bed
        .cluster
        .audit()
        .since(kthena_tests::cluster::Mark::default())?
        .into_iter()
        .filter(|entry| entry.user.username == account.name())
        .filter(|entry| entry.response_status.is_some_and(|status| status.code >= 400));
    assert_eq!(
        refused.map(|entry| entry.request_uri).collect::<Vec<_>>(),
        [""; 0]
    );
    Ok(())
}
