//! The control plane.

use anyhow::Result;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace, ServiceAccount},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kthena_tests::{
    cluster::{Cluster, Filter, USER_AGENT},
    command::output,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};

const SETTINGS: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {key: value}}";

#[tokio::test]
async fn objects_of_any_kind_are_applied_to_a_namespace_of_the_tests_own() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let (one, two) = (
        cluster.namespace("apply").await?,
        cluster.namespace("apply").await?,
    );
    assert_ne!(one.name(), two.name());
    one.apply(SETTINGS).await?;
    one.apply(SETTINGS).await?; // applying again changes nothing
    let found: ConfigMap = one.until("settings", "the applied object", |_| true).await?;
    assert_eq!(found.data.unwrap()["key"], "value");
    assert!(two.api::<ConfigMap>().await?.get_opt("settings").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_kind_can_be_used_right_after_its_definition() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("kinds").await?;
    let applied = space.apply(&format!("{GADGETS}\n---\n{GADGET}")).await?;
    assert_eq!(applied[1].data["spec"]["size"], 3);
    let error = space.apply(&GADGET.replace('3', "-3")).await.unwrap_err();
    assert!(
        format!("{error:#}").contains("should be greater than or equal to 0"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn our_definitions_are_installed() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let expected = cluster.install_crds().await?; // none while the charts have none
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client().await?);
    let all = definitions.list(&ListParams::default()).await?;
    let ours = all
        .iter()
        .filter(|definition| definition.spec.group.ends_with("serving.volcano.sh"));
    assert_eq!(ours.count(), expected);
    Ok(())
}

#[tokio::test]
async fn requests_are_counted_exactly_and_by_agent() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("audit").await?;
    let maps: Api<ConfigMap> = Api::namespaced(space.admin().client_named("counted/1").await?, space.name());
    let mark = cluster.audit().mark()?;
    for _ in 0..3 {
        maps.list(&ListParams::default()).await?;
    }
    maps.get_opt("absent").await?;
    space
        .api::<ConfigMap>()
        .await?
        .list(&ListParams::default())
        .await?; // the bed's own

    let here = || Filter::default().namespace(space.name());
    let count = |filter: Filter| cluster.audit().count(mark, &filter).unwrap();
    assert_eq!(count(here()), 4);
    assert_eq!(
        count(here().agent("counted").verb("list").resource("configmaps")),
        3
    );
    assert_eq!(count(here().agent(USER_AGENT)), 1);
    let codes = cluster.audit().since(mark)?;
    let missing = codes.iter().filter(|entry| entry.object_ref.name == "absent");
    assert_eq!(
        missing
            .map(|entry| entry.response_status.unwrap().code)
            .collect::<Vec<_>>(),
        [404]
    );
    Ok(())
}

#[tokio::test]
async fn kubectl_and_helm_see_the_version_that_is_pinned() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let version = output(cluster.kubectl()?.args(["version", "--output=json"]))?;
    let version: serde_json::Value = serde_json::from_str(&version)?;
    assert_eq!(
        version["clientVersion"]["gitVersion"],
        version["serverVersion"]["gitVersion"]
    );
    assert!(
        version["serverVersion"]["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.3"),
        "{version}"
    );
    let releases = output(
        cluster
            .helm()?
            .args(["list", "--all-namespaces", "--output=json"]),
    )?;
    assert_eq!(releases.trim(), "[]");
    Ok(())
}

#[tokio::test]
async fn other_users_may_do_what_a_role_says() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("access").await?;
    space.apply(SETTINGS).await?;
    space.apply(READERS).await?;
    let reader = cluster.user("ann", Some("readers"))?;
    let account = cluster.service_account(space.name(), "robot").await?;
    for identity in [reader, account] {
        let maps: Api<ConfigMap> = Api::namespaced(identity.client().await?, space.name());
        maps.get("settings").await?;
        let refused = maps
            .delete("settings", &DeleteParams::default())
            .await
            .unwrap_err();
        assert!(
            matches!(&refused, kube::Error::Api(status) if status.code == 403),
            "{refused:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_and_its_store_restart_with_their_data_and_ports() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let space = cluster.namespace("restart").await?;
    space.apply(SETTINGS).await?;
    let (url, maps) = (cluster.url().to_owned(), space.api::<ConfigMap>().await?);

    cluster.stop_api_server().await?;
    let refused = maps.get("settings").await.unwrap_err();
    assert!(
        matches!(refused, kube::Error::Service(_) | kube::Error::HyperError(_)),
        "{refused:?}"
    );
    cluster.start_api_server().await?;
    maps.get("settings").await?;

    cluster.stop_etcd().await?;
    cluster.start_etcd().await?;
    maps.get("settings").await?;
    assert_eq!(cluster.url(), url);
    Ok(())
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing_behind() -> Result<()> {
    let cluster = Cluster::builder().without_crds().start().await?;
    let (dir, url) = (
        cluster.dir().to_owned(),
        cluster.url().trim_start_matches("https://").to_owned(),
    );
    drop(cluster);
    assert!(!dir.exists());
    assert!(
        std::net::TcpStream::connect(url).is_err(),
        "the port is free again"
    );
    Ok(())
}

#[tokio::test]
async fn the_controller_manager_gives_namespaces_their_account_and_deletes_them() -> Result<()> {
    let cluster = Cluster::builder()
        .controller_manager()
        .without_crds()
        .start()
        .await?;
    let space = cluster.namespace("controlled").await?;
    space
        .until("default", "a service account", |_: &ServiceAccount| true)
        .await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client().await?);
    namespaces.delete(space.name(), &DeleteParams::default()).await?;
    kthena_tests::wait::until("the namespace to be gone", || async {
        Ok(namespaces.get_opt(space.name()).await?.is_none().then_some(()))
    })
    .await
}

const GADGET: &str =
    "{apiVersion: test.example.com/v1, kind: Gadget, metadata: {name: one}, spec: {size: 3}}";

const GADGETS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gadgets.test.example.com}
spec:
  group: test.example.com
  names: {kind: Gadget, plural: gadgets}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, properties: {size: {type: integer, minimum: 0}}}";

const READERS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: readers}
- {kind: ServiceAccount, name: robot}
";
