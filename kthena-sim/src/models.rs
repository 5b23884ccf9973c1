//! The models an engine serves: the base model, its aliases, and LoRA adapters that come and go.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

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

/// The adapters that sequences use, and those that sequences wait for.
#[derive(Debug, Default)]
pub(crate) struct Adapters {
    inner: Mutex<InUse>,
}

/// A sequence's use of an adapter.
pub(crate) struct Use {
    adapters: Arc<Adapters>,
    name: String,
    running: bool,
}

#[derive(Debug, Default)]
struct InUse {
    running: BTreeMap<String, usize>,
    waiting: BTreeMap<String, usize>,
    /// Sets that were seen, with the time they were seen last.
    seen: Vec<(String, String, f64)>,
}

impl Adapters {
    /// Notes that a sequence waits for an adapter.
    pub(crate) fn wait(self: &Arc<Self>, name: &str) -> Use {
        *self.inner.lock().waiting.entry(name.to_owned()).or_default() += 1;
        Use {
            adapters: self.clone(),
            name: name.to_owned(),
            running: false,
        }
    }

    /// All sets of running and waiting adapters that were ever looked at, the present one with this time.
    pub(crate) fn seen(&self, now: f64) -> Vec<(String, String, f64)> {
        let mut inner = self.inner.lock();
        let names = |map: &BTreeMap<String, usize>| map.keys().cloned().collect::<Vec<_>>().join(",");
        let (running, waiting) = (names(&inner.running), names(&inner.waiting));
        match inner
            .seen
            .iter_mut()
            .find(|(r, w, _)| *r == running && *w == waiting)
        {
            Some((_, _, at)) => *at = now,
            None => inner.seen.push((running, waiting, now)),
        }
        inner.seen.clone()
    }
}

impl Use {
    /// The sequence has its seat.
    pub(crate) fn run(&mut self) {
        if !self.running {
            self.running = true;
            let mut inner = self.adapters.inner.lock();
            less(&mut inner.waiting, &self.name);
            *inner.running.entry(self.name.clone()).or_default() += 1;
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut inner = self.adapters.inner.lock();
        let map = if self.running {
            &mut inner.running
        } else {
            &mut inner.waiting
        };
        less(map, &self.name);
    }
}

fn less(map: &mut BTreeMap<String, usize>, name: &str) {
    if let Some(count) = map.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            map.remove(name);
        }
    }
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
