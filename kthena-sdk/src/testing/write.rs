//! Writes, as the API server carries them out.

use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::merge;
use super::refusal::Refusal;
use super::request::{Request, Verb};
use super::selector::Filter;
use super::store::{Place, Store};

/// How long a pod has to end, in seconds, unless it says so itself.
const GRACE: i64 = 30;
/// What only the API server writes.
const SYSTEM: [&str; 7] = [
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

type Answer = Result<(u16, Value), Refusal>;

impl Store {
    /// Does what a request says that changes something.
    pub(super) fn write(&mut self, request: &Request) -> Answer {
        if !matches!(request.subresource.as_deref(), None | Some("status")) {
            return Err(Refusal::not_found(format!("{request} is not played")));
        }
        match request.verb {
            Verb::Create => self.create(request),
            Verb::Update => self.update(request),
            Verb::Patch => self.patch(request),
            Verb::Delete => self.delete(request),
            Verb::DeleteCollection => self.delete_collection(request),
            Verb::Get | Verb::List | Verb::Watch => Err(Refusal::bad_request("this changes nothing")),
        }
    }

    fn create(&mut self, request: &Request) -> Answer {
        let mut object = request.body.clone();
        let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
        let place = match (&request.name, prefix) {
            (None, prefix) if !prefix.is_empty() => {
                let name = format!("{prefix}{:05x}", self.serial());
                let named = Request {
                    name: Some(name),
                    ..request.clone()
                };
                Place::of(&named)?
            }
            _ => Place::of(request)?,
        };
        if self.get(&place).is_some() {
            let message = format!("{} {:?} already exists", place.resource, place.name);
            return Err(Refusal::already_exists(message));
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("status");
        }
        let object = self.begin(&place, object)?;
        if request.is_dry() {
            return Ok((201, object));
        }
        Ok((201, Value::clone(&self.put(&place, object))))
    }

    /// An object as it is stored first.
    pub(super) fn begin(&mut self, place: &Place, mut object: Value) -> Result<Value, Refusal> {
        let is_typed = object["kind"].is_string() && object["apiVersion"].is_string();
        if !is_typed {
            return Err(Refusal::bad_request("kind and apiVersion must be given"));
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        if !namespace.is_empty() && namespace != place.namespace {
            return Err(Refusal::bad_request("the namespace is not that of the request"));
        }
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        let uid = format!("00000000-0000-4000-8000-{:012x}", self.serial());
        let metadata = &mut object["metadata"];
        for key in SYSTEM.iter().chain(&["managedFields", "selfLink"]) {
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.remove(*key);
            }
        }
        metadata["name"] = place.name.clone().into();
        if !place.namespace.is_empty() {
            metadata["namespace"] = place.namespace.clone().into();
        }
        metadata["uid"] = uid.into();
        metadata["generation"] = 1.into();
        metadata["creationTimestamp"] = now().into();
        if place.is_pod() && object["status"].is_null() {
            object["status"] = json!({ "phase": "Pending" });
        }
        Ok(object)
    }

    fn update(&mut self, request: &Request) -> Answer {
        let place = Place::of(request)?;
        let old = self.found(&place)?;
        let name = request.body["metadata"]["name"].as_str();
        if name.is_some_and(|name| name != place.name) {
            return Err(Refusal::bad_request("the name is not that of the request"));
        }
        let new = next(&old, request.body.clone(), request.subresource.as_deref())?;
        self.change(request, &place, new)
    }

    fn patch(&mut self, request: &Request) -> Answer {
        let place = Place::of(request)?;
        let kind = request.content_type.split(';').next().unwrap_or_default();
        if kind == "application/apply-patch+yaml" {
            return self.apply(request, place);
        }
        let old = self.found(&place)?;
        let mut new = Value::clone(&old);
        match kind {
            "application/merge-patch+json" => json_patch::merge(&mut new, &request.body),
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_value(request.body.clone())
                    .map_err(|error| Refusal::bad_request(error.to_string()))?;
                json_patch::patch(&mut new, &patch).map_err(|error| Refusal::invalid(error.to_string()))?;
            }
            other => return Err(Refusal::unsupported(other)),
        }
        let new = next(&old, new, request.subresource.as_deref())?;
        self.change(request, &place, new)
    }

    /// Server-side apply: what the manager applied before and does not any more goes, everything else is merged.
    fn apply(&mut self, request: &Request, place: Place) -> Answer {
        let Some(manager) = request.parameter("fieldManager") else {
            return Err(Refusal::invalid(
                "fieldManager: Required value: is required for apply patch",
            ));
        };
        let key = (place.clone(), manager.to_owned(), request.subresource.clone());
        let mut applied = request.body.clone();
        // A precondition, which nobody owns.
        let version = applied["metadata"]
            .as_object_mut()
            .and_then(|it| it.remove("resourceVersion"));
        let (code, new) = match self.get(&place).cloned() {
            None if request.subresource.is_some() => return Err(place.missing()),
            None => {
                let mut object = applied.clone();
                if let Some(object) = object.as_object_mut() {
                    object.remove("status");
                }
                (201, self.begin(&place, object)?)
            }
            Some(old) => {
                let mut new = Value::clone(&old);
                if let Some(before) = self.applied.get(&key) {
                    merge::drop_left_out(&mut new, before, &applied);
                }
                merge::apply(&mut new, &applied);
                new["metadata"]["resourceVersion"] = version.unwrap_or(Value::Null);
                (200, next(&old, new, request.subresource.as_deref())?)
            }
        };
        let (_, stored) = self.change(request, &place, new)?;
        if !request.is_dry() {
            self.applied.insert(key, applied);
        }
        Ok((code, stored))
    }

    fn change(&mut self, request: &Request, place: &Place, new: Value) -> Answer {
        if request.is_dry() {
            return Ok((200, new));
        }
        Ok((200, Value::clone(&self.put(place, new))))
    }

    fn delete(&mut self, request: &Request) -> Answer {
        let place = Place::of(request)?;
        let old = self.found(&place)?;
        let wanted = &request.body["preconditions"];
        for member in ["uid", "resourceVersion"] {
            if !wanted[member].is_null() && wanted[member] != old["metadata"][member] {
                return Err(Refusal::conflict(format!(
                    "the precondition on {member} does not hold"
                )));
            }
        }
        if request.is_dry() {
            return Ok((200, Value::clone(&old)));
        }
        if request.body["propagationPolicy"] == "Orphan" {
            self.orphan(old["metadata"]["uid"].as_str().unwrap_or_default());
        }
        let grace = request.body["gracePeriodSeconds"].as_i64();
        Ok((200, self.end(&place, grace)))
    }

    fn delete_collection(&mut self, request: &Request) -> Answer {
        let filter = Filter::of(request)?;
        let all = self.all().filter(|(place, object)| filter.takes(place, object));
        let all: Vec<Place> = all.map(|(place, _)| place.clone()).collect();
        let grace = request.body["gracePeriodSeconds"].as_i64();
        let is_dry = request.is_dry();
        let going = |place: &Place| {
            if is_dry {
                Value::Null
            } else {
                self.end(place, grace)
            }
        };
        let items: Vec<Value> = all.iter().map(going).collect();
        let version = self.version.to_string();
        let list = json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": version }, "items": items });
        Ok((200, list))
    }

    /// Begins the end of an object: it goes at once unless a finalizer or a kubelet holds it. Returns how it is then, or last was.
    pub(super) fn end(&mut self, place: &Place, grace: Option<i64>) -> Value {
        let Some(old) = self.get(place).cloned() else {
            return Value::Null;
        };
        let on_node = place.is_pod()
            && old["spec"]["nodeName"]
                .as_str()
                .is_some_and(|node| !node.is_empty());
        let has_ended = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
        let own = old["spec"]["terminationGracePeriodSeconds"].as_i64();
        let grace = match on_node && !has_ended {
            true => grace.or(own).unwrap_or(GRACE),
            false => 0,
        };
        let mut new = Value::clone(&old);
        let metadata = &mut new["metadata"];
        if metadata["deletionTimestamp"].is_null() {
            metadata["deletionTimestamp"] = at(grace).into();
            metadata["generation"] = (metadata["generation"].as_i64().unwrap_or(0) + 1).into();
        }
        let earlier = metadata["deletionGracePeriodSeconds"].as_i64();
        metadata["deletionGracePeriodSeconds"] = earlier.map_or(grace, |earlier| earlier.min(grace)).into();
        Value::clone(&self.put(place, new))
    }

    fn found(&self, place: &Place) -> Result<Arc<Value>, Refusal> {
        self.get(place).cloned().ok_or_else(|| place.missing())
    }
}

/// What comes of an object that is there and one that is to take its place.
fn next(old: &Value, mut new: Value, subresource: Option<&str>) -> Result<Value, Refusal> {
    for member in ["resourceVersion", "uid"] {
        let wanted = &new["metadata"][member];
        let is_given = wanted.as_str().is_some_and(|it| !it.is_empty());
        if is_given && *wanted != old["metadata"][member] {
            let message =
                "the object has been modified; please apply your changes to the latest version and try again";
            return Err(Refusal::conflict(message));
        }
    }
    if subresource == Some("status") {
        let mut whole = old.clone();
        move_member(&mut whole, "status", new.get_mut("status").map(Value::take));
        return Ok(whole);
    }
    move_member(&mut new, "status", old.get("status").cloned());
    if !new["metadata"].is_object() {
        return Err(Refusal::bad_request("metadata must be an object"));
    }
    for key in SYSTEM {
        let kept = old["metadata"].get(key).cloned();
        move_member(&mut new["metadata"], key, kept);
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    if asked(old) != asked(&new) {
        let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
        new["metadata"]["generation"] = (generation + 1).into();
    }
    Ok(new)
}

fn move_member(object: &mut Value, key: &str, value: Option<Value>) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) if !value.is_null() => drop(object.insert(key.to_owned(), value)),
        _ => drop(object.remove(key)),
    }
}

/// What its writers ask for.
fn asked(object: &Value) -> Map<String, Value> {
    let mut members = object.as_object().cloned().unwrap_or_default();
    members.retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    members
}

fn now() -> String {
    at(0)
}

/// So many seconds from now, as Kubernetes writes times.
fn at(seconds: i64) -> String {
    let now = Timestamp::now();
    let then = now.saturating_add(SignedDuration::from_secs(seconds));
    then.unwrap_or(now).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
