//! What an operator's account must be allowed to do.
//!
//! Each part of this crate that talks to the API server says beside its code what it asks there; these functions are called `rights`. An
//! operator adds those of the parts that it embeds to its own, and makes a ClusterRole and a Role of the sum:
//!
//! ```
//! # #[cfg(all(feature = "leader", feature = "runtime"))] {
//! use kthena_sdk::k8s_openapi::api::core::v1::{ConfigMap, Secret};
//! use kthena_sdk::rbac::{Rights, Rule, Verb};
//! use kthena_sdk::{leader, model_serving, watch};
//!
//! let rights = model_serving::controller::rights()
//!     .and(leader::rights("my-operator"))
//!     // What it does itself, in all namespaces and in its own.
//!     .and(Rights::everywhere([watch::rule::<ConfigMap>()]))
//!     .and(Rights::own([Rule::of::<Secret>([Verb::Get]).named(["my-operator"])]));
//!
//! let role = rights.role("my-operator");
//! assert_eq!(role.rules.unwrap()[0].resources.as_deref(), Some(&["secrets".to_owned()][..]));
//! assert!(rights.cluster_role("my-operator").rules.unwrap().len() > 5);
//! assert!(rights.allow_everywhere("", "configmaps", Verb::Watch, None));
//! assert!(rights.allow_own("", "secrets", Verb::Get, Some("my-operator")));
//! // As they stand in a role, one by one.
//! assert_eq!(rights.rules_own()[0].resource, "secrets");
//! let verbs = &rights.rules_everywhere()[0].verbs;
//! assert!(verbs.iter().all(|verb| Verb::ALL.contains(verb) && !verb.as_str().is_empty()));
//! # }
//! ```
//!
//! Kthena's chart is made in this way, and the tests run under exactly that account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

/// What is done with a resource, as RBAC calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Reads one.
    Get,
    /// Reads all, or those that a selector takes.
    List,
    /// Follows them.
    Watch,
    /// Makes one; also by server-side apply where there is none, together with [`Verb::Patch`].
    Create,
    /// Replaces one.
    Update,
    /// Changes one, or applies it.
    Patch,
    /// Deletes one.
    Delete,
    /// Deletes those that a selector takes.
    DeleteCollection,
}

/// That some things may be done with a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The API group; empty for the core.
    pub group: String,
    /// The resource in the plural, as in `pods`, or a subresource of it, as in `pods/status`.
    pub resource: String,
    /// What may be done.
    pub verbs: BTreeSet<Verb>,
    /// The objects with which it may be done; empty for all. What cannot be limited to names, because the request has none, is
    /// allowed for all.
    pub names: BTreeSet<String>,
}

/// What an account may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    everywhere: Vec<Rule>,
    own: Vec<Rule>,
}

// === impl Verb ===

impl Verb {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Delete,
        Self::DeleteCollection,
    ];

    /// As it stands in a role, and in an audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether requests name the object. Those that list and watch do so by a field selector.
    const fn has_name(self) -> bool {
        !matches!(self, Self::Create | Self::DeleteCollection)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Rule ===

impl Rule {
    /// That these things may be done with a kind.
    ///
    /// ```
    /// use kthena_sdk::api::ModelServing;
    /// use kthena_sdk::rbac::{Rule, Verb};
    ///
    /// let rule = Rule::of::<ModelServing>([Verb::Patch]).subresource("status");
    /// assert_eq!(rule.resource, "modelservings/status");
    /// ```
    pub fn of<K: Resource<DynamicType = ()>>(verbs: impl IntoIterator<Item = Verb>) -> Self {
        Self {
            group: K::group(&()).into_owned(),
            resource: K::plural(&()).into_owned(),
            verbs: verbs.into_iter().collect(),
            names: BTreeSet::new(),
        }
    }

    /// The same for a subresource, such as `status`.
    #[must_use]
    pub fn subresource(mut self, name: &str) -> Self {
        self.resource = format!("{}/{name}", self.resource);
        self
    }

    /// The same for objects of these names alone; for none where there are no names. Making objects, and deleting them by a selector,
    /// stays allowed for all.
    #[must_use]
    pub fn named<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(names.into_iter().map(Into::into));
        if self.names.is_empty() {
            self.verbs.retain(|verb| !verb.has_name());
        }
        self
    }

    fn allows(&self, group: &str, resource: &str, verb: Verb, name: Option<&str>) -> bool {
        let is_named = || name.is_some_and(|name| self.names.contains(name));
        (self.group == group && self.resource == resource && self.verbs.contains(&verb))
            && (self.names.is_empty() || is_named())
    }
}

impl From<Rule> for PolicyRule {
    fn from(rule: Rule) -> Self {
        let names: Vec<String> = rule.names.into_iter().collect();
        Self {
            api_groups: Some(vec![rule.group]),
            resources: Some(vec![rule.resource]),
            resource_names: (!names.is_empty()).then_some(names),
            verbs: rule.verbs.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }
}

// === impl Rights ===

impl Rights {
    /// In all namespaces, and with what has none.
    pub fn everywhere(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            everywhere: merged(rules),
            own: Vec::new(),
        }
    }

    /// In the operator's own namespace.
    pub fn own(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self {
            everywhere: Vec::new(),
            own: merged(rules),
        }
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            everywhere: merged(self.everywhere.into_iter().chain(other.everywhere)),
            own: merged(self.own.into_iter().chain(other.own)),
        }
    }

    /// What is allowed in all namespaces: one rule for each resource, and more where names matter, in the order of groups and resources.
    #[must_use]
    pub fn rules_everywhere(&self) -> &[Rule] {
        &self.everywhere
    }

    /// What is allowed in the operator's own namespace besides.
    #[must_use]
    pub fn rules_own(&self) -> &[Rule] {
        &self.own
    }

    /// Whether something may be done in all namespaces.
    #[must_use]
    pub fn allow_everywhere(&self, group: &str, resource: &str, verb: Verb, name: Option<&str>) -> bool {
        (self.everywhere.iter()).any(|rule| rule.allows(group, resource, verb, name))
    }

    /// Whether something may be done in the operator's own namespace.
    #[must_use]
    pub fn allow_own(&self, group: &str, resource: &str, verb: Verb, name: Option<&str>) -> bool {
        let mut own = self.own.iter();
        own.any(|rule| rule.allows(group, resource, verb, name))
            || self.allow_everywhere(group, resource, verb, name)
    }

    /// The role for all namespaces, to be bound by a ClusterRoleBinding.
    #[must_use]
    pub fn cluster_role(&self, name: &str) -> ClusterRole {
        ClusterRole {
            metadata: called(name),
            rules: Some(policy(&self.everywhere)),
            ..ClusterRole::default()
        }
    }

    /// The role for the operator's own namespace, to be made and bound there.
    #[must_use]
    pub fn role(&self, name: &str) -> Role {
        Role {
            metadata: called(name),
            rules: Some(policy(&self.own)),
        }
    }
}

impl FromIterator<Self> for Rights {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        all.into_iter().fold(Self::default(), Self::and)
    }
}

fn called(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn policy(rules: &[Rule]) -> Vec<PolicyRule> {
    rules.iter().cloned().map(PolicyRule::from).collect()
}

/// The same rights with as few rules as resources and names take, in order.
fn merged(rules: impl IntoIterator<Item = Rule>) -> Vec<Rule> {
    // Verbs by name; without a name for all objects.
    type Names = BTreeMap<Option<String>, BTreeSet<Verb>>;
    let mut resources = BTreeMap::<(String, String), Names>::new();
    for rule in rules {
        let of_resource = resources.entry((rule.group, rule.resource)).or_default();
        for verb in rule.verbs {
            if rule.names.is_empty() || !verb.has_name() {
                of_resource.entry(None).or_default().insert(verb);
                continue;
            }
            for name in &rule.names {
                of_resource.entry(Some(name.clone())).or_default().insert(verb);
            }
        }
    }
    let mut merged = Vec::new();
    for ((group, resource), mut names) in resources {
        let rule = |verbs, names| Rule {
            group: group.clone(),
            resource: resource.clone(),
            verbs,
            names,
        };
        let for_all = names.remove(&None).unwrap_or_default();
        let mut named = BTreeMap::<BTreeSet<Verb>, BTreeSet<String>>::new();
        for (name, verbs) in names {
            let more: BTreeSet<Verb> = verbs.difference(&for_all).copied().collect();
            named.entry(more).or_default().extend(name);
        }
        let all = std::iter::once((for_all, BTreeSet::new())).chain(named);
        let some = all.filter(|(verbs, _)| !verbs.is_empty());
        merged.extend(some.map(|(verbs, names)| rule(verbs, names)));
    }
    merged
}

#[cfg(test)]
mod tests;
