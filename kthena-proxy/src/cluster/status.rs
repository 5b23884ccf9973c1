//! What ModelRoutes and ModelServers are told about themselves.
//!
//! A status follows from the objects alone, so every replica of the proxy comes to the same one.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kthena_api::condition::{self, traffic};
use kthena_api::model_route::{ModelRouteStatus, Target};
use kthena_api::model_server::{EndpointCount, ModelServerStatus, PdRole};
use kthena_api::{ModelRoute, ModelServer};

use super::build::Problem;
use super::objects::{Key, Objects, key_of, qualified};
use super::snapshot::{Pool, Server, Snapshot};

pub mod writer;

/// Reason of `Accepted` while it is `True`.
const ACCEPTED: &str = "Accepted";
/// Reason of `Accepted` while it is `False`: something in the object cannot be used.
const INVALID: &str = "Invalid";
/// Reason of `Accepted` while it is `False`: the route serves Gateways alone, and there is none here.
const NO_MATCHING_PARENT: &str = "NoMatchingParent";
/// Reason of `ResolvedRefs` while it is `True`.
const RESOLVED: &str = "ResolvedRefs";
/// Reason of `ResolvedRefs` while it is `False`.
const BACKEND_NOT_FOUND: &str = "BackendNotFound";
/// Reason of `ResolvedRefs` while it is `False`.
const INVALID_SECRET: &str = "InvalidSecret";

/// Statuses to write.
#[derive(Debug, Default, PartialEq)]
pub struct Statuses {
    /// Of ModelRoutes.
    pub routes: BTreeMap<Key, ModelRouteStatus>,
    /// Of ModelServers.
    pub servers: BTreeMap<Key, ModelServerStatus>,
}

/// The statuses that differ from what the objects have.
#[must_use]
pub fn outdated(objects: &Objects, snapshot: &Snapshot, problems: &[Problem], now: Timestamp) -> Statuses {
    let mut found: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        found.entry(&problem.name).or_default().push(problem);
    }
    let of = |kind: &str, key: &Key| -> Vec<&Problem> {
        let all = found.get(qualified(key).as_str());
        let all = all.into_iter().flatten().copied();
        all.filter(|problem| problem.kind == kind).collect()
    };
    let mut statuses = Statuses::default();
    for object in objects.routes.values() {
        let key = key_of(&object.metadata);
        let new = route(object, objects, &of("ModelRoute", &key), now);
        if object.status.as_ref() != Some(&new) {
            statuses.routes.insert(key, new);
        }
    }
    for object in objects.servers.values() {
        let key = key_of(&object.metadata);
        let made = snapshot.servers.get(qualified(&key).as_str());
        let problems = of("ModelServer", &key);
        let new = server(object, objects, made.map(AsRef::as_ref), &problems, now);
        if object.status.as_ref() != Some(&new) {
            statuses.servers.insert(key, new);
        }
    }
    statuses
}

fn route(object: &ModelRoute, objects: &Objects, problems: &[&Problem], now: Timestamp) -> ModelRouteStatus {
    let generation = object.metadata.generation;
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let accepted = if !object.spec.parent_refs.is_empty() {
        let message = "the route serves the traffic of Gateways alone, and this proxy has none";
        Verdict::no(NO_MATCHING_PARENT, message.to_owned())
    } else {
        Verdict::of(problems.iter().copied(), ACCEPTED, INVALID)
    };
    let mut missing: Vec<String> = Vec::new();
    for target in object.spec.rules.iter().flat_map(|rule| &rule.target_models) {
        let (kind, name, exists) = match target.target() {
            Some(Target::ModelServer(name)) => {
                let key = (namespace.clone(), name.to_owned());
                ("ModelServer", name, objects.servers.contains_key(&key))
            }
            Some(Target::ExternalModelProvider(name)) => {
                let key = (namespace.clone(), name.to_owned());
                (
                    "ExternalModelProvider",
                    name,
                    objects.providers.contains_key(&key),
                )
            }
            None => continue,
        };
        let what = format!("{kind} {name}");
        if !exists && !missing.contains(&what) {
            missing.push(what);
        }
    }
    let resolved = if missing.is_empty() {
        Verdict::yes(RESOLVED)
    } else {
        Verdict::no(BACKEND_NOT_FOUND, format!("not found: {}", missing.join(", ")))
    };
    let old = object.status.as_ref();
    let mut conditions = old.map_or_else(Vec::new, |status| status.conditions.clone());
    condition::set(
        &mut conditions,
        accepted.condition(traffic::ACCEPTED, generation, now),
    );
    condition::set(
        &mut conditions,
        resolved.condition(traffic::RESOLVED_REFS, generation, now),
    );
    ModelRouteStatus {
        observed_generation: generation,
        conditions,
    }
}

fn server(
    object: &ModelServer,
    objects: &Objects,
    made: Option<&Server>,
    problems: &[&Problem],
    now: Timestamp,
) -> ModelServerStatus {
    let generation = object.metadata.generation;
    let (secrets, own): (Vec<&Problem>, Vec<&Problem>) =
        problems.iter().copied().partition(|problem| problem.is_reference);
    let accepted = Verdict::of(own.into_iter(), ACCEPTED, INVALID);
    let resolved = Verdict::of(secrets.into_iter(), RESOLVED, INVALID_SECRET);
    let mut conditions = object
        .status
        .as_ref()
        .map_or_else(Vec::new, |status| status.conditions.clone());
    condition::set(
        &mut conditions,
        accepted.condition(traffic::ACCEPTED, generation, now),
    );
    condition::set(
        &mut conditions,
        resolved.condition(traffic::RESOLVED_REFS, generation, now),
    );
    let counts = Counts::of(object, objects, made);
    ModelServerStatus {
        observed_generation: generation,
        conditions,
        endpoints: Some(counts.all),
        prefill: counts.split.map(|(prefill, _)| prefill),
        decode: counts.split.map(|(_, decode)| decode),
    }
}

struct Counts {
    all: EndpointCount,
    split: Option<(EndpointCount, EndpointCount)>,
}

impl Counts {
    fn of(object: &ModelServer, objects: &Objects, made: Option<&Server>) -> Self {
        let (mut all, mut prefill, mut decode) = <(EndpointCount, EndpointCount, EndpointCount)>::default();
        let spec = &object.spec;
        let group = spec.pd_group();
        let mut count = |labels: &BTreeMap<String, String>| {
            all.total += 1;
            match group.and_then(|group| group.role(labels)) {
                Some(PdRole::Prefill) => prefill.total += 1,
                Some(PdRole::Decode) => decode.total += 1,
                None => {}
            }
        };
        match spec.match_labels() {
            Some(labels) => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                for pod in objects.pods.select(namespace, labels) {
                    count(&pod.labels);
                }
            }
            None => spec.endpoints.iter().for_each(|endpoint| count(&endpoint.labels)),
        }
        let length = |all: &[_]| i32::try_from(all.len()).unwrap_or(i32::MAX);
        match made.map(|server| &server.pool) {
            Some(Pool::Whole(endpoints)) => all.ready = length(endpoints),
            Some(Pool::Split(split)) => {
                prefill.ready = length(&split.all_prefill);
                decode.ready = length(&split.all_decode);
                all.ready = prefill.ready + decode.ready;
            }
            None => {}
        }
        Self {
            all,
            split: group.map(|_| (prefill, decode)),
        }
    }
}

/// Status, reason and message of a condition.
struct Verdict {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Verdict {
    fn yes(reason: &'static str) -> Self {
        Self {
            holds: true,
            reason,
            message: String::new(),
        }
    }

    fn no(reason: &'static str, message: String) -> Self {
        Self {
            holds: false,
            reason,
            message,
        }
    }

    /// It holds unless there are problems.
    fn of<'a>(problems: impl Iterator<Item = &'a Problem>, yes: &'static str, no: &'static str) -> Self {
        let messages: Vec<&str> = problems.map(|problem| problem.message.as_str()).collect();
        if messages.is_empty() {
            Self::yes(yes)
        } else {
            Self::no(no, messages.join("\n"))
        }
    }

    fn condition(self, type_: &str, generation: Option<i64>, now: Timestamp) -> Condition {
        /// What the definition allows.
        const LONGEST_MESSAGE: usize = 32_768;
        let mut message = self.message;
        if message.len() > LONGEST_MESSAGE {
            message.truncate(message.floor_char_boundary(LONGEST_MESSAGE));
        }
        Condition {
            type_: type_.to_owned(),
            status: if self.holds {
                condition::TRUE
            } else {
                condition::FALSE
            }
            .to_owned(),
            reason: self.reason.to_owned(),
            message,
            last_transition_time: Time(now),
            observed_generation: generation,
        }
    }
}

#[cfg(test)]
mod tests;
