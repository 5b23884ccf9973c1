//! The status of a LeaderWorkerSet.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kthena_api::ModelServing;
use kthena_api::condition::{self, leader_worker_set as types, model_serving};
use kthena_api::external::leader_worker_set::{LeaderWorkerSet, LeaderWorkerSetStatus};

use super::mapping::Ignored;

/// What has become of what a LeaderWorkerSet asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A ModelServing does it.
    Honoured,
    /// A ModelServing does it but for these fields.
    Ignored(String),
    /// There is another ModelServing in its place.
    NotOwned(String),
    /// There is one in its place that will go.
    Waiting(String),
    /// The API server does not take the ModelServing.
    Refused(String),
}

/// How the groups do.
struct State {
    is_available: bool,
    is_progressing: bool,
    is_updating: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    /// From what has no effect.
    pub(super) fn of(ignored: &[Ignored]) -> Self {
        if ignored.is_empty() {
            return Self::Honoured;
        }
        let fields: Vec<String> = ignored.iter().map(ToString::to_string).collect();
        Self::Ignored(fields.join("; "))
    }

    fn condition(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Honoured => (
                condition::TRUE,
                types::ALL_FIELDS_HONOURED,
                "a ModelServing does all that is asked for",
            ),
            Self::Ignored(fields) => (condition::FALSE, types::FIELDS_NOT_HONOURED, fields),
            Self::NotOwned(message) => (condition::FALSE, types::NOT_OWNED, message),
            Self::Waiting(message) => (condition::UNKNOWN, types::WAITING_FOR_REMOVAL, message),
            Self::Refused(message) => (condition::FALSE, types::REFUSED, message),
        }
    }
}

/// The status of a LeaderWorkerSet, from that of its own ModelServing. Conditions of other types stay as they are.
pub(super) fn of(
    set: &LeaderWorkerSet,
    serving: Option<&ModelServing>,
    verdict: &Verdict,
    now: Timestamp,
) -> LeaderWorkerSetStatus {
    let of_serving = serving
        .and_then(|serving| serving.status.clone())
        .unwrap_or_default();
    let old = set.status.clone().unwrap_or_default();
    let mut status = LeaderWorkerSetStatus {
        replicas: of_serving.replicas.unwrap_or(0),
        ready_replicas: of_serving.available_replicas.unwrap_or(0),
        updated_replicas: of_serving.updated_replicas.unwrap_or(0),
        // The entry pod of the one role in each group is the leader.
        hpa_pod_selector: of_serving.label_selector.unwrap_or_default(),
        observed_generation: set.metadata.generation.unwrap_or(0),
        conditions: old.conditions,
    };
    let mut put = |type_: &str, value: &str, reason: &str, message: &str| {
        let new = Condition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: set.metadata.generation,
            last_transition_time: Time(now),
        };
        condition::set(&mut status.conditions, new);
    };
    let state = State::of(serving, verdict);
    for (type_, holds) in [
        (types::AVAILABLE, state.is_available),
        (types::PROGRESSING, state.is_progressing),
        (types::UPDATE_IN_PROGRESS, state.is_updating),
    ] {
        let value = if holds { condition::TRUE } else { condition::FALSE };
        put(type_, value, state.reason, &state.message);
    }
    let (value, reason, message) = verdict.condition();
    put(types::MAPPED, value, reason, message);
    status
}

impl State {
    fn of(serving: Option<&ModelServing>, verdict: &Verdict) -> Self {
        let progressing = |message: String| Self {
            is_available: false,
            is_progressing: true,
            is_updating: false,
            reason: types::GROUPS_PROGRESSING,
            message,
        };
        let Some(serving) = serving else {
            return match verdict {
                Verdict::NotOwned(message) | Verdict::Refused(message) => Self {
                    is_progressing: false,
                    reason: verdict.condition().1,
                    ..progressing(message.clone())
                },
                Verdict::Waiting(message) => progressing(message.clone()),
                Verdict::Honoured | Verdict::Ignored(_) => {
                    progressing("the ModelServing is yet to be made".to_owned())
                }
            };
        };
        let status = serving.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation);
        if seen.is_none() || seen < serving.metadata.generation {
            return progressing("the ModelServing has changed and is yet to be looked at".to_owned());
        }
        let conditions = status
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        let holds = |type_| condition::find(conditions, type_).filter(|it| it.status == condition::TRUE);
        if let Some(it) = holds(model_serving::AVAILABLE) {
            return Self {
                is_available: true,
                is_progressing: false,
                reason: types::ALL_GROUPS_READY,
                ..progressing(it.message.clone())
            };
        }
        if let Some(it) = holds(model_serving::UPDATE_IN_PROGRESS) {
            return Self {
                is_updating: true,
                reason: types::GROUPS_UPDATING,
                ..progressing(it.message.clone())
            };
        }
        let it = holds(model_serving::PROGRESSING);
        progressing(it.map(|it| it.message.clone()).unwrap_or_default())
    }
}
