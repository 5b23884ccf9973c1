use std::collections::BTreeMap;

use kthena_api::model_route::StringMatch;

use super::*;

fn target(name: &str, weight: u32) -> Target {
    Target {
        backend: Backend::Server(name.into(), None),
        weight,
    }
}

fn rule(condition: Condition, targets: Vec<Target>) -> Rule {
    Rule { condition, targets }
}

fn route(name: &str, rules: Vec<Rule>) -> Arc<Route> {
    Arc::new(Route {
        name: name.into(),
        gateways_only: false,
        rules,
    })
}

fn exact(value: &str) -> StringMatcher {
    StringMatch {
        exact: Some(value.to_owned()),
        ..StringMatch::default()
    }
    .matcher()
    .unwrap()
}

fn regex(value: &str) -> StringMatcher {
    StringMatch {
        regex: Some(value.to_owned()),
        ..StringMatch::default()
    }
    .matcher()
    .unwrap()
}

fn header(name: &'static str, condition: StringMatcher) -> Condition {
    Condition {
        headers: vec![(http::HeaderName::from_static(name), condition)],
        ..Condition::default()
    }
}

fn snapshot(models: &[(&str, Vec<Arc<Route>>)], adapters: &[(&str, Vec<Arc<Route>>)]) -> Snapshot {
    let index = |pairs: &[(&str, Vec<Arc<Route>>)]| {
        pairs
            .iter()
            .map(|(name, routes)| (Arc::from(*name), routes.clone()))
            .collect()
    };
    Snapshot {
        models: index(models),
        adapters: index(adapters),
        ..Snapshot::default()
    }
}

fn find(
    snapshot: &Snapshot,
    model: &str,
    path: &str,
    headers: &[(&'static str, &str)],
    drawn: u32,
) -> Option<(String, bool)> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().unwrap());
    }
    let found = snapshot.find(
        &Query {
            model,
            path,
            headers: &map,
        },
        |total| drawn.min(total - 1),
    )?;
    let Backend::Server(name, _) = &found.target.backend else {
        panic!("a server")
    };
    Some((name.to_string(), found.lora))
}

fn to(name: &str) -> Option<(String, bool)> {
    Some((name.to_owned(), false))
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn headers_choose_the_rule_and_only_their_first_value_counts() {
    let s = snapshot(
        &[(
            "m",
            vec![route(
                "ns/r",
                vec![
                    rule(header("env", exact("production")), vec![target("prod", 100)]),
                    rule(Condition::default(), vec![target("fallback", 100)]),
                ],
            )],
        )],
        &[],
    );
    assert_eq!(find(&s, "m", CHAT, &[("env", "production")], 0), to("prod"));
    assert_eq!(find(&s, "m", CHAT, &[("env", "other")], 0), to("fallback"));
    assert_eq!(
        find(&s, "m", CHAT, &[("env", "x"), ("env", "production")], 0),
        to("fallback")
    );
    assert_eq!(find(&s, "m", CHAT, &[], 0), to("fallback"));
    assert_eq!(find(&s, "unknown", CHAT, &[], 0), None);
}

#[test]
fn an_absent_header_is_empty_and_patterns_search() {
    let s = snapshot(
        &[
            (
                "m",
                vec![route(
                    "ns/r",
                    vec![rule(
                        header("tenant", regex("^(acme|globex)-prod$")),
                        vec![target("t", 1)],
                    )],
                )],
            ),
            (
                "any",
                vec![route(
                    "ns/a",
                    vec![rule(header("tenant", regex(".*")), vec![target("t", 1)])],
                )],
            ),
        ],
        &[],
    );
    assert_eq!(find(&s, "m", CHAT, &[("tenant", "globex-prod")], 0), to("t"));
    assert_eq!(find(&s, "m", CHAT, &[("tenant", "initech-prod")], 0), None);
    assert_eq!(find(&s, "any", CHAT, &[], 0), to("t"));
}

#[test]
fn path_and_model_conditions_must_hold_together() {
    let condition = Condition {
        path: Some(exact(CHAT)),
        model: Some("b".into()),
        ..Condition::default()
    };
    let r = route(
        "ns/r",
        vec![
            rule(condition, vec![target("both", 1)]),
            rule(Condition::default(), vec![target("rest", 1)]),
        ],
    );
    let s = snapshot(&[("a", vec![r.clone()]), ("b", vec![r])], &[]);
    assert_eq!(find(&s, "b", CHAT, &[], 0), to("both"));
    assert_eq!(find(&s, "b", "/v1/completions", &[], 0), to("rest"));
    assert_eq!(find(&s, "a", CHAT, &[], 0), to("rest"));
}

#[test]
fn a_condition_that_cannot_hold_never_does() {
    let never = Condition {
        never: true,
        ..Condition::default()
    };
    let s = snapshot(
        &[(
            "m",
            vec![route(
                "ns/r",
                vec![
                    rule(never, vec![target("a", 1)]),
                    rule(Condition::default(), vec![target("b", 1)]),
                ],
            )],
        )],
        &[],
    );
    assert_eq!(find(&s, "m", CHAT, &[], 0), to("b"));
}

#[test]
fn weights_are_relative_shares() {
    let r = route(
        "ns/r",
        vec![rule(
            Condition::default(),
            vec![target("a", 50), target("zero", 0), target("b", 30)],
        )],
    );
    let s = snapshot(&[("m", vec![r])], &[]);
    let mut counts = BTreeMap::new();
    for drawn in 0..80 {
        *counts
            .entry(find(&s, "m", CHAT, &[], drawn).unwrap().0)
            .or_insert(0) += 1;
    }
    assert_eq!(
        counts,
        BTreeMap::from([("a".to_owned(), 50), ("b".to_owned(), 30)])
    );
}

#[test]
fn a_rule_that_leads_nowhere_is_passed_over() {
    let s = snapshot(
        &[(
            "m",
            vec![
                route(
                    "ns/old",
                    vec![
                        rule(Condition::default(), vec![target("a", 0)]),
                        rule(Condition::default(), vec![]),
                    ],
                ),
                route("ns/young", vec![rule(Condition::default(), vec![target("b", 1)])]),
            ],
        )],
        &[],
    );
    assert_eq!(find(&s, "m", CHAT, &[], 0), to("b"));
}

#[test]
fn adapters_are_found_also_behind_a_model_of_the_same_name() {
    let base = route(
        "ns/base",
        vec![rule(header("tier", exact("gold")), vec![target("base", 1)])],
    );
    let adapter = route(
        "ns/adapter",
        vec![rule(Condition::default(), vec![target("adapter", 1)])],
    );
    let s = snapshot(
        &[("x", vec![base])],
        &[("x", vec![adapter.clone()]), ("y", vec![adapter])],
    );
    assert_eq!(find(&s, "x", CHAT, &[("tier", "gold")], 0), to("base"));
    assert_eq!(find(&s, "x", CHAT, &[], 0), Some(("adapter".into(), true)));
    assert_eq!(find(&s, "y", CHAT, &[], 0), Some(("adapter".into(), true)));
}

#[test]
fn a_route_of_gateways_serves_no_direct_traffic() {
    let gateways = Arc::new(Route {
        name: "ns/g".into(),
        gateways_only: true,
        rules: vec![rule(Condition::default(), vec![target("g", 1)])],
    });
    let s = snapshot(&[("m", vec![gateways])], &[]);
    assert_eq!(find(&s, "m", CHAT, &[], 0), None);
}
