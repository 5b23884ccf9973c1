//! Plugins: steps that adjust a pod after it was built and before it is made.
//!
//! A ModelServing names them in `spec.plugins`, in the order in which they are to work; a [`Registry`] knows how each is made from its
//! settings. An operator adds its own:
//!
//! ```
//! use kthena_sdk::model_serving::plugin::{BoxError, Plugin, Registry};
//! use kthena_sdk::model_serving::pod::Place;
//! use serde_json::Value;
//!
//! struct Zone(String);
//!
//! impl Plugin for Zone {
//!     fn on_pod_create(&self, _place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError> {
//!         pod["spec"]["nodeSelector"]["topology.kubernetes.io/zone"] = self.0.clone().into();
//!         Ok(())
//!     }
//! }
//!
//! let plugins = Registry::built_in().with("zone", |settings| {
//!     let zone = settings["zone"].as_str().ok_or("zone is missing")?;
//!     Ok(Box::new(Zone(zone.to_owned())))
//! });
//! assert!(plugins.names().any(|name| name == "zone"));
//! ```

use std::collections::BTreeMap;
use std::fmt;

use kthena_api::field::{FieldError, FieldErrors, FieldPath};
use kthena_api::model_serving::{Plugin as Entry, PluginScope, PluginTarget, PluginType};
use kthena_api::{ModelServing, labels};
use serde_json::Value;

use super::metadata;
use super::pod::Place;
use crate::owner;

mod demo_pod_tweaks;
mod lws_standard_labels;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Adjusts pods.
pub trait Plugin: Send + Sync {
    /// Adjusts a pod that is about to be made: JSON, as it will be sent. What tells where the pod belongs (name, namespace, owner, the
    /// controller's own labels) has to stay.
    ///
    /// It is called once for each pod and attempt, and decides from what it is given alone: it is part of a plan, which does no I/O.
    ///
    /// # Errors
    ///
    /// Then neither this pod is made nor the others of its instance, and conditions and an event say why.
    fn on_pod_create(&self, place: &Place<'_>, pod: &mut Value) -> Result<(), BoxError>;
}

/// Makes a plugin from its settings, `null` where there are none.
pub type Factory = fn(&Value) -> Result<Box<dyn Plugin>, BoxError>;

/// Which plugins there are, by name.
#[derive(Debug, Clone)]
pub struct Registry(BTreeMap<String, Factory>);

/// Why a plugin cannot do its work.
///
/// ```
/// use kthena_sdk::api::model_serving::Plugin;
/// use kthena_sdk::model_serving::plugin::{Error, Registry};
///
/// let wanted = [Plugin { name: "nobody-knows".into(), ..Plugin::default() }];
/// assert!(matches!(Registry::built_in().chain(&wanted), Err(Error::Unknown { .. })));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is only one type, `BuiltIn`.
    #[error("plugin {plugin} has unsupported type {type_}")]
    Type {
        /// Name of the plugin.
        plugin: String,
        /// What was asked for.
        type_: String,
    },
    /// Nobody knows a plugin of this name.
    #[error("plugin {plugin} not registered")]
    Unknown {
        /// Name of the plugin.
        plugin: String,
    },
    /// Its settings make no sense.
    #[error("build plugin {plugin}: {source}")]
    Settings {
        /// Name of the plugin.
        plugin: String,
        /// Why.
        source: BoxError,
    },
    /// It could not adjust a pod.
    #[error("plugin {plugin} OnPodCreate: {source}")]
    Pod {
        /// Name of the plugin.
        plugin: String,
        /// Why.
        source: BoxError,
    },
}

impl Registry {
    /// No plugins.
    ///
    /// ```
    /// use kthena_sdk::model_serving::plugin::Registry;
    ///
    /// assert_eq!(Registry::empty().names().count(), 0);
    /// assert_eq!(Registry::built_in().names().count(), 2);
    /// ```
    pub const fn empty() -> Self {
        Self(BTreeMap::new())
    }

    /// The plugins that every Kthena controller has: `demo-pod-tweaks` and `lws-standard-labels`.
    pub fn built_in() -> Self {
        Self::empty()
            .with(demo_pod_tweaks::NAME, demo_pod_tweaks::new)
            .with(lws_standard_labels::NAME, lws_standard_labels::new)
    }

    /// The same and one more, which takes the place of another of its name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, factory: Factory) -> Self {
        self.0.insert(name.into(), factory);
        self
    }

    /// Names of all plugins, in the order of their text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Makes the plugins that are asked for, in their order.
    ///
    /// # Errors
    ///
    /// Where one of them is not known, or its settings make no sense.
    pub fn chain<'a>(&self, wanted: &'a [Entry]) -> Result<Chain<'a>, Error> {
        let links = wanted.iter().map(|entry| {
            let plugin = self.make(entry)?;
            Ok(Link { entry, plugin })
        });
        Ok(Chain(links.collect::<Result<_, _>>()?))
    }

    fn make(&self, entry: &Entry) -> Result<Box<dyn Plugin>, Error> {
        let plugin = || entry.name.clone();
        if let Some(type_) = entry
            .type_
            .as_ref()
            .filter(|type_| **type_ != PluginType::BuiltIn)
        {
            let type_ = type_.as_str().to_owned();
            return Err(Error::Type {
                plugin: plugin(),
                type_,
            });
        }
        let factory = self
            .0
            .get(&entry.name)
            .ok_or_else(|| Error::Unknown { plugin: plugin() })?;
        let settings = entry.config.as_ref().unwrap_or(&Value::Null);
        factory(settings).map_err(|source| Error::Settings {
            plugin: plugin(),
            source,
        })
    }

    /// What is wrong with the plugins of a ModelServing, for its admission.
    ///
    /// ```
    /// use kthena_sdk::api::model_serving::Plugin;
    /// use kthena_sdk::api::{ModelServing, ModelServingSpec};
    /// use kthena_sdk::model_serving::plugin::Registry;
    ///
    /// let plugins = vec![Plugin { name: "nobody-knows".into(), ..Plugin::default() }];
    /// let serving = ModelServing::new("llama", ModelServingSpec { plugins, ..ModelServingSpec::default() });
    /// assert_eq!(Registry::built_in().validate(&serving).len(), 1);
    /// ```
    pub fn validate(&self, serving: &ModelServing) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("plugins");
        let mut errors = FieldErrors::new();
        for (index, entry) in serving.spec.plugins.iter().enumerate() {
            let path = path.index(index);
            match self.make(entry) {
                Ok(_) | Err(Error::Pod { .. }) => {}
                // Said by the validation of the kind already.
                Err(Error::Type { .. }) => {}
                Err(Error::Unknown { plugin }) => {
                    let known: Vec<&str> = self.names().collect();
                    errors.push(FieldError::unsupported(path.child("name"), plugin, &known));
                }
                Err(Error::Settings { source, .. }) => {
                    let settings = entry.config.clone().unwrap_or_default();
                    errors.invalid(path.child("config"), settings, source.to_string());
                }
            }
        }
        errors.into_vec()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::built_in()
    }
}

/// The plugins of a ModelServing, in the order in which they work.
///
/// ```
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::api::model_serving::{Plugin, Role};
/// use kthena_sdk::model_serving::plugin::{Chain, Registry};
/// use kthena_sdk::model_serving::pod::Place;
///
/// let config = Some(serde_json::json!({ "runtimeClassName": "gvisor" }));
/// let wanted = [Plugin { name: "demo-pod-tweaks".into(), config, ..Plugin::default() }];
/// let chain: Chain<'_> = Registry::built_in().chain(&wanted)?;
///
/// let serving = ModelServing::new("llama", Default::default());
/// let role = Role { name: "decode".into(), ..Role::default() };
/// let place = Place {
///     serving: &serving, group: 0, role: &role, instance: 0, index: 0,
///     revision: "r", role_hash: "h", in_pod_group: false, is_surge: false,
/// };
/// let mut pod = place.pod();
/// chain.adjust(&place, &mut pod)?;
/// assert_eq!(pod["spec"]["runtimeClassName"], "gvisor");
/// # Ok::<(), kthena_sdk::model_serving::plugin::Error>(())
/// ```
pub struct Chain<'a>(Vec<Link<'a>>);

struct Link<'a> {
    entry: &'a Entry,
    plugin: Box<dyn Plugin>,
}

impl Chain<'_> {
    /// Lets all plugins that are meant for a pod adjust it.
    ///
    /// # Errors
    ///
    /// The first failure.
    pub fn adjust(&self, place: &Place<'_>, pod: &mut Value) -> Result<(), Error> {
        for Link { entry, plugin } in &self.0 {
            if !is_meant(entry.scope.as_ref(), place) {
                continue;
            }
            let adjusted = plugin
                .on_pod_create(place, pod)
                .and_then(|()| check_identity(place, pod));
            adjusted.map_err(|source| Error::Pod {
                plugin: entry.name.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|link| &link.entry.name))
            .finish()
    }
}

/// Whether a plugin of this scope is meant for a pod.
fn is_meant(scope: Option<&PluginScope>, place: &Place<'_>) -> bool {
    let Some(scope) = scope else {
        return true;
    };
    let of_role = scope.roles.is_empty() || scope.roles.contains(&place.role.name);
    of_role
        && match &scope.target {
            None | Some(PluginTarget::All) => true,
            Some(PluginTarget::Entry) => place.is_entry(),
            Some(PluginTarget::Worker) => !place.is_entry(),
            // An empty text is no target; any other that is not known selects nothing.
            Some(other) => other.as_str().is_empty(),
        }
}

/// Refuses a pod of which one could not tell any more where it belongs: it would be made again and again.
fn check_identity(place: &Place<'_>, pod: &Value) -> Result<(), BoxError> {
    let metadata = &pod["metadata"];
    let is_same = |what: &str, is_same: bool| match is_same {
        true => Ok(()),
        false => Err(BoxError::from(format!(
            "metadata.{what} of the pod may not be changed"
        ))),
    };
    is_same("name", metadata["name"].as_str() == Some(&place.name()))?;
    is_same(
        "namespace",
        metadata["namespace"].as_str() == place.serving.metadata.namespace.as_deref(),
    )?;
    let owner = serde_json::json!([owner::reference(place.serving)]);
    is_same("ownerReferences", metadata["ownerReferences"] == owner)?;
    let mut own = metadata::of_instance(place.serving, place.group, &place.role.name, place.instance);
    own.insert(labels::REVISION.into(), place.revision.into());
    own.insert(labels::ROLE_TEMPLATE_HASH.into(), place.role_hash.into());
    for (key, value) in &own {
        is_same(
            &format!("labels[{key}]"),
            metadata["labels"][key].as_str() == Some(value),
        )?;
    }
    let entry = metadata["labels"].get(labels::ENTRY).is_some();
    is_same(&format!("labels[{}]", labels::ENTRY), entry == place.is_entry())
}

#[cfg(test)]
mod tests;
