use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

/// A role's rules in short: group/resource, verbs, names.
fn short(rules: &[Rule]) -> Vec<String> {
    let short = |rule: &Rule| {
        let verbs: Vec<&str> = rule.verbs.iter().map(|verb| verb.as_str()).collect();
        let names: Vec<&str> = rule.names.iter().map(String::as_str).collect();
        format!(
            "{}/{} {} {}",
            rule.group,
            rule.resource,
            verbs.join(","),
            names.join(",")
        )
    };
    rules.iter().map(|rule| short(rule).trim().to_owned()).collect()
}

#[test]
fn rules_of_one_resource_become_one_in_order() {
    let rights = Rights::everywhere([Rule::of::<Pod>([Verb::Watch, Verb::Get])])
        .and(Rights::everywhere([
            Rule::of::<ControllerRevision>([Verb::List]),
            Rule::of::<Pod>([Verb::Get, Verb::Create]),
            Rule::of::<Pod>([Verb::Patch]).subresource("status"),
        ]))
        .and(Rights::default());
    let expected = [
        "/pods get,watch,create",
        "/pods/status patch",
        "apps/controllerrevisions list",
    ];
    assert_eq!(short(rights.rules_everywhere()), expected);
    assert!(rights.rules_own().is_empty());
    // The order in which they are added makes no difference.
    let reversed: Rights = rights
        .rules_everywhere()
        .iter()
        .rev()
        .cloned()
        .map(|it| Rights::everywhere([it]))
        .collect();
    assert_eq!(reversed, rights);
}

#[test]
fn names_limit_what_has_a_name() {
    use Verb::{Create, Get, List, Update, Watch};
    let lease = |verbs: &[Verb], name: &str| Rule::of::<Lease>(verbs.iter().copied()).named([name]);
    let check = |rules: Vec<Rule>, expected: &[&str]| assert_eq!(short(&merged(rules)), expected);
    check(
        vec![lease(&[Create, Get, Update], "a")],
        &[
            "coordination.k8s.io/leases create",
            "coordination.k8s.io/leases get,update a",
        ],
    );
    check(
        vec![lease(&[Get], "b"), lease(&[Get], "a"), lease(&[List, Watch], "c")],
        &[
            "coordination.k8s.io/leases get a,b",
            "coordination.k8s.io/leases list,watch c",
        ],
    );
    // What is allowed for all is not said again for one.
    check(
        vec![lease(&[Get, Update], "a"), Rule::of::<Lease>([Get])],
        &[
            "coordination.k8s.io/leases get",
            "coordination.k8s.io/leases update a",
        ],
    );
    check(
        vec![lease(&[Get], "a"), Rule::of::<Lease>([Get])],
        &["coordination.k8s.io/leases get"],
    );
    // No names are not all names.
    let none = Rule::of::<Lease>([Create, Get]).named(Vec::<String>::new());
    check(vec![none], &["coordination.k8s.io/leases create"]);
    check(vec![Rule::of::<Lease>([])], &[]);
}

#[test]
fn what_is_allowed_can_be_asked() {
    let rights = Rights::everywhere([
        Rule::of::<Pod>([Verb::Get, Verb::List]),
        Rule::of::<Lease>([Verb::Get]).named(["a"]),
    ])
    .and(Rights::own([Rule::of::<Lease>([Verb::Update]).named(["b"])]));
    let lease = |verb, name| {
        let (group, leases) = ("coordination.k8s.io", "leases");
        (
            rights.allow_everywhere(group, leases, verb, name),
            rights.allow_own(group, leases, verb, name),
        )
    };
    assert!(rights.allow_everywhere("", "pods", Verb::List, None));
    assert!(!rights.allow_everywhere("", "pods/status", Verb::Get, Some("p")));
    assert!(!rights.allow_everywhere("apps", "pods", Verb::List, None));
    assert_eq!(lease(Verb::Get, Some("a")), (true, true));
    assert_eq!(lease(Verb::Get, None), (false, false));
    assert_eq!(lease(Verb::Update, Some("b")), (false, true));
    assert_eq!(lease(Verb::Update, Some("a")), (false, false));
}

#[test]
fn roles_are_what_the_api_server_takes() {
    let rights = Rights::everywhere([Rule::of::<Pod>([Verb::DeleteCollection])])
        .and(Rights::own([Rule::of::<Lease>([Verb::Get]).named(["a"])]));
    assert_eq!(
        json!(rights.cluster_role("me")),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": { "name": "me" },
            "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": ["deletecollection"] }],
        })
    );
    assert_eq!(
        json!(rights.role("me")),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": { "name": "me" },
            "rules": [{
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["a"],
                "verbs": ["get"],
            }],
        })
    );
}
