//! Writes the roles of the controller manager into the chart, or with `--check` fails if those there are out of date:
//! `rbac CHARTS [--check]`. With `--used FILE` it compares them with what tests have used, and fails if something is granted that is not.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use kthena_controller::rbac::Part;
use kthena_sdk::rbac::{Rights, Rule, Verb};

/// Where the chart has the name of the Secret.
const SECRET: &str = "{{ .Values.controllerManager.webhook.tls.certSecretName }}";

/// What is needed though tests need not use it: verb, resource, reason.
const UNSEEN: &[(&str, &str, &str)] = &[
    ("update", "modelservings/finalizers", OWNER),
    ("update", "leaderworkersets/finalizers", OWNER),
    (
        "create",
        "podgroups",
        "no request: the API server asks whether what is applied may be made",
    ),
    ("get", "pods", MADE),
    ("get", "services", MADE),
    ("get", "controllerrevisions", MADE),
    ("get", "poddisruptionbudgets", MADE),
    (
        "patch",
        "controllerrevisions",
        "where two of a ModelServing have the same number",
    ),
    (
        "delete",
        "controllerrevisions",
        "where there are more of them than are kept",
    ),
    ("patch", "events", "where the same is said again"),
    ("update", "secrets", "where a certificate has grown old"),
];
const OWNER: &str = "no request: the API server may ask whether one may block the deletion of an owner";
const MADE: &str = "where one is there of which no watch has told yet";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next().as_deref()) {
        (Some("--used"), Some(file)) => compare(&fs::read_to_string(file)?),
        (Some(charts), check) => write(Path::new(charts), check == Some("--check")),
        (None, _) => Err("where is the chart?".into()),
    }
}

fn write(charts: &Path, check: bool) -> Result<(), Box<dyn Error>> {
    let folder = charts.join("workload/templates/kthena-controller-manager/rbac");
    let secret = SECRET.to_owned();
    let webhooks = Part::Webhooks { secret }.rights();
    // Where somebody else makes the Secret, nothing is written there, and it is waited for.
    let is_own = |verb: Verb| matches!(verb, Verb::Create | Verb::Update);
    let enabled = ".Values.controllerManager.webhook.enabled";
    let parts = [
        (Part::ModelServing.rights().and(Part::Election.rights()), None),
        (
            Rights::everywhere(webhooks.rules_everywhere().iter().cloned())
                .and(Rights::own(only(webhooks.rules_own(), |verb| !is_own(verb)))),
            Some(enabled.to_owned()),
        ),
        (
            Rights::own(only(webhooks.rules_own(), is_own)),
            Some(format!(
                "and {enabled} (eq .Values.global.certManagementMode \"auto\")"
            )),
        ),
    ];
    let files: [(PathBuf, String); 2] = [
        (
            folder.join("cluster-role.yaml"),
            template("ClusterRole", &parts, Rights::rules_everywhere),
        ),
        (
            folder.join("role.yaml"),
            template("Role", &parts, Rights::rules_own),
        ),
    ];
    for (path, text) in files {
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        if check {
            return Err(format!("{} is out of date; run `cargo xtask codegen`", path.display()).into());
        }
        fs::create_dir_all(&folder)?;
        fs::write(&path, text)?;
    }
    Ok(())
}

/// The rules with some of their verbs.
fn only(rules: &[Rule], keep: impl Fn(Verb) -> bool) -> Vec<Rule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        rule.verbs.retain(|verb| keep(*verb));
    }
    rules
}

/// A role as a template. Parts with a condition are there only where that holds.
fn template(kind: &str, parts: &[(Rights, Option<String>)], rules: fn(&Rights) -> &[Rule]) -> String {
    let namespace = match kind {
        "Role" => "\n  namespace: {{ .Release.Namespace }}",
        _ => "",
    };
    let mut text = format!(
        "{{{{- /* Generated from what the code asks by `cargo xtask codegen`. */ -}}}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
  name: kthena-controller-manager{namespace}
  labels:
    {{{{- include \"workload.controllerManager.labels\" . | nindent 4 }}}}
rules:
"
    );
    for (rights, condition) in parts {
        let rules: String = rules(rights).iter().map(rule).collect();
        text += &match condition {
            _ if rules.is_empty() => rules,
            None => rules,
            Some(condition) => format!("{{{{- if {condition} }}}}\n{rules}{{{{- end }}}}\n"),
        };
    }
    text
}

fn rule(rule: &Rule) -> String {
    let list = |items: Vec<&str>| {
        let items: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
        items.join(", ")
    };
    let names = match rule.names.is_empty() {
        true => String::new(),
        false => format!(
            "  resourceNames: [{}]\n",
            list(rule.names.iter().map(String::as_str).collect())
        ),
    };
    format!(
        "- apiGroups: [{}]\n  resources: [{}]\n{names}  verbs: [{}]\n",
        list(vec![rule.group.as_str()]),
        list(vec![rule.resource.as_str()]),
        list(rule.verbs.iter().map(|verb| verb.as_str()).collect()),
    )
}

/// Fails where something is granted that no line has and no reason is given for. Lines are those of
/// `KTHENA_RIGHTS_USED`: group, resource, verb, and the object's name if there is one, by tabs.
fn compare(used: &str) -> Result<(), Box<dyn Error>> {
    let used: BTreeSet<(&str, &str, &str, &str)> = used
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\t');
            Some((
                parts.next()?,
                parts.next()?,
                parts.next()?,
                parts.next().unwrap_or_default(),
            ))
        })
        .collect();
    let is_used = |rule: &Rule, verb: &str, name: Option<&str>| {
        used.iter().any(|&(group, resource, other, object)| {
            (group == rule.group && resource == rule.resource && other == verb)
                && name.is_none_or(|name| name == object)
        })
    };
    let rights: Rights = Part::all().iter().map(Part::rights).collect();
    let mut problems = Vec::new();
    for rule in rights.rules_everywhere().iter().chain(rights.rules_own()) {
        for verb in rule.verbs.iter().map(|verb| verb.as_str()) {
            let has_reason = UNSEEN
                .iter()
                .any(|(unseen, resource, _)| *unseen == verb && *resource == rule.resource);
            let names: Vec<Option<&str>> = match rule.names.is_empty() {
                true => vec![None],
                false => rule.names.iter().map(|name| Some(name.as_str())).collect(),
            };
            for name in names {
                if !has_reason && !is_used(rule, verb, name) {
                    problems.push(format!("{verb} {} {}", rule.resource, name.unwrap_or_default()));
                }
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("granted and used by no test: {}", problems.join(", ")).into())
}
