//! Which ServingGroups have been complete, as the status remembers it.
//!
//! With the recovery policy `ServingGroupRecreate` the loss of a pod makes the whole group be created anew. From what there is now,
//! a pod that was lost looks like one that has not been made yet, or that a larger number of replicas has just asked for.

use std::collections::BTreeMap;

use kthena_api::ModelServing;
use kthena_api::model_serving::EstablishedGroups;

/// Instances by role, for each group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record(pub(super) BTreeMap<u32, BTreeMap<String, i32>>);

impl Record {
    /// What the status says.
    pub(super) fn of(serving: &ModelServing) -> Self {
        let entries = serving
            .status
            .iter()
            .flat_map(|status| &status.established_groups);
        let mut all = BTreeMap::new();
        for entry in entries {
            for group in ordinals(&entry.groups) {
                all.insert(group, entry.roles.clone());
            }
        }
        Self(all)
    }

    /// How many instances of a role a group has had.
    pub(super) fn instances(&self, group: u32, role: &str) -> Option<u32> {
        let count = self.0.get(&group)?.get(role)?;
        u32::try_from(*count).ok()
    }

    /// For the status: groups that have had the same together.
    pub(super) fn to_status(&self) -> Vec<EstablishedGroups> {
        let mut by_roles = BTreeMap::<&BTreeMap<String, i32>, Vec<u32>>::new();
        for (group, roles) in &self.0 {
            by_roles.entry(roles).or_default().push(*group);
        }
        let mut entries: Vec<(u32, EstablishedGroups)> = by_roles
            .into_iter()
            .filter_map(|(roles, groups)| {
                let entry = EstablishedGroups {
                    groups: ranges(&groups),
                    roles: roles.clone(),
                };
                Some((*groups.first()?, entry))
            })
            .collect();
        entries.sort_by_key(|(first, _)| *first);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }
}

/// More groups than any ModelServing has; a text that names more is not ours.
const MOST: u32 = 100_000;

/// `0-3,5` as numbers. What is no range is left out.
fn ordinals(text: &str) -> impl Iterator<Item = u32> + '_ {
    text.split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last && last < MOST => first..last + 1,
            _ => 0..0,
        }
    })
}

/// Ascending numbers as `0-3,5`.
pub(super) fn ranges(ordinals: &[u32]) -> String {
    let mut parts = Vec::<(u32, u32)>::new();
    for ordinal in ordinals {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *ordinal => *last = *ordinal,
            _ => parts.push((*ordinal, *ordinal)),
        }
    }
    let text = |(first, last): (u32, u32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_record_survives_the_status() {
        let mut record = Record::default();
        for (group, decode) in [(0, 1), (1, 1), (2, 2), (3, 1), (5, 1)] {
            let roles = [("prefill".to_owned(), 1), ("decode".to_owned(), decode)];
            record.0.insert(group, roles.into());
        }
        let status = record.to_status();
        assert_eq!(
            json!(status),
            json!([
                { "groups": "0-1,3,5", "roles": { "prefill": 1, "decode": 1 } },
                { "groups": "2", "roles": { "prefill": 1, "decode": 2 } },
            ])
        );
        let mut serving = ModelServing::new("x", Default::default());
        serving.status = Some(kthena_api::ModelServingStatus {
            established_groups: status,
            ..Default::default()
        });
        assert_eq!(Record::of(&serving), record);
        assert_eq!(
            (record.instances(2, "decode"), record.instances(4, "decode")),
            (Some(2), None)
        );
    }

    #[test]
    fn nonsense_is_nothing() {
        for text in ["", "x", "3-1", "-", "1-", "0-4294967295", "99999999999"] {
            assert_eq!(ordinals(text).count(), 0, "{text}");
        }
    }
}
