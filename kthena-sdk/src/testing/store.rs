//! What is stored, and how it came to be so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::Request;

/// Where an object is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) resource: String,
    /// Empty for kinds without.
    pub(super) namespace: String,
    pub(super) name: String,
}

/// One version of what is stored.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) version: u64,
    pub(super) place: Place,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
}

/// All objects.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Place, Arc<Value>>,
    /// Changes after the version `compacted`.
    pub(super) history: Vec<Change>,
    pub(super) version: u64,
    pub(super) compacted: u64,
    /// Numbers that were given out, for what must be unique.
    serial: u64,
    /// `apiVersion` and `kind` by group and resource, learned from objects.
    kinds: HashMap<(String, String), (Value, Value)>,
    /// What was applied last, by field manager.
    pub(super) applied: HashMap<(Place, String, Option<String>), Value>,
}

impl Place {
    pub(super) fn of(request: &Request) -> Result<Self, Refusal> {
        let name = request.name.clone();
        Ok(Self {
            group: request.group.clone(),
            resource: request.resource.clone(),
            namespace: request.namespace.clone().unwrap_or_default(),
            name: name.ok_or_else(|| {
                Refusal::invalid("metadata.name: Required value: name or generateName is required")
            })?,
        })
    }

    pub(super) fn is_pod(&self) -> bool {
        self.group.is_empty() && self.resource == "pods"
    }

    pub(super) fn missing(&self) -> Refusal {
        Refusal::not_found(format!("{} {:?} not found", self.resource, self.name))
    }
}

impl Store {
    pub(super) fn get(&self, place: &Place) -> Option<&Arc<Value>> {
        self.objects.get(place)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Place, &Arc<Value>)> {
        self.objects.iter()
    }

    /// A number that was not given out before.
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// `apiVersion` and `kind` of what is at a place, as far as that is known.
    pub(super) fn kind(&self, group: &str, resource: &str) -> (Value, Value) {
        let known = self.kinds.get(&(group.to_owned(), resource.to_owned()));
        known.cloned().unwrap_or_else(|| (json!("v1"), json!("Unknown")))
    }

    /// Stores an object. What asked to be gone and is held by nothing any more goes. What is as before stays of the same version.
    pub(super) fn put(&mut self, place: &Place, mut object: Value) -> Arc<Value> {
        let before = self.objects.get(place).cloned();
        if let Some(before) = &before {
            object["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            if object == **before {
                return before.clone();
            }
        }
        let kind = (object["apiVersion"].clone(), object["kind"].clone());
        self.kinds
            .insert((place.group.clone(), place.resource.clone()), kind);
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let metadata = &object["metadata"];
        let is_held = metadata["finalizers"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let is_graced = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0;
        let is_gone = !metadata["deletionTimestamp"].is_null() && !is_held && !is_graced;
        let object = Arc::new(object);
        let after = (!is_gone).then(|| object.clone());
        match &after {
            Some(after) => drop(self.objects.insert(place.clone(), after.clone())),
            None => self.forget(place),
        }
        self.remember(place, before, after);
        object
    }

    /// Removes an object, whatever holds it. Returns how it last was.
    pub(super) fn remove(&mut self, place: &Place) -> Option<Arc<Value>> {
        let before = self.objects.get(place)?.clone();
        self.forget(place);
        self.version += 1;
        self.remember(place, Some(before.clone()), None);
        Some(before)
    }

    fn forget(&mut self, place: &Place) {
        self.objects.remove(place);
        self.applied.retain(|(applied, ..), _| applied != place);
    }

    fn remember(&mut self, place: &Place, before: Option<Arc<Value>>, after: Option<Arc<Value>>) {
        self.history.push(Change {
            version: self.version,
            place: place.clone(),
            before,
            after,
        });
    }

    /// Forgets how things came to be: only watches from the present version on go on.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
        self.history.clear();
    }
}
