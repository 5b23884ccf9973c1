//! The models an engine serves: the base model, its aliases, and LoRA adapters that come and go.

use crate::config::Config;
use crate::http::date;

/// What is loaded.
#[derive(Debug)]
pub(crate) struct Models {
    names: Vec<String>,
    root: String,
    created: u64,
    adapters: Vec<Adapter>,
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adapter {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) created: u64,
}

/// A model that a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Served {
    /// The name that answers carry.
    pub(crate) name: String,
    pub(crate) adapter: Option<String>,
}

impl Models {
    pub(crate) fn new(config: &Config) -> Self {
        let created = date::unix_now();
        let adapters = config.lora.iter().map(|written| {
            let (name, path) = written.split_once('=').unwrap_or((written, ""));
            let path = if path.is_empty() {
                format!("./{name}")
            } else {
                path.to_owned()
            };
            Adapter {
                name: name.to_owned(),
                path,
                created,
            }
        });
        let root = config
            .model_root
            .clone()
            .unwrap_or_else(|| format!("./{}", config.model_name()));
        Self {
            names: config.model.clone(),
            root,
            created,
            adapters: adapters.collect(),
        }
    }

    /// The model of a name; without a name, the base model.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<Served> {
        let base = || self.names.first().cloned().unwrap_or_default();
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Some(Served {
                name: base(),
                adapter: None,
            });
        };
        if self.names.iter().any(|known| known == name) {
            // Whatever alias was asked for, answers carry the first name.
            return Some(Served {
                name: base(),
                adapter: None,
            });
        }
        let adapter = self.adapters.iter().find(|adapter| adapter.name == name)?;
        Some(Served {
            name: adapter.name.clone(),
            adapter: Some(adapter.name.clone()),
        })
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    pub(crate) fn adapters(&self) -> &[Adapter] {
        &self.adapters
    }

    /// Loads an adapter; false if the name is taken.
    pub(crate) fn load(&mut self, name: &str, path: &str) -> bool {
        if self.find(Some(name)).is_some() {
            return false;
        }
        let adapter = Adapter {
            name: name.to_owned(),
            path: path.to_owned(),
            created: date::unix_now(),
        };
        self.adapters.push(adapter);
        true
    }

    /// Unloads an adapter; false if it is not loaded.
    pub(crate) fn unload(&mut self, name: &str) -> bool {
        let before = self.adapters.len();
        self.adapters.retain(|adapter| adapter.name != name);
        self.adapters.len() != before
    }
}
