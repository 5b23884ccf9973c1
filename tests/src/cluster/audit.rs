//! Counting API requests exactly: the API server writes one line for each into its audit log before it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde::Deserialize;

use super::identity::USER_AGENT;

/// What the API server is told to write: one line at the end of a request, and one when a watch begins.
pub(super) const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// The log's name in the cluster's folder.
pub(super) const LOG: &str = "audit.log";

/// The log of one cluster.
#[derive(Debug, Clone)]
pub struct Audit {
    path: PathBuf,
}

/// A place in the log; its beginning by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// One request, as far as tests ask about it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub stage: Stage,
    /// When the request was over; of a watch, when it began.
    #[serde(rename = "stageTimestamp")]
    pub at: MicroTime,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    #[serde(default)]
    pub user_agent: String,
    pub user: User,
    #[serde(default)]
    pub object_ref: ObjectRef,
    pub response_status: Option<ResponseStatus>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// A watch has sent its headers and goes on.
    ResponseStarted,
    /// The request is over.
    ResponseComplete,
    Panic,
}

#[derive(Debug, Clone, Deserialize)]
pub struct User {
    pub username: String,
}

/// What the request was about; empty for paths such as `/readyz`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    pub api_group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ResponseStatus {
    pub code: u16,
}

/// Which requests to count. The bed's own are left out unless an agent is named.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    agent: Option<String>,
    user: Option<String>,
    verb: Option<String>,
    resource: Option<String>,
    namespace: Option<String>,
}

impl Audit {
    /// The log in the folder of a cluster.
    pub(super) fn of(dir: &Path) -> Self {
        Self { path: dir.join(LOG) }
    }

    /// The end of the log now: what was answered before lies before it.
    pub fn mark(&self) -> Result<Mark> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(Mark(metadata.len())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Mark(0)),
            Err(error) => Err(error).with_context(|| format!("looking at {}", self.path.display())),
        }
    }

    /// The requests after `mark`, in the order in which they ended; a watch counts once, from its beginning.
    pub fn since(&self, mark: Mark) -> Result<Vec<Entry>> {
        let mut entries = self.lines(mark)?;
        // The end of a watch is a second line about the same request.
        entries.retain(|entry| (entry.verb == "watch") == (entry.stage == Stage::ResponseStarted));
        Ok(entries)
    }

    /// What a user asked for that the roles did not allow: each `verb group/resource name` once.
    pub fn refused(&self, user: &str) -> Result<BTreeSet<String>> {
        let entries = self.lines(Mark::default())?.into_iter();
        let refused = entries.filter(|entry| entry.user.username == user && entry.is_refused());
        Ok(refused
            .map(|entry| {
                let object = &entry.object_ref;
                format!(
                    "{} {}/{} {}",
                    entry.verb,
                    object.api_group,
                    object.full_resource(),
                    object.name
                )
            })
            .collect())
    }

    fn lines(&self, mark: Mark) -> Result<Vec<Entry>> {
        let mut file = File::open(&self.path).with_context(|| format!("opening {}", self.path.display()))?;
        file.seek(SeekFrom::Start(mark.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text).context("reading the audit log")?;
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let entries = complete.lines().map(|line| {
            serde_json::from_str::<Entry>(line)
                .with_context(|| format!("understanding the audit line {line}"))
        });
        entries.collect()
    }

    /// How many requests after `mark` pass the filter.
    pub fn count(&self, mark: Mark, filter: &Filter) -> Result<usize> {
        Ok(self
            .since(mark)?
            .iter()
            .filter(|entry| filter.takes(entry))
            .count())
    }
}

impl Entry {
    /// Whether nobody had granted this. Other answers with 403 are those of admission, quotas, or a namespace that ends.
    pub fn is_refused(&self) -> bool {
        let decision = self.annotations.get("authorization.k8s.io/decision");
        decision.is_some_and(|it| it == "forbid")
    }
}

impl ObjectRef {
    /// The resource as roles have it: `pods`, `pods/status`.
    pub fn full_resource(&self) -> String {
        match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

impl Filter {
    /// Requests whose user agent begins with this.
    pub fn agent(mut self, prefix: &str) -> Self {
        self.agent = Some(prefix.to_owned());
        self
    }

    /// Requests of this user.
    pub fn user(mut self, name: &str) -> Self {
        self.user = Some(name.to_owned());
        self
    }

    pub fn verb(mut self, verb: &str) -> Self {
        self.verb = Some(verb.to_owned());
        self
    }

    /// Requests about a resource, as in `modelroutes`, or a subresource, as in `pods/status`.
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    pub fn takes(&self, entry: &Entry) -> bool {
        let object = &entry.object_ref;
        let resource = object.full_resource();
        let agent = match &self.agent {
            Some(prefix) => entry.user_agent.starts_with(prefix.as_str()),
            None => entry.user_agent != USER_AGENT,
        };
        let same =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        agent
            && same(&self.user, &entry.user.username)
            && same(&self.verb, &entry.verb)
            && same(&self.resource, &resource)
            && same(&self.namespace, &object.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"stage":"ResponseStarted","stageTimestamp":"2026-01-01T00:00:00.000001Z","verb":"watch","requestURI":"/api/v1/pods?watch=1","userAgent":"kthena-proxy/0.1","user":{"username":"system:admin"},"objectRef":{"resource":"pods"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","stageTimestamp":"2026-01-01T00:00:00.000001Z","verb":"watch","requestURI":"/api/v1/pods?watch=1","userAgent":"kthena-proxy/0.1","user":{"username":"system:admin"},"objectRef":{"resource":"pods"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","stageTimestamp":"2026-01-01T00:00:00.000001Z","verb":"patch","requestURI":"/api/v1/namespaces/a/pods/p/status","userAgent":"kthena-tests","user":{"username":"system:admin"},"objectRef":{"resource":"pods","subresource":"status","namespace":"a","name":"p"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","stageTimestamp":"2026-01-01T00:00:00.000001Z","verb":"get","requestURI":"/readyz","user":{"username":"system:anonymous"},"responseStatus":{"code":200}}
{"stage":"ResponseCom"#;

    fn audit() -> (tempfile::TempDir, Audit) {
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::of(dir.path());
        std::fs::write(&audit.path, LINES).unwrap();
        (dir, audit)
    }

    #[test]
    fn a_watch_counts_once_and_a_line_in_the_making_not_at_all() {
        let (_dir, audit) = audit();
        assert_eq!(audit.since(Mark(0)).unwrap().len(), 3);
        assert_eq!(audit.since(audit.mark().unwrap()).unwrap().len(), 0);
    }

    #[test]
    fn filters_combine_and_the_beds_own_requests_are_left_out() {
        let (_dir, audit) = audit();
        let count = |filter: Filter| audit.count(Mark(0), &filter).unwrap();
        assert_eq!(count(Filter::default()), 2);
        assert_eq!(count(Filter::default().agent("kthena-proxy")), 1);
        assert_eq!(
            count(
                Filter::default()
                    .agent(USER_AGENT)
                    .resource("pods/status")
                    .namespace("a")
            ),
            1
        );
        assert_eq!(count(Filter::default().agent(USER_AGENT).resource("pods")), 0);
        assert_eq!(count(Filter::default().verb("watch").user("system:admin")), 1);
    }

    #[test]
    fn what_roles_do_not_allow_is_told_apart_from_what_admission_refuses() {
        let line = |verb: &str, stage: &str, decision: &str| {
            format!(
                r#"{{"stage":"{stage}","stageTimestamp":"2026-01-01T00:00:00.000001Z","verb":"{verb}","requestURI":"/x","user":{{"username":"me"}},"objectRef":{{"resource":"leases","apiGroup":"coordination.k8s.io","name":"l"}},"responseStatus":{{"code":403}},"annotations":{{"authorization.k8s.io/decision":"{decision}"}}}}
"#
            )
        };
        let lines = [
            line("watch", "ResponseStarted", "forbid"),
            line("watch", "ResponseComplete", "forbid"),
            line("get", "ResponseComplete", "forbid"),
            line("create", "ResponseComplete", "allow"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let audit = Audit::of(dir.path());
        std::fs::write(&audit.path, lines.concat()).unwrap();
        let refused: Vec<String> = audit.refused("me").unwrap().into_iter().collect();
        assert_eq!(
            refused,
            [
                "get coordination.k8s.io/leases l",
                "watch coordination.k8s.io/leases l"
            ]
        );
        assert!(audit.refused("somebody else").unwrap().is_empty());
    }
}
