//! Which engines may work with each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use kthena_api::model_server::PdRole;

use super::super::endpoint::Endpoint;
use super::super::snapshot::{Cell, Pool, SplitPool};

/// An engine with a role.
pub(super) struct Member<'a> {
    pub(super) group: &'a str,
    pub(super) revision: &'a str,
    pub(super) role: PdRole,
    pub(super) endpoint: &'a Arc<Endpoint>,
}

/// Sorts engines into cells: those of one group may work with each other, and while a rollout replaces them one revision after
/// another, those of one revision. Where no revision of a group has both roles, the group is one cell: roles that are updated
/// apart have different revisions for good.
pub(super) fn split<'a>(members: impl Iterator<Item = Member<'a>>) -> Pool {
    let mut groups: BTreeMap<&str, BTreeMap<&str, Cell>> = BTreeMap::new();
    let mut pool = SplitPool::default();
    for member in members {
        let cell = groups
            .entry(member.group)
            .or_default()
            .entry(member.revision)
            .or_default();
        let (side, all) = match member.role {
            PdRole::Prefill => (&mut cell.prefill, &mut pool.all_prefill),
            PdRole::Decode => (&mut cell.decode, &mut pool.all_decode),
        };
        side.push(member.endpoint.clone());
        all.push(member.endpoint.clone());
    }
    for (group, revisions) in groups {
        let whole = |cell: &Cell| !cell.prefill.is_empty() && !cell.decode.is_empty();
        let cells: Vec<Cell> = if revisions.values().any(whole) {
            revisions.into_values().filter(whole).collect()
        } else {
            let mut one = Cell::default();
            for mut cell in revisions.into_values() {
                one.prefill.append(&mut cell.prefill);
                one.decode.append(&mut cell.decode);
            }
            vec![one]
        };
        for mut cell in cells {
            cell.group = group.into();
            if !cell.prefill.is_empty() {
                let index = pool.cells.len();
                pool.decode
                    .extend(cell.decode.iter().map(|endpoint| (endpoint.clone(), index)));
            }
            pool.cells.push(cell);
        }
    }
    Pool::Split(pool)
}
