//! A LeaderWorkerSet becomes a ModelServing, with a definition of the kind that comes and goes while the controller runs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kthena_api::external::leader_worker_set::{LeaderWorkerSet, LeaderWorkerSetStatus};
use kthena_api::{ModelServing, condition};
use kthena_tests::{cluster::Filter, wait};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::bed::Bed;

/// As that of the kind's own project, in what matters here: defaults, subresources, and an older status without `observedGeneration`.
const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: leaderworkersets.leaderworkerset.x-k8s.io}
spec:
  group: leaderworkerset.x-k8s.io
  scope: Namespaced
  names: {kind: LeaderWorkerSet, listKind: LeaderWorkerSetList, plural: leaderworkersets, singular: leaderworkerset, shortNames: [lws]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.hpaPodSelector}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [leaderWorkerTemplate]
            properties:
              replicas: {type: integer, format: int32, default: 1}
              startupPolicy: {type: string, enum: [LeaderCreated, LeaderReady], default: LeaderCreated}
              rolloutStrategy:
                type: object
                required: [type]
                properties:
                  type: {type: string, enum: [RollingUpdate], default: RollingUpdate}
                  rollingUpdateConfiguration:
                    type: object
                    properties:
                      partition: {type: integer, default: 0}
                      maxUnavailable: {x-kubernetes-int-or-string: true, default: 1}
                      maxSurge: {x-kubernetes-int-or-string: true, default: 0}
              leaderWorkerTemplate:
                type: object
                required: [workerTemplate]
                properties:
                  size: {type: integer, format: int32, default: 1}
                  restartPolicy: {type: string, default: RecreateGroupOnPodRestart}
                  leaderTemplate: {type: object, x-kubernetes-preserve-unknown-fields: true}
                  workerTemplate: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties:
              replicas: {type: integer}
              readyReplicas: {type: integer}
              updatedReplicas: {type: integer}
              hpaPodSelector: {type: string}
              conditions:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [type]
                items: {type: object, required: [type], properties: {type: {type: string}}, x-kubernetes-preserve-unknown-fields: true}
";
const NAME: &str = "leaderworkersets.leaderworkerset.x-k8s.io";

const SET: &str = "
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: vllm}
spec:
  replicas: 1
  rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {maxUnavailable: 2}}
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      metadata: {labels: {role: leader}}
      spec:
        terminationGracePeriodSeconds: 1
        containers: [{name: leader, image: kthena-sim, ports: [{containerPort: 8000}]}]
    workerTemplate:
      metadata: {labels: {role: worker}}
      spec:
        terminationGracePeriodSeconds: 1
        containers: [{name: worker, image: kthena-sim, ports: [{containerPort: 8000}], env: [{name: RAY, value: $(LWS_LEADER_ADDRESS)}]}]
";

impl Bed {
    async fn install(&self) -> Result<()> {
        self.cluster.apply(DEFINITION).await?;
        self.cluster
            .until("the kind to be served", || async {
                let api = self.space.api::<LeaderWorkerSet>().await?;
                Ok(Some(api.list(&Default::default()).await?))
            })
            .await?;
        Ok(())
    }

    async fn until_set(
        &self,
        name: &str,
        what: &str,
        accept: impl Fn(&LeaderWorkerSetStatus) -> bool,
    ) -> Result<LeaderWorkerSetStatus> {
        let taken = |set: &LeaderWorkerSet| set.status.as_ref().is_some_and(&accept);
        let found = self.space.until(name, what, taken).await;
        let set: LeaderWorkerSet =
            found.with_context(|| format!("the controller's last lines:\n{}", self.controller.tail()))?;
        set.status.context("a status")
    }

    async fn until_available(&self, name: &str, replicas: i32) -> Result<LeaderWorkerSetStatus> {
        let is_there = |status: &LeaderWorkerSetStatus| {
            let counts = [status.replicas, status.ready_replicas, status.updated_replicas];
            counts == [replicas; 3] && condition::is_true(&status.conditions, "Available")
        };
        self.until_set(name, &format!("{replicas} groups to be available"), is_there)
            .await
    }

    /// What events say about an object.
    async fn told(&self, kind: &str, name: &str) -> Result<Vec<(String, String)>> {
        let events = self.space.api::<Event>().await?.list(&Default::default()).await?;
        let concerns = |event: &Event| {
            let about = event.regarding.as_ref();
            about.is_some_and(|it| it.kind.as_deref() == Some(kind) && it.name.as_deref() == Some(name))
        };
        let about = events.items.into_iter().filter(concerns);
        Ok(about
            .map(|it| (it.reason.unwrap_or_default(), it.note.unwrap_or_default()))
            .collect())
    }
}

fn env(pod: &Pod) -> BTreeMap<&str, &str> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let all = containers.flat_map(|container| container.env.iter().flatten());
    all.map(|it| (it.name.as_str(), it.value.as_deref().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn a_leader_worker_set_is_served_scaled_and_removed() -> Result<()> {
    let bed = Bed::start().await?;
    // The controller runs already, and nobody has told it of the kind.
    bed.install().await?;
    let mark = bed.cluster.audit().mark()?;
    bed.space.apply(SET).await?;
    let status = bed.until_available("vllm", 1).await?;
    assert!(
        condition::is_true(&status.conditions, "workload.serving.volcano.sh/Mapped"),
        "{status:?}"
    );
    assert!(!condition::is_true(&status.conditions, "Progressing"));

    let set: LeaderWorkerSet = bed.space.api().await?.get("vllm").await?;
    let serving: ModelServing = bed.space.api().await?.get("vllm").await?;
    let owner = &serving.owner_references()[0];
    assert_eq!(
        (owner.kind.as_str(), &owner.uid),
        ("LeaderWorkerSet", &set.uid().unwrap())
    );
    assert_eq!(
        (owner.controller, owner.block_owner_deletion),
        (Some(true), Some(true))
    );
    assert_eq!(
        json!(serving.spec.rollout_strategy),
        json!({ "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": {
            "maxUnavailable": 2, "maxSurge": 0, "partition": 0,
        } })
    );

    let pods = bed.space.api::<Pod>().await?;
    let (leader, worker) = (
        pods.get("vllm-0-default-0-0").await?,
        pods.get("vllm-0-default-0-1").await?,
    );
    assert_eq!(bed.pods("vllm").await?.len(), 2);
    assert_eq!(
        (leader.labels()["role"].as_str(), worker.labels()["role"].as_str()),
        ("leader", "worker")
    );
    let address = format!("vllm-0-default-0-0.{}", bed.space.name());
    for (pod, index) in [(&leader, "0"), (&worker, "1")] {
        let env = env(pod);
        assert_eq!(
            (env["LWS_LEADER_ADDRESS"], env["ENTRY_ADDRESS"]),
            (address.as_str(), address.as_str())
        );
        assert_eq!((env["LWS_GROUP_SIZE"], env["LWS_WORKER_INDEX"]), ("2", index));
        assert_eq!(pod.annotations()["leaderworkerset.sigs.k8s.io/size"], "2");
        let label = |key: &str| pod.labels()[&format!("leaderworkerset.sigs.k8s.io/{key}")].clone();
        assert_eq!(
            ["name", "group-index", "worker-index", "group-key"].map(label),
            // printf vllm-0 | sha1sum
            ["vllm", "0", index, "7c57e6b58984f91b949dcad6df752e5f4c1d8f2a"]
        );
        // There is no Volcano in this cluster.
        assert_eq!(
            pod.spec.as_ref().unwrap().scheduler_name.as_deref(),
            Some("default-scheduler")
        );
    }
    assert_eq!(bed.services("vllm").await?, ["vllm-0-default-0-0"]);

    // The scale subresource, as autoscalers use it, with a selector of the leaders alone.
    let sets = bed.space.api::<LeaderWorkerSet>().await?;
    let scale = sets.get_scale("vllm").await?;
    let selector = scale
        .status
        .and_then(|status| status.selector)
        .context("a selector")?;
    let selected = pods
        .list(&kube::api::ListParams::default().labels(&selector))
        .await?;
    let selected: Vec<String> = selected.items.iter().map(ResourceExt::name_any).collect();
    assert_eq!(selected, ["vllm-0-default-0-0"]);
    let three = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    sets.patch_scale("vllm", &PatchParams::default(), &three).await?;
    bed.until_available("vllm", 3).await?;
    assert_eq!(bed.pods("vllm").await?.len(), 6);

    // An autoscaler of the ModelServing is not disturbed, until the LeaderWorkerSet is scaled again.
    let two = json!({ "spec": { "replicas": 2 } });
    bed.patch("vllm", two.clone()).await?;
    bed.until_available("vllm", 2).await?;
    let serving: ModelServing = bed.space.api().await?.get("vllm").await?;
    assert_eq!(serving.spec.replicas, Some(2));
    let one = Patch::Merge(json!({ "spec": { "replicas": 1 } }));
    sets.patch("vllm", &PatchParams::default(), &one).await?;
    bed.until_available("vllm", 1).await?;

    // Each of these was one change, and nothing was written twice.
    let count = |verb: &str| {
        let filter = Filter::default()
            .verb(verb)
            .resource("modelservings")
            .namespace(bed.space.name());
        let entries = bed.cluster.audit().since(mark)?;
        let taken = entries.iter().filter(|it| filter.takes(it));
        anyhow::Ok(taken.filter(|it| it.object_ref.subresource.is_empty()).count())
    };
    assert_eq!((count("create")?, count("patch")?), (1, 2));

    // Without its ModelServing it gets a new one.
    let old = bed.space.api::<ModelServing>().await?.get("vllm").await?.uid();
    bed.space
        .api::<ModelServing>()
        .await?
        .delete("vllm", &DeleteParams::background())
        .await?;
    let is_new = |serving: &ModelServing| serving.uid() != old;
    let _new: ModelServing = bed.space.until("vllm", "another ModelServing", is_new).await?;
    let before = leader.uid().unwrap();
    let is_another = |pods: &BTreeMap<String, String>| {
        pods.len() == 2 && pods.get("vllm-0-default-0-0").is_some_and(|uid| *uid != before)
    };
    bed.until_pods("vllm", "pods of the new ModelServing", is_another)
        .await?;
    bed.until_available("vllm", 1).await?;

    sets.delete("vllm", &DeleteParams::foreground()).await?;
    bed.space.until_gone::<LeaderWorkerSet>("vllm").await?;
    bed.space.until_gone::<ModelServing>("vllm").await?;
    bed.until_pods("vllm", "no pods", BTreeMap::is_empty).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_done_for_a_leader_worker_set_is_said() -> Result<()> {
    let bed = Bed::start().await?;
    bed.install().await?;
    let mapped = |reason: &'static str| {
        move |status: &LeaderWorkerSetStatus| {
            let found = condition::find(&status.conditions, "workload.serving.volcano.sh/Mapped");
            found.is_some_and(|it| it.reason == reason)
        }
    };

    // A field that has no effect. The pods run all the same.
    bed.space
        .apply(&SET.replace("  replicas: 1", "  replicas: 1\n  startupPolicy: LeaderReady"))
        .await?;
    bed.until_available("vllm", 1).await?;
    let status = bed
        .until_set("vllm", "the condition", mapped("FieldsNotHonoured"))
        .await?;
    let message = "spec.startupPolicy: workers start together with their leader";
    let found = condition::find(&status.conditions, "workload.serving.volcano.sh/Mapped").unwrap();
    assert_eq!(found.message, message);
    let is_told = |told: &Vec<(String, String)>| {
        told.contains(&("FieldsNotHonoured".to_owned(), message.to_owned()))
            && told.iter().any(|(reason, _)| reason == "ModelServingCreated")
    };
    wait::until_value("the event", || bed.told("LeaderWorkerSet", "vllm"), is_told).await?;

    // A ModelServing of somebody else.
    let serving = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: mine}
spec:
  replicas: 0
  schedulerName: default-scheduler
  template: {roles: [{name: mine, entryTemplate: {spec: {containers: [{name: engine, image: kthena-sim}]}}}]}";
    bed.space.apply(serving).await?;
    let before: ModelServing = bed.space.api().await?.get("mine").await?;
    bed.space.apply(&SET.replace("vllm", "mine")).await?;
    let status = bed
        .until_set("mine", "the condition", mapped("ModelServingNotOwned"))
        .await?;
    assert!(!condition::is_true(&status.conditions, "Available"));
    let after: ModelServing = bed.space.api().await?.get("mine").await?;
    assert_eq!(
        (after.spec, after.metadata.owner_references),
        (before.spec, before.metadata.owner_references)
    );
    let is_told =
        |told: &Vec<(String, String)>| told.iter().any(|(reason, _)| reason == "ModelServingNotOwned");
    wait::until_value("the event", || bed.told("LeaderWorkerSet", "mine"), is_told).await?;
    // Once that is gone, there is room.
    bed.space
        .api::<ModelServing>()
        .await?
        .delete("mine", &DeleteParams::background())
        .await?;
    bed.until_available("mine", 1).await?;

    // The kind goes, with all of its objects, and comes again. The garbage collector must have heard of it by then, or it would not
    // hear of its end.
    let sets = bed.space.api::<LeaderWorkerSet>().await?;
    sets.delete("mine", &DeleteParams::background()).await?;
    bed.space.until_gone::<ModelServing>("mine").await?;
    let definitions: Api<CustomResourceDefinition> = Api::all(bed.cluster.client().await?);
    definitions.delete(NAME, &DeleteParams::default()).await?;
    bed.until_pods("vllm", "no pods", BTreeMap::is_empty).await?;
    let is_gone = |found: &Option<CustomResourceDefinition>| found.is_none();
    let look = || async { Ok(definitions.get_opt(NAME).await?) };
    wait::until_value("the definition to be gone", look, is_gone).await?;
    bed.install().await?;
    bed.space.apply(SET).await?;
    bed.until_available("vllm", 1).await?;
    Ok(())
}
