//! Revisions: which there are, which one the ModelServing asks for now, and which may be forgotten.
//!
//! A revision is a [`Template`] with a name, kept in a ControllerRevision that never changes but for its number. Its name is the
//! template's hash, except where another controller has named it: what the reference's controller left behind keeps its name as long as
//! the template makes the same pods, so that taking over restarts none.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::model_serving::revision::{Error, Revision, Revisions, Write};
//!
//! let serving: ModelServing = serde_json::from_value(serde_json::json!({
//!     "metadata": { "name": "llama", "namespace": "default", "uid": "1" },
//!     "spec": { "template": { "roles": [
//!         { "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "vllm" }] } } },
//!     ] } },
//! }))?;
//! // Nothing is stored yet, so what is asked for is new.
//! let revisions = Revisions::of(&serving, &[], &[]);
//! let Some((Write::Create, new)) = revisions.write() else { panic!("it is new") };
//! assert_eq!((new.name.as_str(), new.number), (revisions.target(), 1));
//! assert_eq!(revisions.number(revisions.target()), 1);
//! assert_eq!(revisions.latest_before_target(), None);
//! assert!(revisions.role_hash("decode").is_some() && revisions.role_hash("prefill").is_none());
//! assert_eq!(revisions.template(revisions.target()), Some(revisions.target_template()));
//! assert_eq!(revisions.stored_template(revisions.target()), None);
//!
//! // It is kept in a ControllerRevision, and known again from it.
//! let stored = [Revision::of(&new.controller_revision(&serving))?];
//! let later = Revisions::of(&serving, &stored, &[]);
//! assert!(later.write().is_none() && later.superfluous(None, &[]).is_empty());
//!
//! let pod = kthena_sdk::model_serving::Pod::of(&serde_json::from_value(serde_json::json!({ "metadata": {
//!     "name": "llama-0-decode-0-0", "labels": {
//!         "modelserving.volcano.sh/group-name": "llama-0", "modelserving.volcano.sh/role": "decode",
//!         "modelserving.volcano.sh/role-id": "decode-0", "modelserving.volcano.sh/revision": later.target(),
//!     },
//! } }))?).expect("a pod of a ModelServing");
//! assert_eq!(later.is_current(&pod), Some(true));
//!
//! assert!(matches!(Revision::of(&Default::default()), Err(Error::NoData)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::name::Serving;

use super::metadata;
use super::observe::Pod;
use super::template::{Fingerprint, InvalidData, Template, Writing};
use crate::owner::{self, controller};

/// Revisions that are kept although no pod is left of them, as a ReplicaSet or StatefulSet does.
pub const HISTORY: usize = 10;

/// A revision that is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Its name: the label's value on pods.
    pub name: String,
    /// Its number: a larger one was asked for later.
    pub number: i64,
    /// The roles.
    pub template: Template,
    /// Name of the ControllerRevision.
    pub object: String,
    /// UID of the object that controls it.
    pub owner: Option<String>,
    /// How its data are written.
    writing: Writing,
    /// What tells it apart, in its own writing.
    fingerprint: Fingerprint,
    /// Role hashes of pods that were made from it by another controller, by role.
    aliases: BTreeMap<String, BTreeSet<String>>,
}

/// All revisions of a ModelServing, and the one that it asks for.
#[derive(Debug)]
pub struct Revisions<'a> {
    stored: Vec<&'a Revision>,
    target: Revision,
    hashes: BTreeMap<String, String>,
    /// Roles by revision that are as in the target.
    current: BTreeMap<&'a str, BTreeSet<String>>,
    write: Option<Write>,
}

/// What is to be written before a pod of the target is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// The target is new.
    Create,
    /// The target is an earlier revision that is asked for again, and gets the next number.
    Renumber,
}

/// Why a ControllerRevision is no revision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no data.
    #[error("the ControllerRevision has no data")]
    NoData,
    /// Its data are no roles.
    #[error("the ControllerRevision's data cannot be read")]
    Data(#[source] InvalidData),
}

// === impl Revision ===

impl Revision {
    /// Reads a ControllerRevision.
    ///
    /// # Errors
    ///
    /// Where its data are no roles.
    pub fn of(object: &ControllerRevision) -> Result<Self, Error> {
        let metadata = &object.metadata;
        let data = object.data.as_ref().ok_or(Error::NoData)?;
        let label = metadata.labels.as_ref().and_then(|all| all.get(labels::REVISION));
        let annotation = |key| metadata.annotations.as_ref().and_then(|all| all.get(key));
        let is_exact = annotation(labels::REVISION_FORMAT).is_some_and(|format| format == FORMAT);
        let writing = if is_exact { Writing::Exact } else { Writing::Loose };
        let template = Template::from_data(&data.0).map_err(Error::Data)?;
        Ok(Self {
            name: label.cloned().unwrap_or_default(),
            number: object.revision,
            fingerprint: template.fingerprint(writing),
            writing,
            template,
            object: metadata.name.clone().unwrap_or_default(),
            owner: controller(metadata).map(|owner| owner.uid.clone()),
            aliases: annotation(labels::ADOPTED_ROLE_HASHES)
                .map(|text| aliases(text))
                .unwrap_or_default(),
        })
    }

    /// The object to store.
    pub fn controller_revision(&self, serving: &ModelServing) -> ControllerRevision {
        let mut labels = metadata::of_serving(serving);
        labels.insert(labels::REVISION.into(), self.name.clone());
        let mut annotations = BTreeMap::from([(labels::REVISION_FORMAT.into(), FORMAT.into())]);
        if !self.aliases.is_empty() {
            annotations.insert(labels::ADOPTED_ROLE_HASHES.into(), write_aliases(&self.aliases));
        }
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(self.object.clone()),
                namespace: serving.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: Some(vec![owner::reference(serving)]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(self.template.to_data())),
            revision: self.number,
        }
    }
}

/// How this version writes data.
const FORMAT: &str = "1";

fn aliases(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for (role, hash) in text.split(',').filter_map(|pair| pair.split_once('=')) {
        all.entry(role.to_owned()).or_default().insert(hash.to_owned());
    }
    all
}

fn write_aliases(aliases: &BTreeMap<String, BTreeSet<String>>) -> String {
    let pairs: Vec<String> = aliases
        .iter()
        .flat_map(|(role, hashes)| hashes.iter().map(move |hash| format!("{role}={hash}")))
        .collect();
    pairs.join(",")
}

/// The roles that are asked for, and what tells them apart from stored ones.
struct Wanted {
    template: Template,
    exact: Fingerprint,
    /// Only what another controller has stored is compared so.
    loose: OnceCell<Fingerprint>,
    /// Hashes by role.
    hashes: BTreeMap<String, String>,
}

impl Wanted {
    fn of(serving: &ModelServing) -> Self {
        let template = Template::of(&serving.spec);
        let (exact, hashes) = template.prints();
        Self {
            template,
            exact,
            loose: OnceCell::new(),
            hashes,
        }
    }

    fn fingerprint(&self, writing: Writing) -> &Fingerprint {
        match writing {
            Writing::Exact => &self.exact,
            Writing::Loose => self.loose.get_or_init(|| self.template.fingerprint(writing)),
        }
    }
}

// === impl Revisions ===

impl<'a> Revisions<'a> {
    /// Finds the revision that a ModelServing asks for among those that it owns, or makes it up.
    pub fn of(serving: &ModelServing, stored: &'a [Revision], pods: &[&Pod]) -> Self {
        let uid = serving.metadata.uid.as_deref();
        let stored: Vec<&Revision> = stored
            .iter()
            .filter(|revision| uid.is_some() && revision.owner.as_deref() == uid)
            .collect();
        let wanted = Wanted::of(serving);
        let last = stored.iter().map(|revision| revision.number).max().unwrap_or(0);
        let (target, write) = match known(serving, &stored, &wanted) {
            Some(known) if known.number == last => ((*known).clone(), None),
            Some(known) => (
                Revision {
                    number: last + 1,
                    ..(*known).clone()
                },
                Some(Write::Renumber),
            ),
            None => (
                new(serving, &stored, &wanted, last + 1, pods),
                Some(Write::Create),
            ),
        };
        let mut current = BTreeMap::<&str, BTreeSet<String>>::new();
        for revision in &stored {
            let print = wanted.fingerprint(revision.writing);
            let roles = wanted.template.0.iter().map(|role| &role.name);
            let same = roles
                .filter(|role| revision.fingerprint.has_same(print, role))
                .cloned();
            current.insert(&revision.name, same.collect());
        }
        // Counts and limits are the present ones, whatever they were when the revision was stored.
        let mut aliases = target.aliases;
        for revision in &stored {
            for (role, hashes) in &revision.aliases {
                if current[revision.name.as_str()].contains(role) {
                    aliases
                        .entry(role.clone())
                        .or_default()
                        .extend(hashes.iter().cloned());
                }
            }
        }
        let target = Revision {
            template: wanted.template,
            aliases,
            ..target
        };
        Self {
            stored,
            target,
            hashes: wanted.hashes,
            current,
            write,
        }
    }

    /// Name of the revision that is asked for.
    pub fn target(&self) -> &str {
        &self.target.name
    }

    /// The latest revision that is stored besides the target.
    pub fn latest_before_target(&self) -> Option<&str> {
        let others = self
            .stored
            .iter()
            .filter(|revision| revision.name != self.target.name);
        let latest = others.max_by_key(|revision| revision.number);
        latest.map(|revision| revision.name.as_str())
    }

    /// Number of a revision; the largest there is for one that is not known.
    pub fn number(&self, name: &str) -> i64 {
        if name == self.target.name {
            return self.target.number;
        }
        let stored = self.stored.iter().find(|revision| revision.name == name);
        stored.map_or(i64::MAX, |revision| revision.number)
    }

    /// What is to be written before pods of the target are made.
    pub fn write(&self) -> Option<(Write, &Revision)> {
        self.write.map(|write| (write, &self.target))
    }

    /// The roles that are asked for.
    pub fn target_template(&self) -> &Template {
        &self.target.template
    }

    /// The roles of a revision as they were stored; `None` where it is not known any more.
    pub fn stored_template(&self, name: &str) -> Option<&Template> {
        let stored = self.stored.iter().find(|revision| revision.name == name);
        stored.map(|revision| &revision.template)
    }

    /// The roles that pods of a revision are made from: the present ones for the target.
    pub fn template(&self, name: &str) -> Option<&Template> {
        if name == self.target.name {
            return Some(&self.target.template);
        }
        self.stored_template(name)
    }

    /// Hash of a role of the target.
    pub fn role_hash(&self, role: &str) -> Option<&str> {
        self.hashes.get(role).map(String::as_str)
    }

    /// Whether a pod is as the target would make it; `None` where nobody can tell, because its revision is lost and it says nothing
    /// of its templates.
    pub fn is_current(&self, pod: &Pod) -> Option<bool> {
        if pod.revision == self.target.name {
            return Some(true);
        }
        if self.target.template.role(&pod.role).is_none() {
            return Some(false);
        }
        if let Some(roles) = self.current.get(pod.revision.as_str()) {
            return Some(roles.contains(&pod.role));
        }
        let hash = pod.role_hash.as_deref()?;
        let adopted = self.target.aliases.get(&pod.role);
        Some(Some(hash) == self.role_hash(&pod.role) || adopted.is_some_and(|known| known.contains(hash)))
    }

    /// Stored revisions that may go: neither the target nor one that a pod is of, nor `current`, nor among the latest of the rest.
    pub fn superfluous(&self, current: Option<&str>, pods: &[&Pod]) -> Vec<&'a Revision> {
        let live: BTreeSet<&str> = pods.iter().map(|pod| pod.revision.as_str()).collect();
        let mut rest: Vec<&'a Revision> = self
            .stored
            .iter()
            .copied()
            .filter(|revision| {
                let name = revision.name.as_str();
                name != self.target.name && Some(name) != current && !live.contains(name)
            })
            .collect();
        rest.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        rest.split_off(rest.len().min(HISTORY))
    }
}

/// The stored revision that the roles are of; the one that the status names, if there are several.
fn known<'a, 'b>(
    serving: &ModelServing,
    stored: &'b [&'a Revision],
    wanted: &Wanted,
) -> Option<&'b &'a Revision> {
    let named = serving
        .status
        .as_ref()
        .and_then(|status| status.update_revision.as_deref());
    stored
        .iter()
        .filter(|revision| revision.fingerprint == *wanted.fingerprint(revision.writing))
        .max_by_key(|revision| (named == Some(revision.name.as_str()), revision.number))
}

/// A revision that is not stored yet.
fn new(
    serving: &ModelServing,
    stored: &[&Revision],
    wanted: &Wanted,
    number: i64,
    pods: &[&Pod],
) -> Revision {
    let name = serving.metadata.name.as_deref().unwrap_or_default();
    let is_free = |revision: &str| stored.iter().all(|stored| stored.name != revision);
    let adopted = adopted(serving).filter(|revision| is_free(revision));
    let aliases = adopted
        .as_ref()
        .map(|_| hashes(serving, &wanted.template, stored, pods))
        .unwrap_or_default();
    let revision = adopted.unwrap_or_else(|| {
        (0..)
            .map(|collisions| wanted.template.hash(collisions))
            .find(|hash| is_free(hash))
            .unwrap_or_default()
    });
    Revision {
        object: Serving(name).revision(&revision),
        name: revision,
        number,
        template: wanted.template.clone(),
        owner: serving.metadata.uid.clone(),
        writing: Writing::Exact,
        fingerprint: wanted.exact.clone(),
        aliases,
    }
}

/// The revision that another controller has given to the spec as it is now, without leaving it in a ControllerRevision. (The
/// reference's does so after a rollout by roles.)
fn adopted(serving: &ModelServing) -> Option<String> {
    let status = serving.status.as_ref()?;
    let is_of_now =
        status.observed_generation.is_some() && status.observed_generation == serving.metadata.generation;
    let revision = status
        .update_revision
        .clone()
        .filter(|revision| !revision.is_empty());
    revision.filter(|_| is_of_now)
}

/// Role hashes of pods whose revision is lost, where the status says that all of them are of the spec as it is now.
fn hashes(
    serving: &ModelServing,
    wanted: &Template,
    stored: &[&Revision],
    pods: &[&Pod],
) -> BTreeMap<String, BTreeSet<String>> {
    let status = serving.status.clone().unwrap_or_default();
    let all_are_updated = status.updated_replicas == status.replicas;
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for pod in pods {
        let is_lost = stored.iter().all(|revision| revision.name != pod.revision);
        if let Some(hash) = pod
            .role_hash
            .as_ref()
            .filter(|_| all_are_updated && is_lost && wanted.role(&pod.role).is_some())
        {
            all.entry(pod.role.clone()).or_default().insert(hash.clone());
        }
    }
    all
}

#[cfg(test)]
mod tests;
