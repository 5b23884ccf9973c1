//! Objects from a folder of YAML files, read as `kubectl apply` would read them.
//!
//! A file that cannot be read or holds something that the API server would refuse keeps what it last held, and says so in the
//! log, in a metric and in the detail of `/readyz`. A file that is gone takes its objects with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::super::objects::{Event, Key, Update};
use super::manifest::{self, Object};
use crate::admin::Readiness;
use crate::telemetry::metrics::Metrics;

/// A folder that objects are read from.
pub struct Files {
    folder: PathBuf,
    period: Duration,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    /// What each file held when it was last good.
    known: BTreeMap<PathBuf, File>,
}

#[derive(Default)]
struct File {
    text: Vec<u8>,
    objects: Vec<Object>,
    /// Why the text as it is now is not used.
    problem: Option<String>,
}

impl Files {
    /// Objects of a folder, read again when it changes and after each period.
    #[must_use]
    pub fn new(folder: PathBuf, period: Duration, metrics: Metrics, readiness: Arc<Readiness>) -> Self {
        Self {
            folder,
            period,
            metrics,
            readiness,
            known: BTreeMap::new(),
        }
    }

    /// Reads, sends, waits, again and again; ends when nobody listens any more.
    pub async fn run(mut self, updates: mpsc::Sender<Update>) {
        let (wake, mut woken) = mpsc::channel::<()>(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change; this very source reads, and would wake itself for ever.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            // One wake-up is enough for any number of changes.
            let _already_awake = wake.try_send(());
        })
        .and_then(|mut watcher| {
            watcher
                .watch(&self.folder, RecursiveMode::NonRecursive)
                .map(|()| watcher)
        });
        if let Err(error) = &watcher {
            tracing::info!(%error, folder = %self.folder.display(), "changes are not notified; the folder is read periodically");
        }
        let mut first = true;
        loop {
            let changed = self.read();
            if changed || first {
                for update in self.updates() {
                    if updates.send(update).await.is_err() {
                        return;
                    }
                }
                self.report();
            }
            if first {
                first = false;
                if updates.send(Update::Synced).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = woken.recv() => {
                    // Editors write in several steps: what comes within a moment belongs together.
                    while let Ok(Some(())) = tokio::time::timeout(Duration::from_millis(20), woken.recv()).await {}
                }
                () = tokio::time::sleep(self.period) => {}
                () = updates.closed() => return,
            }
        }
    }

    /// Reads the folder; whether anything is new.
    fn read(&mut self) -> bool {
        let found = match list(&self.folder) {
            Ok(found) => found,
            Err(error) => {
                // A folder that cannot be listed is no reason to drop what it held.
                tracing::warn!(%error, folder = %self.folder.display(), "the folder cannot be read; its last state stays");
                self.metrics.config_error("file");
                return false;
            }
        };
        let before = self.known.len();
        self.known.retain(|path, _| found.contains(path));
        let mut changed = self.known.len() != before;
        for path in found {
            changed |= self.read_file(path);
        }
        changed
    }

    fn read_file(&mut self, path: PathBuf) -> bool {
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.known.remove(&path).is_some();
            }
            Err(error) => return self.refuse(path, None, error.to_string()),
        };
        if self.known.get(&path).is_some_and(|file| file.text == text) {
            return false;
        }
        match manifest::parse(&text) {
            Ok(objects) => {
                self.known.insert(
                    path,
                    File {
                        text,
                        objects,
                        problem: None,
                    },
                );
                true
            }
            Err(problem) => self.refuse(path, Some(text), problem),
        }
    }

    fn refuse(&mut self, path: PathBuf, text: Option<Vec<u8>>, problem: String) -> bool {
        let file = self.known.entry(path.clone()).or_default();
        let new = file.problem.as_ref() != Some(&problem);
        if new {
            tracing::warn!(file = %path.display(), "{problem}; what the file held before stays in use");
            self.metrics.config_error("file");
        }
        if let Some(text) = text {
            file.text = text;
        }
        file.problem = Some(problem);
        new
    }

    fn updates(&self) -> Vec<Update> {
        let mut all = manifest::Sorted::default();
        let mut seen: BTreeSet<(&'static str, Key)> = BTreeSet::new();
        for (path, file) in &self.known {
            for object in &file.objects {
                if seen.insert((object.kind(), object.key())) {
                    all.add(object.clone());
                } else {
                    tracing::warn!(
                        file = %path.display(),
                        kind = object.kind(),
                        name = ?object.key(),
                        "the object is defined a second time; the first definition counts"
                    );
                }
            }
        }
        vec![
            Update::Secret(Event::Reset(all.secrets)),
            Update::Provider(Event::Reset(all.providers)),
            Update::Server(Event::Reset(all.servers)),
            Update::Route(Event::Reset(all.routes)),
        ]
    }

    fn report(&self) {
        let problems: Vec<String> = self
            .known
            .iter()
            .filter_map(|(path, file)| Some(format!("{}: {}", path.display(), file.problem.as_ref()?)))
            .collect();
        self.metrics.config_broken("file", problems.len());
        self.readiness.set_detail(problems);
    }
}

/// Files with objects: YAML and JSON, but not hidden ones, which mounted ConfigMaps are full of.
fn list(folder: &Path) -> std::io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let known = path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        if !hidden && known && path.is_file() {
            found.insert(path);
        }
    }
    Ok(found)
}
