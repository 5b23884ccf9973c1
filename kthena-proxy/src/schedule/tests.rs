use std::collections::HashMap;

use super::*;
use crate::cluster::endpoint::{Address, EndpointKey, Ports};
use crate::cluster::snapshot::Cell;

const REQUEST: Request<'_> = Request { model: "m" };

fn endpoint(name: &str) -> Arc<Endpoint> {
    let key = EndpointKey {
        uid: name.into(),
        address: Address::new("127.0.0.1", 1),
        tls: None,
    };
    Endpoint::new(key, format!("ns/{name}").into(), Ports::default(), None)
}

fn endpoints(count: usize) -> Vec<Arc<Endpoint>> {
    (0..count).map(|n| endpoint(&format!("p{n}"))).collect()
}

fn whole(scheduler: &Scheduler, pool: &Pool, tried: &Tried) -> Option<String> {
    match scheduler.choose(&REQUEST, pool, Wanted::Pair, tried)? {
        Choice::Whole(one) => Some(one.pod().to_owned()),
        Choice::Pair(..) => panic!("one engine"),
    }
}

#[test]
fn the_engine_with_fewest_requests_is_taken_and_the_count_returns() {
    let (scheduler, all) = (Scheduler::default(), endpoints(3));
    let pool = Pool::Whole(all.clone());
    let guards = [
        all[0].begin(),
        all[0].begin(),
        all[1].begin(),
        all[2].begin(),
        all[2].begin(),
    ];
    assert_eq!(whole(&scheduler, &pool, &Tried::default()).as_deref(), Some("p1"));
    drop(guards);
    assert!(all.iter().all(|one| one.in_flight() == 0));
}

#[test]
fn equals_share_evenly() {
    let (scheduler, pool) = (Scheduler::default(), Pool::Whole(endpoints(4)));
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..4000 {
        *counts
            .entry(whole(&scheduler, &pool, &Tried::default()).unwrap())
            .or_default() += 1;
    }
    assert!(
        counts.len() == 4 && counts.values().all(|n| (850..1150).contains(n)),
        "{counts:?}"
    );
}

#[test]
fn a_failed_engine_comes_last() {
    let (scheduler, all) = (Scheduler::default(), endpoints(2));
    let pool = Pool::Whole(all.clone());
    let (mut tried, _load) = (Tried::default(), all[1].begin());
    tried.add(&all[0]);
    assert_eq!(whole(&scheduler, &pool, &tried).as_deref(), Some("p1"));
    tried.add(&all[1]);
    assert_eq!(whole(&scheduler, &pool, &tried).as_deref(), Some("p0"));
    assert!(whole(&scheduler, &Pool::Whole(Vec::new()), &tried).is_none());
}

#[test]
fn a_large_fleet_is_sampled_and_every_engine_gets_its_share() {
    let (scheduler, pool) = (Scheduler::default(), Pool::Whole(endpoints(10 * SAMPLE)));
    let mut seen = std::collections::HashSet::new();
    for _ in 0..20_000 {
        seen.insert(whole(&scheduler, &pool, &Tried::default()).unwrap());
    }
    assert_eq!(seen.len(), 10 * SAMPLE);
}

fn split(cells: &[(&str, usize, usize)]) -> SplitPool {
    let mut pool = SplitPool::default();
    for (index, (group, prefill, decode)) in cells.iter().enumerate() {
        let make = |role: &str, n: usize| {
            (0..n)
                .map(|i| endpoint(&format!("{group}-{role}{i}")))
                .collect::<Vec<_>>()
        };
        let cell = Cell {
            group: (*group).into(),
            prefill: make("p", *prefill),
            decode: make("d", *decode),
        };
        pool.all_prefill.extend(cell.prefill.iter().cloned());
        pool.all_decode.extend(cell.decode.iter().cloned());
        if !cell.prefill.is_empty() {
            pool.decode
                .extend(cell.decode.iter().map(|one| (one.clone(), index)));
        }
        pool.cells.push(cell);
    }
    pool
}

fn pair(pool: &Pool, tried: &Tried) -> Option<(String, String)> {
    match Scheduler::default().choose(&REQUEST, pool, Wanted::Pair, tried)? {
        Choice::Pair(prefill, decode) => Some((prefill.pod().to_owned(), decode.pod().to_owned())),
        Choice::Whole(_) => panic!("a pair"),
    }
}

#[test]
fn pairs_never_cross_cells() {
    let pool = Pool::Split(split(&[("a", 2, 2), ("b", 1, 3), ("c", 0, 1), ("d", 2, 0)]));
    for _ in 0..500 {
        let (prefill, decode) = pair(&pool, &Tried::default()).unwrap();
        assert_eq!(prefill[..1], decode[..1]);
    }
    assert!(
        pair(
            &Pool::Split(split(&[("a", 0, 2), ("b", 1, 0)])),
            &Tried::default()
        )
        .is_none()
    );
}

#[test]
fn after_a_failure_another_partner_or_another_group_is_taken() {
    let inner = split(&[("a", 2, 1), ("b", 1, 1)]);
    let (failed, decode_a) = (
        inner.cells[0].prefill[0].clone(),
        inner.cells[0].decode[0].clone(),
    );
    let pool = Pool::Split(inner);
    let mut tried = Tried::default();
    tried.add(&failed);
    for _ in 0..100 {
        assert_ne!(pair(&pool, &tried).unwrap().0, failed.pod());
    }
    tried.add(&decode_a);
    assert_eq!(pair(&pool, &tried).unwrap().1, "b-d0");
}

#[test]
fn where_all_partners_have_failed_one_that_was_not_asked_together_is_left() {
    let inner = split(&[("a", 2, 2)]);
    let (prefill, decode) = (inner.cells[0].prefill.clone(), inner.cells[0].decode.clone());
    let pool = Pool::Split(inner);
    let mut tried = Tried::default();
    // The one failed with a decode engine that may be to blame itself, the other for itself.
    tried.ask(&Choice::Pair(prefill[0].clone(), decode[0].clone()));
    tried.ask(&Choice::Pair(prefill[1].clone(), decode[1].clone()));
    for failed in [&prefill[0], &prefill[1], &decode[0]] {
        tried.add(failed);
    }
    for _ in 0..100 {
        let expected = ("a-p0".to_owned(), "a-d1".to_owned());
        assert_eq!(pair(&pool, &tried).unwrap(), expected);
    }
}

/// A group whose prefill engine has just gone keeps a decode engine that nothing speaks against, and that has nothing to do.
#[test]
fn a_decode_engine_whose_partners_have_failed_comes_behind_one_of_another_group() {
    let inner = split(&[("a", 1, 1), ("b", 1, 1)]);
    let (prefill, decode) = (
        inner.cells[0].prefill[0].clone(),
        inner.cells[0].decode[0].clone(),
    );
    let _load = inner.cells[1].decode[0].begin();
    let pool = Pool::Split(inner);
    let mut tried = Tried::default();
    tried.ask(&Choice::Pair(prefill.clone(), decode));
    tried.add(&prefill);
    for _ in 0..100 {
        assert_eq!(
            pair(&pool, &tried).unwrap(),
            ("b-p0".to_owned(), "b-d0".to_owned())
        );
    }
}

#[test]
fn requests_that_cannot_be_split_go_to_one_role() {
    let pool = Pool::Split(split(&[("a", 1, 1)]));
    for (wanted, expected) in [(Wanted::Prefill, "a-p0"), (Wanted::Decode, "a-d0")] {
        match Scheduler::default().choose(&REQUEST, &pool, wanted, &Tried::default()) {
            Some(Choice::Whole(one)) => assert_eq!(one.pod(), expected),
            other => panic!("{other:?}"),
        }
    }
}
