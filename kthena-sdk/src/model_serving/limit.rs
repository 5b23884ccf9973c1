//! Numbers that a ModelServing gives as counts or percentages.

use kthena_api::int_or_string::{IntOrString, Round};
use kthena_api::model_serving::{RecoveryPolicy, Role, RolloutStrategyType};
use kthena_api::{ModelServing, ModelServingSpec};

/// What limits scaling and rollouts, resolved against the present replicas. What cannot be read counts as absent; admission
/// refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// ServingGroups that are asked for.
    pub(crate) replicas: u32,
    /// How many of them may be unavailable during a rollout.
    pub(crate) max_unavailable: u32,
    /// How many there may be beyond.
    pub(crate) max_surge: u32,
    /// Ordinals below this keep their revision.
    pub(crate) partition: u32,
    /// Whether instances of roles are replaced rather than groups.
    pub(crate) by_role: bool,
    /// Whether nothing is replaced at the moment.
    pub(crate) paused: bool,
    /// What is made anew when a pod fails.
    pub(crate) recovery: Recovery,
    /// Seconds that a failed pod has to recover.
    pub(crate) grace_seconds: i64,
}

/// What is made anew when a pod fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// The ServingGroup.
    Group,
    /// The instance of the role.
    Role,
    /// The pod, once it is gone.
    Pod,
}

impl Limits {
    /// The limits of a ModelServing.
    pub(crate) fn of(serving: &ModelServing) -> Self {
        let spec = &serving.spec;
        let replicas = count(spec.effective_replicas());
        let strategy = spec.rollout_strategy.as_ref();
        let rolling = strategy.and_then(|it| it.rolling_update_configuration.as_ref());
        let max_surge = rolling.and_then(|it| resolve(it.max_surge.as_ref()?, replicas, Round::Up));
        let max_surge = max_surge.unwrap_or(0);
        let unavailable = rolling.and_then(|it| resolve(it.max_unavailable.as_ref()?, replicas, Round::Down));
        let partition = rolling.and_then(|it| resolve(it.partition.as_ref()?, replicas, Round::Up));
        Self {
            replicas,
            // A percentage may come to nothing once replicas have changed; then a rollout would never end.
            max_unavailable: unavailable.unwrap_or(1).max(u32::from(max_surge == 0)),
            max_surge,
            partition: partition.unwrap_or(0),
            by_role: is_by_role(spec),
            paused: strategy.and_then(|it| it.paused).unwrap_or(false),
            recovery: match spec.effective_recovery_policy() {
                RecoveryPolicy::ServingGroupRecreate => Recovery::Group,
                RecoveryPolicy::None => Recovery::Pod,
                _ => Recovery::Role,
            },
            grace_seconds: spec
                .template
                .restart_grace_period_seconds
                .unwrap_or(0)
                .clamp(0, i64::from(i32::MAX)),
        }
    }
}

fn is_by_role(spec: &ModelServingSpec) -> bool {
    spec.effective_rollout_type() == &RolloutStrategyType::RoleRollingUpdate
}

/// Instances of a role that are asked for in each group.
pub(crate) fn instances(role: &Role) -> u32 {
    count(role.effective_replicas())
}

/// How many instances of a role may be unavailable during a rollout; `None` for any number.
pub(crate) fn role_unavailable(role: &Role) -> Option<u32> {
    let limit = role.max_unavailable.as_ref()?;
    let resolved = resolve(limit, instances(role), Round::Down);
    Some(resolved.unwrap_or(0).max(u32::from(resolved.is_some())))
}

/// Ordinals of a role's instances that keep their revision.
pub(crate) fn role_partition(role: &Role) -> u32 {
    let partition = role.partition.as_ref();
    partition
        .and_then(|partition| resolve(partition, instances(role), Round::Up))
        .unwrap_or(0)
}

fn resolve(value: &IntOrString, total: u32, round: Round) -> Option<u32> {
    let number = value.resolve(total.into(), round).ok()?;
    Some(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn limits(replicas: i32, rolling: Value) -> Limits {
        let spec = json!({ "replicas": replicas, "template": { "roles": [] },
            "rolloutStrategy": { "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": rolling } });
        Limits::of(&ModelServing::new("x", serde_json::from_value(spec).unwrap()))
    }

    #[test]
    fn unavailable_groups_are_rounded_down_and_at_least_one() {
        for (replicas, value, expected) in [
            (3, json!(null), 1),
            (3, json!(2), 2),
            (10, json!("20%"), 2),
            (9, json!("50%"), 4),
            (3, json!("100%"), 3),
            (10, json!("0%"), 1),
            (3, json!("invalid"), 1),
        ] {
            let limits = limits(replicas, json!({ "maxUnavailable": value }));
            assert_eq!(limits.max_unavailable, expected, "{value} of {replicas}");
        }
        let limits = limits(3, json!({ "maxUnavailable": 0, "maxSurge": "34%" }));
        assert_eq!((limits.max_unavailable, limits.max_surge), (0, 2));
    }

    #[test]
    fn partitions_are_rounded_up() {
        for (replicas, value, expected) in [
            (3, json!(null), 0),
            (3, json!(3), 3),
            (3, json!("50%"), 2),
            (4, json!("50%"), 2),
            (10, json!("1%"), 1),
            (5, json!("100%"), 5),
            (5, json!("0%"), 0),
            (5, json!("x"), 0),
        ] {
            let limits = limits(replicas, json!({ "partition": value }));
            assert_eq!(limits.partition, expected, "{value} of {replicas}");
        }
    }

    #[test]
    fn roles_have_limits_of_their_own() {
        let role = |more: Value| -> Role {
            let mut role = json!({ "name": "r", "entryTemplate": {} });
            role.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            serde_json::from_value(role).unwrap()
        };
        for (more, expected) in [
            (json!({}), None),
            (json!({ "maxUnavailable": 2, "replicas": 4 }), Some(2)),
            (json!({ "maxUnavailable": "50%", "replicas": 5 }), Some(2)),
            (json!({ "maxUnavailable": 1 }), Some(1)),
            (json!({ "maxUnavailable": "10%", "replicas": 4 }), Some(1)),
            (json!({ "maxUnavailable": "invalid" }), Some(0)),
        ] {
            assert_eq!(role_unavailable(&role(more.clone())), expected, "{more}");
        }
        assert_eq!(
            role_partition(&role(json!({ "partition": "50%", "replicas": 3 }))),
            2
        );
        assert_eq!(instances(&role(json!({ "replicas": -1 }))), 0);
    }

    #[test]
    fn the_rest_has_the_defaults_of_the_definition() {
        let serving = ModelServing::new(
            "x",
            serde_json::from_value(json!({ "template": { "roles": [] } })).unwrap(),
        );
        let limits = Limits::of(&serving);
        assert_eq!(
            (limits.replicas, limits.max_unavailable, limits.max_surge),
            (1, 1, 0)
        );
        assert_eq!(
            (limits.recovery, limits.by_role, limits.paused),
            (Recovery::Role, false, false)
        );
    }
}
