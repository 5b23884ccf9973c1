//! Controllers that are killed at each write, before it is sent and after it was answered: what they leave is what one would have left that
//! was never killed, and nothing is made twice.

mod gate;
mod life;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kthena_tests::cluster::{Cluster, Entry, Identity, Mark, Namespace};
use kthena_tests::controller::Controller;
use kthena_tests::tools;
use serde_json::{Value, json};

use self::gate::{Gate, Moment, Write};
use self::life::{Event, Objects, Step, live};

/// In how many lives the writes of one script are killed, for each moment.
const LIVES: usize = 4;
/// Lives at a time.
const AT_ONCE: usize = 6;
/// Writes that may have to be killed in a life of their own.
const MISSED: usize = 6;
/// Writes of statuses and events that a restart may cost: what was told is not remembered.
const REPORTS: usize = 6;

const NODE: &str = "
apiVersion: v1
kind: Node
metadata: {name: node, labels: {type: kwok}}
status:
  allocatable: {cpu: '10000', memory: 100Ti, pods: '10000'}
  capacity: {cpu: '10000', memory: 100Ti, pods: '10000'}";

fn roles(prefill: u8, decode: u8, image: &str) -> Value {
    let pod = json!({ "spec": {
        // Nobody schedules here; a scheduler's part is another test's.
        "nodeName": "node",
        "containers": [{ "name": "engine", "image": image, "resources": { "requests": { "cpu": 1 } } }],
    } });
    json!([
        { "name": "prefill", "replicas": prefill, "workerReplicas": 1, "entryTemplate": pod, "workerTemplate": pod },
        { "name": "decode", "replicas": decode, "entryTemplate": pod },
    ])
}

fn step(name: &'static str, event: Event, counts: [usize; 3]) -> Step {
    Step { name, event, counts }
}

fn with_roles(roles: Value) -> Event {
    Event::Change(json!({ "template": { "roles": roles } }))
}

/// Groups in PodGroups, replaced one by one, whose roles recover for themselves.
fn by_group() -> Vec<Step> {
    let spec = json!({ "replicas": 2, "template": { "roles": roles(1, 1, "a") } });
    vec![
        step("create", Event::Create(spec), [2, 6, 2]),
        step("more groups", Event::Change(json!({ "replicas": 3 })), [3, 9, 3]),
        step("rollout", with_roles(roles(1, 1, "b")), [3, 9, 3]),
        step("loss", Event::Lose("s-1-prefill-0-1"), [3, 9, 3]),
        step("more instances", with_roles(roles(1, 2, "b")), [3, 12, 3]),
        step("fewer groups", Event::Change(json!({ "replicas": 1 })), [1, 4, 1]),
        step("fewer instances", with_roles(roles(1, 1, "b")), [1, 3, 1]),
        step("none", Event::Change(json!({ "replicas": 0 })), [0, 0, 0]),
    ]
}

/// Groups that recover as a whole, and of which there is one more during a rollout.
fn as_a_whole() -> Vec<Step> {
    let spec = json!({
        "replicas": 2,
        "recoveryPolicy": "ServingGroupRecreate",
        "schedulerName": "default-scheduler",
        "rolloutStrategy": { "type": "ServingGroupRollingUpdate", "rollingUpdateConfiguration": { "maxUnavailable": 0, "maxSurge": 1 } },
        "template": { "roles": roles(1, 1, "a") },
    });
    vec![
        step("create", Event::Create(spec), [2, 6, 2]),
        step("loss", Event::Lose("s-0-prefill-0-1"), [2, 6, 2]),
        step("rollout", with_roles(roles(1, 1, "b")), [2, 6, 2]),
        step("more instances", with_roles(roles(2, 1, "b")), [2, 10, 4]),
        step("more groups", Event::Change(json!({ "replicas": 3 })), [3, 15, 6]),
        step("fewer instances", with_roles(roles(1, 1, "b")), [3, 9, 3]),
        step("fewer groups", Event::Change(json!({ "replicas": 1 })), [1, 3, 1]),
    ]
}

/// Roles whose instances are replaced one by one.
fn by_role() -> Vec<Step> {
    let spec = json!({
        "replicas": 1,
        "rolloutStrategy": { "type": "RoleRollingUpdate" },
        "template": { "roles": roles(2, 1, "a") },
    });
    vec![
        step("create", Event::Create(spec), [1, 5, 2]),
        step("rollout", with_roles(roles(2, 1, "b")), [1, 5, 2]),
        step("loss", Event::Lose("s-0-prefill-0-0"), [1, 5, 2]),
        step(
            "more",
            Event::Change(json!({ "replicas": 2, "template": { "roles": roles(3, 1, "b") } })),
            [2, 14, 6],
        ),
        step(
            "fewer",
            Event::Change(json!({ "replicas": 1, "template": { "roles": roles(1, 1, "b") } })),
            [1, 3, 1],
        ),
    ]
}

/// A life that has been lived.
struct Life {
    space: Namespace,
    gate: Gate,
    objects: Vec<Objects>,
}

async fn lived(
    cluster: &Cluster,
    account: &Identity,
    script: &[Step],
    moment: Moment,
    deadly: BTreeSet<Write>,
) -> Result<Life> {
    let space = cluster.namespace("killed").await?;
    let gate = Gate::new(space.name(), moment, deadly);
    let objects = live(&space, account, &gate, script).await.with_context(|| {
        let written = gate.written();
        let last: Vec<_> = written.iter().rev().take(12).collect();
        format!("after {:?} the last writes were {last:#?}", gate.deaths())
    })?;
    Ok(Life { space, gate, objects })
}

/// What a controller asked the API server to make, change and remove, and how often, but for statuses and events.
fn asked(cluster: &Cluster, space: &Namespace) -> Result<BTreeMap<(String, String), usize>> {
    let mut asked = BTreeMap::new();
    let entries = cluster.audit().since(Mark::default())?;
    for entry in &entries {
        let object = &entry.object_ref;
        let is_write =
            ["create", "patch", "update", "delete", "deletecollection"].contains(&entry.verb.as_str());
        let is_report = object.resource == "events" || object.subresource == "status";
        let is_ours = entry.user.username.contains("kthena-controller") && object.namespace == space.name();
        if !is_ours || !is_write || is_report {
            continue;
        }
        let code = |entry: &Entry| entry.response_status.map_or(0, |status| status.code);
        if code(entry) >= 300 {
            let same = |it: &&Entry| {
                it.object_ref.name == object.name && it.object_ref.namespace == object.namespace
            };
            let history = entries
                .iter()
                .filter(same)
                .map(|it| format!("{} {} {}", it.user.username, it.verb, code(it)));
            let history: Vec<String> = history.collect();
            bail!(
                "{} of {object:?} was answered with {}: {history:#?}",
                entry.verb,
                code(entry)
            );
        }
        let selector = entry
            .request_uri
            .split_once("labelSelector=")
            .map_or("", |(_, rest)| rest);
        let what = format!("{} {}{selector}", object.resource, object.name);
        *asked.entry((entry.verb.clone(), what)).or_default() += 1;
    }
    Ok(asked)
}

async fn check(cluster: &Cluster, account: &Identity, script: &[Step]) -> Result<()> {
    let whole = lived(cluster, account, script, Moment::Before, BTreeSet::new()).await?;
    let written = whole.gate.written();
    let expected = asked(cluster, &whole.space)?;
    ensure!(written.len() > 20, "{written:?}");
    let mut left: Vec<(Moment, BTreeSet<Write>)> = Vec::new();
    for moment in [Moment::Before, Moment::After] {
        left.extend((0..LIVES).map(|life| {
            (
                moment,
                written.iter().skip(life).step_by(LIVES).cloned().collect(),
            )
        }));
    }
    let (mut survived, mut count) = (BTreeSet::new(), 0);
    while !left.is_empty() {
        let lives = left.drain(..).map(|(moment, deadly)| async move {
            let life = lived(cluster, account, script, moment, deadly).await?;
            Ok::<_, anyhow::Error>((moment, life))
        });
        let lives: Vec<(Moment, Life)> = stream::iter(lives)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (moment, life) in &lives {
            compare(cluster, script, life, &whole, &expected)
                .with_context(|| format!("killed {moment:?} {:?}", life.gate.deaths()))?;
            survived.extend(life.gate.deaths().into_iter().map(|write| (*moment, write)));
        }
        count += lives.len();
        // One kill may make a later write needless, so that nobody could be killed at that one.
        let moments = [Moment::Before, Moment::After].into_iter();
        let all = moments.flat_map(|moment| written.iter().map(move |write| (moment, write.clone())));
        let mut missed =
            all.filter(|(moment, write)| !write.is_report() && !survived.contains(&(*moment, write.clone())));
        left.extend(
            missed
                .by_ref()
                .map(|(moment, write)| (moment, BTreeSet::from([write]))),
        );
        ensure!(
            count <= 2 * LIVES + MISSED && left.len() <= MISSED,
            "nobody was killed at {left:#?}"
        );
    }
    println!(
        "{} writes, {} kills in {count} lives",
        written.len(),
        survived.len()
    );
    Ok(())
}

/// Compares a life with one in which nobody was killed.
fn compare(
    cluster: &Cluster,
    script: &[Step],
    life: &Life,
    whole: &Life,
    expected: &BTreeMap<(String, String), usize>,
) -> Result<()> {
    for ((step, objects), expected) in script.iter().zip(&life.objects).zip(&whole.objects) {
        let differing = differing(objects, expected);
        ensure!(differing.is_empty(), "{}: {differing:#?}", step.name);
    }
    let differing = difference(&asked(cluster, &life.space)?, expected);
    // A PodGroup may stay for the group that takes the old one's place, if nobody was there to remove it in time.
    let is_spared =
        |what: &str, [found, expected]: [usize; 2]| found < expected && what.starts_with("podgroups");
    let is_wrong = |((_, what), times): (&(String, String), &[usize; 2])| !is_spared(what, *times);
    ensure!(!differing.iter().any(is_wrong), "{differing:#?}");
    let reports = |gate: &Gate| gate.written().iter().filter(|write| write.is_report()).count();
    let (found, most) = (
        reports(&life.gate),
        reports(&whole.gate) + REPORTS * life.gate.deaths().len(),
    );
    ensure!(found <= most, "{found} statuses and events, at most {most}");
    Ok(())
}

/// Objects that differ, or are there in one life alone.
fn differing<'o>(found: &'o Objects, expected: &'o Objects) -> BTreeMap<&'o String, [Option<&'o Value>; 2]> {
    let names: BTreeSet<&String> = found.keys().chain(expected.keys()).collect();
    let pairs = names
        .into_iter()
        .map(|name| (name, [found.get(name), expected.get(name)]));
    pairs.filter(|(_, [found, expected])| found != expected).collect()
}

/// Requests, as often as there were and as there should have been.
fn difference<K: Ord + Clone>(
    found: &BTreeMap<K, usize>,
    expected: &BTreeMap<K, usize>,
) -> BTreeMap<K, [usize; 2]> {
    let names: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
    let times = |all: &BTreeMap<K, usize>, name| all.get(name).copied().unwrap_or(0);
    let pairs = names
        .into_iter()
        .map(|name| (name.clone(), [times(found, name), times(expected, name)]));
    pairs.filter(|(_, [found, expected])| found != expected).collect()
}

#[tokio::test]
async fn killed_at_any_write_a_controller_leaves_nothing_undone_and_does_nothing_twice() -> Result<()> {
    let cluster = Cluster::builder().kwok().start().await?;
    cluster.apply_path(tools::volcano_crds()?).await?;
    cluster.apply(NODE).await?;
    let own = cluster.namespace("kthena").await?;
    let account = Controller::account(&cluster, &own).await?;
    for script in [by_group(), as_a_whole(), by_role()] {
        check(&cluster, &account, &script).await?;
    }
    Ok(())
}
