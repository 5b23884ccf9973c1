//! What there is, as watches tell it, and which ChatServices have to be looked at.

use std::collections::{BTreeSet, HashMap};

use kthena_sdk::api::ModelServing;
use kthena_sdk::kube::Resource;
use kthena_sdk::watch::Change;

use crate::ChatService;

/// Namespace and name, which a ChatService and its ModelServing have in common.
pub type Key = (String, String);

/// Everything that decisions are made from.
#[derive(Debug, Default)]
pub struct Index {
    /// ChatServices, once they are known.
    services: Option<HashMap<Key, ChatService>>,
    /// ModelServings, once they are known.
    servings: Option<HashMap<Key, ModelServing>>,
    waiting: BTreeSet<Key>,
}

impl Index {
    /// Takes what the watch of ChatServices says.
    pub fn service(&mut self, change: Change<ChatService>) {
        update(&mut self.services, change, &mut self.waiting);
    }

    /// Takes what the watch of ModelServings says.
    pub fn serving(&mut self, change: Change<ModelServing>) {
        update(&mut self.servings, change, &mut self.waiting);
    }

    /// Wants a ChatService to be looked at again.
    pub fn again(&mut self, key: Key) {
        self.waiting.insert(key);
    }

    /// A ChatService that has to be looked at, and the ModelServing of its name. None before both kinds are known: otherwise what is there
    /// already would be made again.
    pub fn take(&mut self) -> Option<(Key, ChatService, Option<ModelServing>)> {
        let (services, servings) = (self.services.as_ref()?, self.servings.as_ref()?);
        while let Some(key) = self.waiting.pop_first() {
            if let Some(service) = services.get(&key) {
                return Some((key.clone(), service.clone(), servings.get(&key).cloned()));
            }
        }
        None
    }
}

fn update<K: Resource>(all: &mut Option<HashMap<Key, K>>, change: Change<K>, waiting: &mut BTreeSet<Key>) {
    match change {
        Change::Reset(new) => {
            let new: HashMap<Key, K> = new.into_iter().map(|object| (key(&object), object)).collect();
            waiting.extend(all.iter().flatten().map(|(key, _)| key.clone()));
            waiting.extend(new.keys().cloned());
            *all = Some(new);
        }
        Change::Apply(object) => {
            waiting.insert(key(&object));
            all.get_or_insert_default().insert(key(&object), object);
        }
        Change::Delete(object) => {
            waiting.insert(key(&object));
            all.get_or_insert_default().remove(&key(&object));
        }
        Change::Undecodable {
            namespace,
            name,
            error,
        } => tracing::warn!(namespace, name, error, "cannot be read and stays as it is"),
        Change::Interrupted(error) => tracing::warn!(%error, "the watch broke and is made anew"),
    }
}

fn key<K: Resource>(object: &K) -> Key {
    let metadata = object.meta();
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ChatService {
        ChatService::new(name, Default::default())
    }

    fn next(index: &mut Index) -> Option<(String, bool)> {
        let (key, _, serving) = index.take()?;
        Some((key.1, serving.is_some()))
    }

    #[test]
    fn nothing_is_decided_before_all_is_known() {
        let mut index = Index::default();
        index.service(Change::Reset(vec![service("a")]));
        assert_eq!(next(&mut index), None);
        index.serving(Change::Reset(vec![ModelServing::new("a", Default::default())]));
        assert_eq!(next(&mut index), Some(("a".to_owned(), true)));
        assert_eq!(next(&mut index), None);
    }

    #[test]
    fn a_model_serving_that_is_gone_leads_to_its_chat_service() {
        let mut index = Index::default();
        index.service(Change::Reset(vec![service("a"), service("b")]));
        index.serving(Change::Reset(vec![ModelServing::new("a", Default::default())]));
        while index.take().is_some() {}
        index.serving(Change::Reset(Vec::new()));
        assert_eq!(next(&mut index), Some(("a".to_owned(), false)));
        assert_eq!(next(&mut index), None);
        index.again((String::new(), "b".to_owned()));
        index.service(Change::Delete(service("b")));
        assert_eq!(next(&mut index), None, "it is not there any more");
    }
}
