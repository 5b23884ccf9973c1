//! Status conditions: their types and reasons, and how one is set.
//!
//! ```
//! use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
//! use kthena_api::condition::{TRUE, find, is_true, set};
//!
//! let ready = Condition {
//!     type_: "Ready".into(),
//!     status: TRUE.into(),
//!     reason: "Running".into(),
//!     message: String::new(),
//!     last_transition_time: Time("2026-01-01T00:00:00Z".parse()?),
//!     observed_generation: Some(1),
//! };
//! let mut conditions = Vec::new();
//! assert!(set(&mut conditions, ready.clone()), "it is new");
//! assert!(!set(&mut conditions, ready), "it is as before");
//! assert!(is_true(&conditions, "Ready") && find(&conditions, "Available").is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{Schema, SchemaGenerator, json_schema};

/// `status` of a condition that holds.
pub const TRUE: &str = "True";
/// `status` of a condition that does not hold.
pub const FALSE: &str = "False";
/// `status` of a condition nobody can tell.
pub const UNKNOWN: &str = "Unknown";

/// Condition types of a ModelServing.
pub mod model_serving {
    /// Every ServingGroup is ready.
    pub const AVAILABLE: &str = "Available";
    /// Some ServingGroup is not ready yet.
    pub const PROGRESSING: &str = "Progressing";
    /// A new revision is being rolled out.
    pub const UPDATE_IN_PROGRESS: &str = "UpdateInProgress";
    /// Something cannot be done: an object is refused by the API server, or a pod by a plugin. Not there otherwise.
    pub const REPLICA_FAILURE: &str = "ReplicaFailure";
    /// Reason of [`REPLICA_FAILURE`]: a plugin refuses pods, or cannot be made.
    pub const PLUGIN_FAILED: &str = "PluginFailed";
    /// Reason of [`REPLICA_FAILURE`]: a request to the API server failed.
    pub const REQUEST_FAILED: &str = "RequestFailed";
    /// Reason of [`AVAILABLE`].
    pub const ALL_GROUPS_READY: &str = "AllGroupsReady";
    /// Reason of [`PROGRESSING`].
    pub const GROUP_PROGRESSING: &str = "GroupProgressing";
    /// Reason of [`UPDATE_IN_PROGRESS`].
    pub const GROUPS_UPDATING: &str = "GroupsUpdating";
}

/// Condition types of a LeaderWorkerSet. All but the last are those of its own project.
pub mod leader_worker_set {
    /// Every group is ready.
    pub const AVAILABLE: &str = "Available";
    /// Some group is not ready yet.
    pub const PROGRESSING: &str = "Progressing";
    /// A new template is being rolled out.
    pub const UPDATE_IN_PROGRESS: &str = "UpdateInProgress";
    /// A ModelServing does all that the LeaderWorkerSet asks for.
    pub const MAPPED: &str = "workload.serving.volcano.sh/Mapped";
    /// Reason of [`AVAILABLE`].
    pub const ALL_GROUPS_READY: &str = "AllGroupsReady";
    /// Reason of [`PROGRESSING`].
    pub const GROUPS_PROGRESSING: &str = "GroupsProgressing";
    /// Reason of [`UPDATE_IN_PROGRESS`].
    pub const GROUPS_UPDATING: &str = "GroupsUpdating";
    /// Reason of [`MAPPED`] while it is `True`.
    pub const ALL_FIELDS_HONOURED: &str = "AllFieldsHonoured";
    /// Reason of [`MAPPED`] while it is `False`: the ModelServing is there, but something asked for has no effect.
    pub const FIELDS_NOT_HONOURED: &str = "FieldsNotHonoured";
    /// Reason of [`MAPPED`] while it is `False`: there is a ModelServing of the same name which belongs to somebody else.
    pub const NOT_OWNED: &str = "ModelServingNotOwned";
    /// Reason of [`MAPPED`] while it is `Unknown`: what an earlier LeaderWorkerSet has left is being removed.
    pub const WAITING_FOR_REMOVAL: &str = "WaitingForRemoval";
    /// Reason of [`MAPPED`] while it is `False`: the API server does not take the ModelServing.
    pub const REFUSED: &str = "ModelServingRefused";
}

/// Condition types of a ModelBooster.
pub mod model_booster {
    /// The booster was seen for the first time.
    pub const INITIALIZED: &str = "Initialized";
    /// The generated ModelServing is available.
    pub const ACTIVE: &str = "Active";
    /// An object could not be generated.
    pub const FAILED: &str = "Failed";
    /// Reason of [`INITIALIZED`].
    pub const MODEL_CREATING: &str = "ModelCreating";
    /// Reason of [`ACTIVE`] while it is `False`.
    pub const MODEL_PROCESSING: &str = "ModelProcessing";
    /// Reason of [`ACTIVE`] while it is `True`.
    pub const MODEL_AVAILABLE: &str = "ModelAvailable";
    /// Reason of [`FAILED`].
    pub const MODEL_ABNORMAL: &str = "ModelAbnormal";
}

/// Condition types of an AutoscalingPolicy.
pub mod autoscaling_policy {
    /// The last scaling cycle went through.
    pub const READY: &str = "Ready";
    /// The ModelServing and the roles to scale exist.
    pub const TARGET_FOUND: &str = "TargetFound";
    /// The bounds of the roles keep the ratio from being met.
    pub const RATIO_CONSTRAINT_VIOLATED: &str = "RatioConstraintViolated";
    /// Reason of [`READY`] while it is `True`.
    pub const RECONCILED: &str = "Reconciled";
    /// Reason of [`READY`] while it is `False`.
    pub const RECONCILE_FAILED: &str = "ReconcileFailed";
    /// Reason of [`TARGET_FOUND`] while it is `False`.
    pub const TARGET_INVALID: &str = "TargetInvalid";
}

/// Condition types of ModelRoute and ModelServer.
pub mod traffic {
    /// The object is valid and in use.
    pub const ACCEPTED: &str = "Accepted";
    /// Everything the object refers to exists.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
}

/// Condition types of an ExternalModelProvider.
pub mod external_model_provider {
    /// Requests can be sent to the provider.
    pub const READY: &str = "Ready";
    /// The credential can be used, or none is needed.
    pub const CREDENTIALS_RESOLVED: &str = "CredentialsResolved";
    /// Reason of [`CREDENTIALS_RESOLVED`]: there is no `auth`.
    pub const CREDENTIAL_NOT_REQUIRED: &str = "CredentialNotRequired";
    /// Reason of [`CREDENTIALS_RESOLVED`]: the Secret holds a usable key.
    pub const CREDENTIAL_RESOLVED: &str = "CredentialResolved";
    /// Reason of [`CREDENTIALS_RESOLVED`]: the Secret is missing or lacks its label.
    pub const CREDENTIAL_NOT_FOUND: &str = "CredentialNotFound";
    /// Reason of [`CREDENTIALS_RESOLVED`]: the Secret lacks the key, or its value is empty.
    pub const CREDENTIAL_KEY_NOT_FOUND: &str = "CredentialKeyNotFound";
    /// Reason of [`CREDENTIALS_RESOLVED`]: the value cannot be sent in a header.
    pub const CREDENTIAL_INVALID: &str = "CredentialInvalid";
    /// Reason of [`READY`]: the object itself is not valid.
    pub const CONFIGURATION_INVALID: &str = "ConfigurationInvalid";
}

/// The condition of a type, where there is one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of a type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == TRUE)
}

/// Adds a condition or replaces the one of its type. The time of the last transition moves only when `status` changes.
/// Returns whether anything but that time differs from before.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) -> bool {
    let Some(old) = conditions
        .iter_mut()
        .find(|condition| condition.type_ == new.type_)
    else {
        conditions.push(new);
        return true;
    };
    if old.status == new.status {
        new.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != new;
    *old = new;
    changed
}

/// The schema of a list of conditions without list type.
pub(crate) fn atomic_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": schema() })
}

/// The schema of a list of conditions with one entry per type, which several writers can share.
///
/// ```
/// use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
/// use schemars::{JsonSchema, schema_for};
///
/// #[derive(JsonSchema)]
/// struct Status {
///     #[schemars(schema_with = "kthena_api::condition::map_list")]
///     conditions: Vec<Condition>,
/// }
/// let schema = schema_for!(Status);
/// assert_eq!(schema.pointer("/properties/conditions/x-kubernetes-list-map-keys/0").unwrap(), "type");
/// ```
pub fn map_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": schema(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}

fn schema() -> Schema {
    json_schema!({
        "type": "object",
        "description": "One aspect of the object's state.",
        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        "properties": {
            "lastTransitionTime": {
                "description": "When `status` changed last.",
                "type": "string",
                "format": "date-time",
            },
            "message": {
                "description": "Details for people; may be empty.",
                "type": "string",
                "maxLength": 32768,
            },
            "observedGeneration": {
                "description": "The `metadata.generation` that the condition speaks about.",
                "type": "integer",
                "format": "int64",
                "minimum": 0,
            },
            "reason": {
                "description": "Why the condition has its status, as one CamelCase word for programs.",
                "type": "string",
                "minLength": 1,
                "maxLength": 1024,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            },
            "status": {
                "description": "Whether the condition holds.",
                "type": "string",
                "enum": ["True", "False", "Unknown"],
            },
            "type": {
                "description": "Which aspect this is about.",
                "type": "string",
                "maxLength": 316,
                "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

    use super::*;

    fn condition(status: &str, reason: &str, seconds: i64) -> Condition {
        Condition {
            type_: "Ready".into(),
            status: status.into(),
            reason: reason.into(),
            message: String::new(),
            last_transition_time: Time(Timestamp::from_second(seconds).unwrap()),
            observed_generation: None,
        }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_alone() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, condition(FALSE, "A", 1)));
        assert!(set(&mut conditions, condition(FALSE, "B", 2)));
        assert_eq!(conditions, [condition(FALSE, "B", 1)]);
        assert!(
            !set(&mut conditions, condition(FALSE, "B", 3)),
            "nothing but the clock moved"
        );
        assert!(set(&mut conditions, condition(TRUE, "B", 4)));
        assert_eq!(conditions, [condition(TRUE, "B", 4)]);
        assert!(is_true(&conditions, "Ready"));
        assert!(!is_true(&conditions, "Available"));
    }
}
