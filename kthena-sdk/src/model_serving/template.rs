//! What pods are made from: the roles of one revision.

use std::collections::BTreeMap;

use kthena_api::ModelServingSpec;
use kthena_api::model_serving::Role;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128};

/// Letters of hashes: without vowels and look-alikes, as Kubernetes' own generated names.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of hashes.
const LENGTH: usize = 10;

/// The roles of a revision.
///
/// ```
/// use kthena_sdk::api::model_serving::Role;
/// use kthena_sdk::model_serving::Template;
///
/// let role = |replicas| Role { name: "decode".into(), replicas: Some(replicas), ..Role::default() };
/// let (one, two) = (Template(vec![role(1)]), Template(vec![role(2)]));
/// assert_eq!(one.hash(0), two.hash(0), "how many there are is not what they are made from");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Template(
    /// The roles, in their order.
    pub Vec<Role>,
);

/// What tells templates apart, role by role.
///
/// ```
/// use kthena_sdk::api::ModelServingSpec;
/// use kthena_sdk::api::model_serving::Role;
/// use kthena_sdk::model_serving::{InvalidData, Template, Writing, role_hash};
///
/// let mut spec = ModelServingSpec::default();
/// spec.template.roles = vec![Role { name: "decode".into(), ..Role::default() }];
/// let template = Template::of(&spec);
/// let again = Template::from_data(&template.to_data())?;
/// let (one, two) = (template.fingerprint(Writing::Exact), again.fingerprint(Writing::Exact));
/// assert!(one.has_same(&two, "decode") && !one.has_same(&two, "prefill"));
/// assert_eq!(role_hash(&template.0[0]), role_hash(&again.0[0]));
/// assert!(matches!(Template::from_data(&serde_json::Value::Null), Err(InvalidData::NoList)));
/// # Ok::<(), InvalidData>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint(Vec<(String, u128)>);

/// How a template was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// As the user wrote it.
    Exact,
    /// As the reference's controller writes it, with empty values of Go's types that nobody wrote, and quantities in another
    /// notation. Only values that are neither empty, zero nor false are compared.
    Loose,
}

/// Why the data of a ControllerRevision are no roles.
#[derive(Debug, thiserror::Error)]
pub enum InvalidData {
    /// Neither a list nor an object with one under `data`.
    #[error("the data hold no list of roles")]
    NoList,
    /// The list holds something else.
    #[error("the data hold something that is no role")]
    Role(#[source] serde_json::Error),
}

// === impl Template ===

impl Template {
    /// The roles as they are now.
    pub fn of(spec: &ModelServingSpec) -> Self {
        Self(spec.template.roles.clone())
    }

    /// Reads the data of a ControllerRevision: `{"data": [roles]}`, or the list alone.
    ///
    /// # Errors
    ///
    /// Where the data are something else.
    pub fn from_data(data: &Value) -> Result<Self, InvalidData> {
        let roles = data.get("data").unwrap_or(data);
        if !roles.is_array() {
            return Err(InvalidData::NoList);
        }
        Vec::deserialize(roles).map(Self).map_err(InvalidData::Role)
    }

    /// The data of a ControllerRevision.
    pub fn to_data(&self) -> Value {
        json!({ "data": self.0 })
    }

    /// The role of a name.
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.0.iter().find(|role| role.name == name)
    }

    /// The hash of everything that makes a difference to a pod, which names the revision. `collisions` tells templates apart
    /// whose hashes are equal.
    pub fn hash(&self, collisions: u32) -> String {
        hash(&self.canonical().to_string(), collisions)
    }

    /// What tells templates apart. Pods of templates with equal fingerprints are the same.
    pub fn fingerprint(&self, writing: Writing) -> Fingerprint {
        let of = |role: &Role| {
            let canonical = match writing {
                Writing::Exact => canonical(role),
                Writing::Loose => loose(&canonical(role)),
            };
            (role.name.clone(), print(&canonical.to_string()))
        };
        Fingerprint(self.0.iter().map(of).collect())
    }

    /// The fingerprint of what was written exactly, and the hash of each role, by its name.
    pub(super) fn prints(&self) -> (Fingerprint, BTreeMap<String, String>) {
        let (mut prints, mut hashes) = (Vec::new(), BTreeMap::new());
        for role in &self.0 {
            let text = canonical(role).to_string();
            prints.push((role.name.clone(), print(&text)));
            hashes.insert(role.name.clone(), hash(&text, 0));
        }
        (Fingerprint(prints), hashes)
    }

    fn canonical(&self) -> Value {
        self.0.iter().map(canonical).collect()
    }
}

/// The hash of everything that makes a difference to the pods of a role.
pub fn role_hash(role: &Role) -> String {
    hash(&canonical(role).to_string(), 0)
}

impl Fingerprint {
    /// Whether pods of this role are the same in both.
    pub fn has_same(&self, other: &Self, role: &str) -> bool {
        let find = |all: &Self| {
            all.0
                .iter()
                .find(|(name, _)| name == role)
                .map(|(_, print)| *print)
        };
        find(self).is_some_and(|own| find(other) == Some(own))
    }
}

/// A role without what says how many there are and how they are replaced; with its members sorted and nothing that is null.
fn canonical(role: &Role) -> Value {
    let mut role = role.clone();
    (role.replicas, role.max_unavailable, role.partition) = (None, None, None);
    role.worker_replicas = Some(role.effective_worker_replicas());
    let value = serde_json::to_value(&role).unwrap_or_default();
    without(value, Value::is_null)
}

/// Sorted, and without the members that are nothing.
fn without(value: Value, is_nothing: fn(&Value) -> bool) -> Value {
    match value {
        Value::Object(members) => {
            let mut kept: Vec<(String, Value)> = members
                .into_iter()
                .map(|(name, value)| (name, without(value, is_nothing)))
                .filter(|(_, value)| !is_nothing(value))
                .collect();
            kept.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(kept.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(|item| without(item, is_nothing)).collect(),
        other => other,
    }
}

fn loose(value: &Value) -> Value {
    fn is_empty(value: &Value) -> bool {
        match value {
            Value::Null | Value::Bool(false) => true,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(members) => members.is_empty(),
            Value::Bool(true) => false,
        }
    }
    without(in_numbers(value), is_empty)
}

/// Quantities as numbers, however they are written.
fn in_numbers(value: &Value) -> Value {
    const MAPS: [&str; 4] = ["requests", "limits", "overhead", "capacity"];
    const FIELDS: [&str; 2] = ["sizeLimit", "divisor"];
    fn number(value: &Value) -> Value {
        let quantity: Result<kthena_api::quantity::Quantity, _> = serde_json::from_value(value.clone());
        let amount = quantity.ok().and_then(|quantity| quantity.to_f64().ok());
        amount.map_or_else(|| value.clone(), Value::from)
    }
    match value {
        Value::Object(members) => {
            let convert = |(name, value): (&String, &Value)| {
                let value = match value {
                    Value::Object(amounts) if MAPS.contains(&name.as_str()) => amounts
                        .iter()
                        .map(|(name, amount)| (name.clone(), number(amount)))
                        .collect::<Map<_, _>>()
                        .into(),
                    value if FIELDS.contains(&name.as_str()) => number(value),
                    value => in_numbers(value),
                };
                (name.clone(), value)
            };
            Value::Object(members.iter().map(convert).collect())
        }
        Value::Array(items) => items.iter().map(in_numbers).collect(),
        other => other.clone(),
    }
}

fn print(text: &str) -> u128 {
    xxh3_128(text.as_bytes())
}

fn hash(text: &str, collisions: u32) -> String {
    let mut rest = xxh3_64_with_seed(text.as_bytes(), collisions.into());
    let mut letter = || {
        let letter = ALPHABET[(rest % 27) as usize];
        rest /= 27;
        char::from(letter)
    };
    (0..LENGTH).map(|_| letter()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(value: Value) -> Template {
        Template(serde_json::from_value(value).unwrap())
    }

    fn role(more: Value) -> Value {
        let mut role = json!({ "name": "decode", "entryTemplate": { "spec": { "containers": [{ "name": "engine", "image": "a" }] } } });
        let members = more.as_object().unwrap().clone();
        role.as_object_mut().unwrap().extend(members);
        role
    }

    fn same(one: &Template, other: &Template, writing: Writing) -> bool {
        one.fingerprint(writing) == other.fingerprint(writing)
    }

    #[track_caller]
    fn check(one: Value, other: Value, equal: bool) {
        let (one, other) = (roles(one), roles(other));
        let before = one.clone();
        assert_eq!(one.hash(0) == other.hash(0), equal);
        assert_eq!(same(&one, &other, Writing::Exact), equal);
        assert_eq!(one, before, "hashing changes nothing");
    }

    #[test]
    fn only_what_makes_a_difference_to_pods_counts() {
        let plain = || json!([role(json!({}))]);
        check(plain(), plain(), true);
        check(plain(), json!([role(json!({ "replicas": 3 }))]), true);
        check(
            plain(),
            json!([role(json!({ "maxUnavailable": "50%", "partition": 1 }))]),
            true,
        );
        check(plain(), json!([role(json!({ "workerReplicas": 0 }))]), true);
        check(plain(), json!([role(json!({ "workerReplicas": 1 }))]), false);
        check(plain(), json!([role(json!({ "name": "prefill" }))]), false);
        check(
            plain(),
            json!([role(json!({})), role(json!({ "name": "prefill" }))]),
            false,
        );
        check(
            json!([role(json!({})), role(json!({ "name": "prefill" }))]),
            json!([role(json!({ "name": "prefill" })), role(json!({}))]),
            false,
        );
        let image = json!({ "spec": { "containers": [{ "name": "engine", "image": "b" }] } });
        check(plain(), json!([role(json!({ "entryTemplate": image }))]), false);
    }

    #[test]
    fn the_hash_is_pinned_because_it_names_what_is_stored() {
        let template = roles(json!([role(json!({}))]));
        assert_eq!(
            (template.hash(0), template.hash(1), role_hash(&template.0[0])),
            ("gl9nx6xjvv".into(), "l5rtzmzttz".into(), "d84nf2q2mb".into())
        );
    }

    #[test]
    fn what_go_writes_of_the_same_roles_is_recognised() {
        let written = roles(json!([role(
            json!({ "entryTemplate": { "spec": { "containers": [{
            "name": "engine", "image": "a", "env": [{ "name": "X", "value": "" }],
            "resources": { "limits": { "cpu": 2, "memory": "1024Mi" } } }] } } })
        )]));
        let stored = json!({ "data": [role(json!({ "replicas": 2, "workerReplicas": 0, "maxUnavailable": 1, "entryTemplate": {
            "metadata": {}, "spec": { "containers": [{
            "name": "engine", "image": "a", "env": [{ "name": "X" }],
            "resources": { "limits": { "cpu": "2", "memory": "1Gi" } } }] } } }))] });
        let stored = Template::from_data(&stored).unwrap();
        assert!(!same(&written, &stored, Writing::Exact) && same(&written, &stored, Writing::Loose));
        let other = roles(json!([role(json!({}))]));
        assert!(!same(&other, &stored, Writing::Loose));
    }

    #[test]
    fn data_are_read_with_and_without_their_wrapper() {
        let template = roles(json!([role(json!({ "replicas": 2 }))]));
        assert_eq!(Template::from_data(&template.to_data()).unwrap(), template);
        let bare = template.to_data()["data"].clone();
        assert_eq!(Template::from_data(&bare).unwrap(), template);
        assert!(matches!(
            Template::from_data(&json!({ "roles": [] })),
            Err(InvalidData::NoList)
        ));
        assert!(matches!(
            Template::from_data(&json!([1])),
            Err(InvalidData::Role(_))
        ));
    }
}
