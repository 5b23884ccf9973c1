//! What one controller has asked for, counted from the API server's audit log.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use k8s_openapi::jiff::Timestamp;
use kthena_tests::cluster::{Entry, USER_AGENT};
use serde::Serialize;

/// The requests of one controller. A watch is none, since it asks for nothing once it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Requests to create a pod.
    pub pod_creates: usize,
    /// Of these, the ones for a pod that had been asked for before.
    pub pods_again: usize,
    /// Events, new ones and ones that are counted on.
    pub events: usize,
    /// All other requests.
    pub others: usize,
    /// All requests by verb and resource.
    pub by_kind: BTreeMap<String, usize>,
    /// Requests that failed, by answer, verb and resource.
    pub failed: BTreeMap<String, usize>,
}

/// How long everything took, in seconds since the first ModelServing was there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Times {
    /// Until the last pod was created.
    pub created: f64,
    /// Until the last pod was ready.
    pub ready: f64,
    /// Until the last status of a ModelServing was written.
    pub settled: f64,
}

impl Counts {
    /// Of this user.
    pub(crate) fn of(entries: &[Entry], user: &str) -> Self {
        let mut counts = Self::default();
        let mut pods = BTreeSet::new();
        let asked = entries
            .iter()
            .filter(|entry| entry.user.username == user && entry.verb != "watch");
        for entry in asked {
            let kind = format!("{} {}", entry.verb, resource(entry));
            match kind.as_str() {
                "create pods" => {
                    counts.pod_creates += 1;
                    if !pods.insert((&entry.object_ref.namespace, &entry.object_ref.name)) {
                        counts.pods_again += 1;
                    }
                }
                _ if entry.object_ref.resource == "events" => counts.events += 1,
                _ => counts.others += 1,
            }
            if let Some(code) = entry
                .response_status
                .map(|status| status.code)
                .filter(|code| *code >= 400)
            {
                *counts.failed.entry(format!("{code} {kind}")).or_default() += 1;
            }
            *counts.by_kind.entry(kind).or_default() += 1;
        }
        counts
    }

    /// All requests.
    pub(crate) const fn all(&self) -> usize {
        self.pod_creates + self.events + self.others
    }
}

impl Times {
    /// Of this user's work: what the bench began by creating ModelServings.
    pub(crate) fn of(entries: &[Entry], user: &str) -> Result<Self> {
        let at = |what: &str, takes: &dyn Fn(&Entry) -> bool| -> Result<Vec<Timestamp>> {
            let all: Vec<_> = entries
                .iter()
                .filter(|entry| takes(entry))
                .map(|entry| entry.at.0)
                .collect();
            anyhow::ensure!(!all.is_empty(), "nobody {what}");
            Ok(all)
        };
        let is = |entry: &Entry, verb: &str, of: &str| entry.verb == verb && resource(entry) == of;
        let begun = at("created a ModelServing", &|entry| {
            entry.user_agent == USER_AGENT && is(entry, "create", "modelservings")
        })?;
        let created = at("created a pod", &|entry| {
            entry.user.username == user && is(entry, "create", "pods")
        })?;
        // The first word of its kubelet about a pod says that it is ready; the scheduler writes no status of a pod that it places.
        let ready = at("said that a pod is ready", &|entry| {
            entry.user_agent.starts_with("kwok") && resource(entry) == "pods/status"
        })?;
        let settled = at("wrote a status", &|entry| {
            entry.user.username == user && resource(entry) == "modelservings/status"
        })?;
        let begun = begun.into_iter().min().context("there is a first one")?;
        let last = |all: Vec<Timestamp>| {
            let last = all.into_iter().max().unwrap_or(begun);
            last.duration_since(begun).as_secs_f64()
        };
        Ok(Self {
            created: last(created),
            ready: last(ready),
            settled: last(settled),
        })
    }
}

fn resource(entry: &Entry) -> String {
    let object = &entry.object_ref;
    match object.subresource.as_str() {
        "" => object.resource.clone(),
        subresource => format!("{}/{subresource}", object.resource),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "system:serviceaccount:scale:ours";

    fn entry(user: &str, agent: &str, second: u8, request: &str, code: u16) -> Entry {
        let words: Vec<&str> = request.split_whitespace().collect();
        let (resource, subresource) = words[1].split_once('/').unwrap_or((words[1], ""));
        serde_json::from_value(json!({
            "stage": "ResponseComplete", "stageTimestamp": format!("2026-01-01T00:00:{second:02}.500000Z"), "verb": words[0],
            "requestURI": "/", "userAgent": agent, "user": { "username": user },
            "objectRef": { "resource": resource, "subresource": subresource, "namespace": "scale", "name": words.get(2).unwrap_or(&"") },
            "responseStatus": { "code": code },
        }))
        .unwrap()
    }

    fn ours(second: u8, request: &str, code: u16) -> Entry {
        entry(USER, "kthena-controller/0.1", second, request, code)
    }

    fn log() -> Vec<Entry> {
        vec![
            entry("admin", USER_AGENT, 1, "create modelservings m", 201),
            entry("admin", USER_AGENT, 2, "create modelservings n", 201),
            ours(2, "watch pods", 200),
            ours(3, "create pods a", 201),
            ours(3, "create pods a", 409),
            ours(4, "create pods b", 201),
            ours(4, "create events e", 201),
            ours(4, "patch events e", 200),
            ours(5, "create controllerrevisions r", 201),
            entry("admin", "kwok/v0.7.0", 6, "patch pods/status a", 200),
            entry("admin", "kwok/v0.7.0", 7, "patch pods/status b", 200),
            ours(9, "patch modelservings/status m", 200),
        ]
    }

    #[test]
    fn a_pod_that_is_asked_for_again_is_seen_whatever_the_answer() {
        let counts = Counts::of(&log(), USER);
        assert_eq!((counts.pod_creates, counts.pods_again), (3, 1));
        assert_eq!((counts.events, counts.others, counts.all()), (2, 2, 7));
        assert_eq!(counts.by_kind["create pods"], 3);
        assert_eq!(counts.failed, BTreeMap::from([("409 create pods".to_owned(), 1)]));
        assert!(!counts.by_kind.contains_key("watch pods"), "{counts:?}");
    }

    #[test]
    fn nothing_is_counted_of_others() {
        assert_eq!(
            Counts::of(&log(), "system:serviceaccount:scale:another"),
            Counts::default()
        );
    }

    #[test]
    fn time_runs_from_the_first_model_serving() {
        let times = Times::of(&log(), USER).unwrap();
        assert_eq!((times.created, times.ready, times.settled), (3.0, 6.0, 8.0));
        assert!(Times::of(&log()[2..], USER).is_err(), "nothing has begun");
    }
}
