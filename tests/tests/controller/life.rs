//! The life of a ModelServing, from its creation to its end, with a controller that is killed on the way.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kthena_api::{ModelServing, condition, labels};
use kthena_tests::{cluster::Filter, controller::Controller, wait};
use kube::api::DeleteParams;
use serde_json::json;

use crate::bed::Bed;

const SERVING: &str = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: llama}
spec:
  replicas: 2
  schedulerName: default-scheduler
  template:
    roles:
    - name: prefill
      workerReplicas: 1
      entryTemplate: &pod
        spec:
          terminationGracePeriodSeconds: 1
          containers: [{name: engine, image: kthena-sim, ports: [{containerPort: 8000}], resources: {requests: {cpu: 1}}}]
      workerTemplate: *pod
    - name: decode
      entryTemplate: *pod
";

#[tokio::test]
async fn a_model_serving_is_made_scaled_rolled_out_repaired_and_removed() -> Result<()> {
    let mut bed = Bed::start().await?;
    let mark = bed.cluster.audit().mark()?;
    bed.space.apply(SERVING).await?;
    let status = bed.until_settled("llama", 2).await?;
    assert!(condition::is_true(&status.conditions, "Available"), "{status:?}");
    let pods = bed.pods("llama").await?;
    assert_eq!(
        pods.keys().collect::<Vec<_>>(),
        [
            "llama-0-decode-0-0",
            "llama-0-prefill-0-0",
            "llama-0-prefill-0-1",
            "llama-1-decode-0-0",
            "llama-1-prefill-0-0",
            "llama-1-prefill-0-1",
        ]
    );
    assert_eq!(
        bed.services("llama").await?,
        ["llama-0-prefill-0-0", "llama-1-prefill-0-0"]
    );
    let pod: Pod = bed.space.api().await?.get("llama-1-prefill-0-1").await?;
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let env: Vec<_> = container
        .env
        .iter()
        .flatten()
        .map(|it| (it.name.as_str(), it.value.as_deref().unwrap()))
        .collect();
    let entry = format!("llama-1-prefill-0-0.{}", bed.space.name());
    assert_eq!(
        env,
        [
            ("GROUP_SIZE", "2"),
            ("ENTRY_ADDRESS", entry.as_str()),
            ("WORKER_INDEX", "1")
        ]
    );
    let created = |verb: &str, resource: &str| {
        let filter = Filter::default()
            .verb(verb)
            .resource(resource)
            .namespace(bed.space.name());
        bed.cluster.audit().count(mark, &filter)
    };
    assert_eq!(
        (created("create", "pods")?, created("create", "services")?),
        (6, 2),
        "nothing is made twice"
    );

    // Two events for each group tell what happened.
    let told = async || -> Result<Vec<(String, String)>> {
        let events = bed
            .space
            .api::<Event>()
            .await?
            .list(&Default::default())
            .await?
            .items;
        let about = |event: &Event| event.regarding.as_ref().and_then(|it| it.kind.clone());
        let of_serving = events
            .into_iter()
            .filter(|event| about(event).as_deref() == Some("ModelServing"));
        let mut told: Vec<_> = of_serving
            .map(|it| (it.reason.unwrap_or_default(), it.note.unwrap_or_default()))
            .collect();
        told.sort_unstable();
        Ok(told)
    };
    let all = |told: &Vec<(String, String)>| told.len() >= 4;
    let told = wait::until_value("the events", told, all)
        .await
        .with_context(|| bed.controller.tail())?;
    let roles = "Roles decode/decode-0, prefill/prefill-0 in ServingGroup llama";
    let expected = [
        ("RoleCreating", 0, "Creating"),
        ("RoleCreating", 1, "Creating"),
        ("RoleRunning", 0, "Running"),
        ("RoleRunning", 1, "Running"),
    ];
    let expected = expected
        .map(|(reason, group, state)| (reason.to_owned(), format!("{roles}-{group} are now {state}")));
    assert_eq!(told, expected);

    // Groups, and instances of a role.
    bed.patch("llama", json!({ "spec": { "replicas": 3 } })).await?;
    bed.until_settled("llama", 3).await?;
    let grown = bed.pods("llama").await?;
    assert!(grown.len() == 9 && pods.iter().all(|(name, uid)| grown.get(name) == Some(uid)));
    bed.patch("llama", json!({ "spec": { "replicas": 1 } })).await?;
    bed.until_settled("llama", 1).await?;
    assert_eq!(bed.pods("llama").await?.len(), 3);

    // A pod is lost, and its instance is made anew; the other role is not touched.
    let before = bed.pods("llama").await?;
    let api = bed.space.api::<Pod>().await?;
    api.delete("llama-0-prefill-0-1", &DeleteParams::default())
        .await?;
    let changed = |pods: &std::collections::BTreeMap<String, String>| {
        pods.len() == 3
            && ["llama-0-prefill-0-0", "llama-0-prefill-0-1"]
                .iter()
                .all(|name| pods.get(*name) != before.get(*name))
    };
    let after = bed.until_pods("llama", "a new prefill instance", changed).await?;
    assert_eq!(after["llama-0-decode-0-0"], before["llama-0-decode-0-0"]);
    bed.until_settled("llama", 1).await?;

    // A new template, and a controller that is killed while it is rolled out.
    bed.patch("llama", json!({ "spec": { "replicas": 3 } })).await?;
    let old = bed.until_settled("llama", 3).await?.update_revision;
    let before = bed.pods("llama").await?;
    let mut serving: ModelServing = bed.space.api().await?.get("llama").await?;
    serving.metadata.managed_fields = None;
    let spec = serving.spec.template.roles[1]
        .entry_template
        .spec
        .as_mut()
        .unwrap();
    spec.as_object_mut()["containers"][0]["env"] = json!([{ "name": "NEW", "value": "1" }]);
    bed.space
        .api::<ModelServing>()
        .await?
        .replace("llama", &Default::default(), &serving)
        .await?;
    let begun = |pods: &std::collections::BTreeMap<String, String>| {
        pods.iter().any(|(name, uid)| before.get(name) != Some(uid))
    };
    bed.until_pods("llama", "the rollout to begin", begun).await?;
    bed.controller.kill();
    bed.controller = Controller::start(&bed.account).await?;
    let status = bed.until_settled("llama", 3).await?;
    assert_ne!(status.update_revision, old);
    let after = bed.pods("llama").await?;
    assert!(after.len() == 9 && after.iter().all(|(name, uid)| before.get(name) != Some(uid)));
    let revisions = bed
        .space
        .api::<ControllerRevision>()
        .await?
        .list(&Default::default())
        .await?;
    assert_eq!(revisions.items.len(), 2);

    // Its end is that of all it has, whether that goes before it or after it.
    let budgeted = json!({ "metadata": { "annotations": { labels::POD_DISRUPTION_BUDGET: "true" } } });
    for policy in [DeleteParams::foreground(), DeleteParams::background()] {
        bed.space.apply(SERVING).await?;
        bed.patch("llama", budgeted.clone()).await?;
        bed.until_settled("llama", 2).await?;
        let belongings = || bed.belongings("llama");
        let found = wait::until_value("one of each", belongings, |it| it.iter().all(|count| *count > 0));
        found.await.with_context(|| bed.controller.tail())?;
        let api = bed.space.api::<ModelServing>().await?;
        api.delete("llama", &policy).await?;
        bed.space.until_gone::<ModelServing>("llama").await?;
        let found = wait::until_value("nothing to be left", belongings, |it| *it == [0; 4]);
        found.await.with_context(|| bed.controller.tail())?;
    }
    Ok(())
}
