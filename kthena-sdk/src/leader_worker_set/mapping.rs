//! What a LeaderWorkerSet asks for, in the words of a ModelServing.

use std::fmt;

use kthena_api::crd::Kind;
use kthena_api::external::leader_worker_set::{
    LeaderWorkerSet, PodTemplateSpec, RestartPolicy, RolloutStrategy, RolloutStrategyType, StartupPolicy,
};
use kthena_api::model_serving::{
    Plugin, PluginType, PodTemplate, PodTemplateMetadata, RecoveryPolicy, Role, RollingUpdateConfiguration,
    RolloutStrategyType as ServingRollout, ServingGroup,
};
use kthena_api::{ModelServing, ModelServingSpec, labels, model_serving, schema};
use serde_json::{Map, Value, json};

/// Name of the one role.
pub(super) const ROLE: &str = "default";

/// Annotations of a LeaderWorkerSet that ask for something which a ModelServing cannot do.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "leaderworkerset.sigs.k8s.io/exclusive-topology",
        "groups may share a domain",
    ),
    (
        "leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology",
        "there are no subgroups",
    ),
    (
        "leaderworkerset.sigs.k8s.io/experimental-recreate-group-after-start",
        "a group is recreated also while it starts",
    ),
];

/// A LeaderWorkerSet as a ModelServing.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// What the ModelServing is to be. A field that is absent here is not the LeaderWorkerSet's business.
    pub spec: ModelServingSpec,
    /// What has no effect.
    pub ignored: Vec<Ignored>,
}

/// A field of a LeaderWorkerSet that has no effect.
///
/// ```
/// use kthena_sdk::leader_worker_set::{Ignored, Mapping, map};
///
/// let Mapping { ignored, .. } = map(&serde_json::from_value(serde_json::json!({
///     "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
///     "metadata": { "name": "llama" },
///     "spec": {
///         "startupPolicy": "LeaderReady",
///         "leaderWorkerTemplate": { "size": 2, "workerTemplate": { "spec": { "containers": [] } } },
///     },
/// }))?);
/// let fields: Vec<&str> = ignored.iter().map(|Ignored { field, .. }| field.as_str()).collect();
/// assert_eq!(fields, ["spec.startupPolicy"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Where it is, such as `spec.startupPolicy`.
    pub field: String,
    /// What happens instead.
    pub instead: String,
}

/// Reads a LeaderWorkerSet.
///
/// ```
/// use kthena_sdk::api::external::leader_worker_set::LeaderWorkerSet;
/// use kthena_sdk::leader_worker_set::map;
///
/// let set: LeaderWorkerSet = serde_json::from_value(serde_json::json!({
///     "apiVersion": "leaderworkerset.x-k8s.io/v1",
///     "kind": "LeaderWorkerSet",
///     "metadata": { "name": "vllm" },
///     "spec": {
///         "replicas": 2,
///         "startupPolicy": "LeaderReady",
///         "leaderWorkerTemplate": {
///             "size": 4,
///             "workerTemplate": { "spec": { "containers": [{ "name": "vllm", "image": "vllm/vllm-openai" }] } },
///         },
///     },
/// }))?;
/// let mapping = map(&set);
/// assert_eq!(mapping.spec.replicas, Some(2));
/// assert_eq!(mapping.spec.template.roles[0].worker_replicas, Some(3));
/// assert_eq!(mapping.ignored[0].to_string(), "spec.startupPolicy: workers start together with their leader");
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn map(set: &LeaderWorkerSet) -> Mapping {
    let mut reading = Reading(Vec::new());
    reading.annotations(set);
    let group = &set.spec.leader_worker_template;
    let path = "spec.leaderWorkerTemplate";
    let worker = reading.template(&format!("{path}.workerTemplate"), &group.worker_template);
    let leader = group.leader_template.as_ref();
    let leader = leader.map(|it| reading.template(&format!("{path}.leaderTemplate"), it));
    let scheduler = reading.scheduler(leader.as_ref(), &worker);
    let role = Role {
        name: ROLE.to_owned(),
        replicas: Some(1),
        worker_replicas: Some(group.size.unwrap_or(1).saturating_sub(1).max(0)),
        entry_template: leader.unwrap_or_else(|| worker.clone()),
        worker_template: Some(worker),
        ..Role::default()
    };
    let spec = ModelServingSpec {
        replicas: Some(replicas(set)),
        scheduler_name: scheduler,
        plugins: vec![plugin()],
        recovery_policy: Some(reading.recovery(group.restart_policy.as_ref())),
        rollout_strategy: (set.spec.rollout_strategy.as_ref()).and_then(|it| reading.rollout(it)),
        template: ServingGroup {
            roles: vec![role],
            ..ServingGroup::default()
        },
    };
    reading.the_rest(set);
    reading.lost(&spec);
    Mapping {
        spec,
        ignored: reading.0,
    }
}

/// Groups that are asked for.
pub(super) fn replicas(set: &LeaderWorkerSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// The plugin that labels pods as those of a LeaderWorkerSet.
fn plugin() -> Plugin {
    Plugin {
        name: labels::LWS_PLUGIN.to_owned(),
        type_: Some(PluginType::BuiltIn),
        ..Plugin::default()
    }
}

/// What has no effect, as far as it has been read.
struct Reading(Vec<Ignored>);

impl Reading {
    fn ignore(&mut self, field: impl Into<String>, instead: impl Into<String>) {
        self.0.push(Ignored {
            field: field.into(),
            instead: instead.into(),
        });
    }

    fn annotations(&mut self, set: &LeaderWorkerSet) {
        let annotations = set.metadata.annotations.as_ref();
        for (key, instead) in ANNOTATIONS {
            if annotations.is_some_and(|all| all.contains_key(key)) {
                self.ignore(format!("metadata.annotations[{key}]"), instead);
            }
        }
    }

    fn template(&mut self, path: &str, template: &PodTemplateSpec) -> PodTemplate {
        let metadata = template.metadata.as_ref().map(|metadata| {
            self.unknown(&format!("{path}.metadata"), &metadata.other);
            PodTemplateMetadata {
                labels: metadata.labels.clone(),
                annotations: metadata.annotations.clone(),
            }
        });
        PodTemplate {
            metadata,
            spec: template.spec.clone(),
        }
    }

    /// All pods of a ModelServing have one scheduler.
    fn scheduler(&mut self, leader: Option<&PodTemplate>, worker: &PodTemplate) -> Option<String> {
        let of = |template: &PodTemplate| {
            let spec = template.spec.as_ref()?.as_object();
            let name = spec.get("schedulerName")?.as_str()?;
            (!name.is_empty()).then(|| name.to_owned())
        };
        let leader = leader.and_then(of);
        let worker = of(worker);
        if let (Some(leader), Some(worker)) = (&leader, &worker)
            && leader != worker
        {
            self.ignore(
                "spec.leaderWorkerTemplate.workerTemplate.spec.schedulerName",
                format!("workers have the scheduler of their leader, {leader}"),
            );
        }
        leader.or(worker)
    }

    fn recovery(&mut self, policy: Option<&RestartPolicy>) -> RecoveryPolicy {
        let field = "spec.leaderWorkerTemplate.restartPolicy";
        match policy {
            None | Some(RestartPolicy::RecreateGroupOnPodRestart) => {}
            Some(RestartPolicy::None | RestartPolicy::Default) => return RecoveryPolicy::None,
            Some(RestartPolicy::RecreateGroupAfterStart) => {
                self.ignore(field, "a group is recreated also while it starts");
            }
            Some(RestartPolicy::Unknown(other)) => {
                self.ignore(field, format!("{other} is not known; groups are recreated"));
            }
        }
        RecoveryPolicy::ServingGroupRecreate
    }

    fn rollout(&mut self, strategy: &RolloutStrategy) -> Option<model_serving::RolloutStrategy> {
        if let Some(RolloutStrategyType::Unknown(other)) = &strategy.type_
            && !other.is_empty()
        {
            self.ignore(
                "spec.rolloutStrategy.type",
                format!("{other} is not known; it is a rolling update"),
            );
        }
        self.unknown("spec.rolloutStrategy", &strategy.other);
        let limits = strategy.rolling_update_configuration.as_ref()?;
        self.unknown("spec.rolloutStrategy.rollingUpdateConfiguration", &limits.other);
        Some(model_serving::RolloutStrategy {
            type_: Some(ServingRollout::ServingGroupRollingUpdate),
            rolling_update_configuration: Some(RollingUpdateConfiguration {
                max_unavailable: limits.max_unavailable.clone(),
                max_surge: limits.max_surge.clone(),
                partition: limits.partition.clone(),
            }),
            paused: None,
        })
    }

    /// Fields that nothing is made from.
    fn the_rest(&mut self, set: &LeaderWorkerSet) {
        let spec = &set.spec;
        match &spec.startup_policy {
            None | Some(StartupPolicy::LeaderCreated) => {}
            Some(StartupPolicy::LeaderReady) => {
                self.ignore("spec.startupPolicy", "workers start together with their leader");
            }
            Some(StartupPolicy::Unknown(other)) => self.ignore(
                "spec.startupPolicy",
                format!("{other} is not known; workers start together with their leader"),
            ),
        }
        if let Some(network) = &spec.network_config {
            if let Some(policy) = &network.subdomain_policy {
                self.ignore(
                    "spec.networkConfig.subdomainPolicy",
                    format!(
                        "there are no host names as with {policy}; each group has a Service for its leader, whose name is in {}",
                        labels::ENV_LWS_LEADER_ADDRESS
                    ),
                );
            }
            self.unknown("spec.networkConfig", &network.other);
        }
        if spec.leader_worker_template.sub_group_policy.is_some() {
            self.ignore(
                "spec.leaderWorkerTemplate.subGroupPolicy",
                "there are no subgroups",
            );
        }
        self.unknown("spec.leaderWorkerTemplate", &spec.leader_worker_template.other);
        self.unknown("spec", &spec.other);
    }

    fn unknown(&mut self, path: &str, fields: &Map<String, Value>) {
        for (name, value) in fields {
            let is_empty = match value {
                Value::Null => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Bool(_) | Value::Number(_) => false,
            };
            if !is_empty {
                self.ignore(
                    format!("{path}.{name}"),
                    "there is nothing like it in a ModelServing",
                );
            }
        }
    }

    /// Fields of pods that the definition of ModelServing does not have, and the API server drops.
    fn lost(&mut self, spec: &ModelServingSpec) {
        let role = format!("spec.template.roles[0].{ENTRY}");
        let worker = format!("spec.template.roles[0].{WORKER}");
        let has_leader = spec.template.roles.iter().any(has_own_leader);
        for path in schema::unknown_fields(Kind::ModelServing, &json!({ "spec": spec })) {
            let path = path.as_str();
            let own = match (path.strip_prefix(&role), path.strip_prefix(&worker)) {
                (Some(rest), _) if has_leader => format!("leaderTemplate{rest}"),
                // The same as in the worker template, where it is told.
                (Some(_), _) => continue,
                (None, Some(rest)) => format!("workerTemplate{rest}"),
                (None, None) => continue,
            };
            self.ignore(
                format!("spec.leaderWorkerTemplate.{own}"),
                "pods of a ModelServing have no such field",
            );
        }
    }
}

const ENTRY: &str = "entryTemplate";
const WORKER: &str = "workerTemplate";

fn has_own_leader(role: &Role) -> bool {
    role.worker_template.as_ref() != Some(&role.entry_template)
}

impl Mapping {
    /// The same on top of what a ModelServing is by now: what is not the LeaderWorkerSet's business stays.
    pub(super) fn over(&self, set: &LeaderWorkerSet, serving: &ModelServing) -> ModelServingSpec {
        let mut spec = serving.spec.clone();
        // Whoever has scaled last decides: the ModelServing may have an autoscaler of its own.
        if taken_over(serving) != Some(replicas(set)) {
            spec.replicas = self.spec.replicas;
        }
        if self.spec.scheduler_name.is_some() {
            spec.scheduler_name.clone_from(&self.spec.scheduler_name);
        }
        if !spec.plugins.iter().any(|it| it.name == labels::LWS_PLUGIN) {
            spec.plugins.splice(0..0, self.spec.plugins.iter().cloned());
        }
        spec.recovery_policy.clone_from(&self.spec.recovery_policy);
        let paused = spec.rollout_strategy.as_ref().and_then(|it| it.paused);
        spec.rollout_strategy.clone_from(&self.spec.rollout_strategy);
        if paused.is_some() {
            spec.rollout_strategy
                .get_or_insert_with(|| model_serving::RolloutStrategy {
                    type_: Some(ServingRollout::ServingGroupRollingUpdate),
                    ..Default::default()
                })
                .paused = paused;
        }
        spec.template.roles.clone_from(&self.spec.template.roles);
        spec
    }
}

/// The number of replicas that a ModelServing took over from its LeaderWorkerSet last.
fn taken_over(serving: &ModelServing) -> Option<i32> {
    let annotations = serving.metadata.annotations.as_ref()?;
    annotations.get(labels::LWS_REPLICAS)?.parse().ok()
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.instead)
    }
}

#[cfg(test)]
mod tests;
