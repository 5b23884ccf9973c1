//! The garbage collector's part: what has lost its owners goes.

use std::collections::HashSet;

use serde_json::Value;

use super::store::{Place, Store};

impl Store {
    /// Removes what has lost all its owners, and so on, until nothing has. Returns how many objects were told to go.
    pub(super) fn collect(&mut self) -> usize {
        let mut count = 0;
        loop {
            let there: HashSet<&str> = self.all().filter_map(|(_, object)| uid(object)).collect();
            let is_lost = |object: &Value| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                let is_going = !object["metadata"]["deletionTimestamp"].is_null();
                !is_going
                    && owners.is_some_and(|owners| {
                        let mut owners = owners.iter();
                        owners.len() > 0
                            && owners.all(|it| !it["uid"].as_str().is_some_and(|uid| there.contains(uid)))
                    })
            };
            let lost = self.all().filter(|(_, object)| is_lost(object));
            let lost: Vec<Place> = lost.map(|(place, _)| place.clone()).collect();
            if lost.is_empty() {
                return count;
            }
            count += lost.len();
            for place in lost {
                self.end(&place, None);
            }
        }
    }

    /// Takes an owner away from what it owns.
    pub(super) fn orphan(&mut self, owner: &str) {
        let owns = |object: &Value| owners(object).any(|it| it["uid"] == owner);
        let owned = self.all().filter(|(_, object)| owns(object));
        let owned: Vec<(Place, Value)> = owned
            .map(|(place, object)| (place.clone(), Value::clone(object)))
            .collect();
        for (place, mut object) in owned {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|it| it["uid"] != owner);
            }
            self.put(&place, object);
        }
    }
}

fn uid(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
}
