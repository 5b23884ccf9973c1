//! The controller of LeaderWorkerSets: watches, plans, and what is done about them, as long as the cluster knows the kind.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::jiff::Timestamp;
use kthena_api::external::leader_worker_set::{LeaderWorkerSet, LeaderWorkerSetStatus};
use kthena_api::{ModelServing, labels};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::controller::{self, Action as Next};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Action, Notice, Observed, plan};
use crate::event::Events;
use crate::model_serving::execute::FIELD_MANAGER;
use crate::rbac::{Rights, Rule, Verb};
use crate::watch::{self as follow, Change, Selector, optional};

/// Name of the definition of LeaderWorkerSets.
const DEFINITION: &str = "leaderworkersets.leaderworkerset.x-k8s.io";
/// Name of the definition of PodGroups.
const POD_GROUPS: &str = "podgroups.scheduling.volcano.sh";
/// LeaderWorkerSets that are worked on at a time.
const WORKERS: u16 = 4;
/// LeaderWorkerSets that may wait to be looked at.
const REQUESTS: usize = 1024;
/// Kinds that must be known before anything is planned: otherwise what is there already would be made again.
const KINDS: usize = 3;
/// A plan is made anew after this long, even if nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(600);
/// What was refused is tried again after this long: the reason may not be the LeaderWorkerSet's own.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// What met a newer version is tried again after this long, unless a watch tells of it before.
const AFTER_CONFLICT: Duration = Duration::from_secs(10);
/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a plan could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("writing the ModelServing failed")]
    Serving(#[source] Box<kube::Error>),
    #[error("writing the status failed")]
    Status(#[source] Box<kube::Error>),
}

/// What watches and reconciles share.
struct Context {
    client: Client,
    events: Events,
    sets: reflector::Store<LeaderWorkerSet>,
    /// By namespace and name.
    servings: Mutex<HashMap<(String, String), Arc<ModelServing>>>,
    has_pod_groups: AtomicBool,
    requests: mpsc::Sender<ObjectRef<LeaderWorkerSet>>,
    /// How many kinds are known.
    known: watch::Sender<usize>,
    /// Failures in a row.
    failures: Mutex<HashMap<ObjectRef<LeaderWorkerSet>, u32>>,
}

/// What came of an action.
enum Outcome {
    /// It is done. A watch will tell of it, or has told of something newer.
    Done,
    /// The ModelServing is not what the plan was made for.
    Outdated,
    /// Nothing was different after all.
    Nothing,
    /// The API server does not take it, and says why.
    Refused(String),
}

/// Runs until its future is dropped. The definition of LeaderWorkerSets may come and go meanwhile.
///
/// ```no_run
/// # async fn example() -> Result<(), kthena_sdk::kube::Error> {
/// let client = kthena_sdk::kube::Client::try_default().await?;
/// kthena_sdk::leader_worker_set::controller::run(client).await;
/// # Ok(())
/// # }
/// ```
pub async fn run(client: Client) {
    let mut definitions = std::pin::pin!(optional::definition(client.clone(), DEFINITION));
    let mut work: Option<optional::Task> = None;
    while let Some(definition) = definitions.next().await {
        let version = LeaderWorkerSet::version(&());
        let is_there = definition.is_some_and(|it| optional::has_version(&it, &version));
        if is_there && work.is_none() {
            tracing::info!("LeaderWorkerSets are looked after");
            work = Some(optional::Task::spawn(look_after(client.clone())));
        } else if !is_there && work.take().is_some() {
            tracing::info!("LeaderWorkerSets are not known any more");
        }
    }
}

/// What the controller asks of the API server, in all namespaces.
///
/// ```
/// use kthena_sdk::rbac::Verb;
///
/// let rights = kthena_sdk::leader_worker_set::controller::rights();
/// assert!(rights.allow_everywhere("leaderworkerset.x-k8s.io", "leaderworkersets/status", Verb::Patch, None));
/// assert!(!rights.allow_everywhere("", "pods", Verb::Create, None));
/// ```
#[must_use]
pub fn rights() -> Rights {
    let watches = Rights::everywhere([follow::rule::<LeaderWorkerSet>(), follow::rule::<ModelServing>()]);
    let writes = Rights::everywhere([
        Rule::of::<ModelServing>([Verb::Create, Verb::Patch]),
        Rule::of::<LeaderWorkerSet>([Verb::Patch]).subresource("status"),
        // Owner references that block the owner's deletion, where the API server asks for it.
        Rule::of::<LeaderWorkerSet>([Verb::Update]).subresource("finalizers"),
        // An event that comes again is counted.
        Rule::of::<KubeEvent>([Verb::Create, Verb::Patch]),
    ]);
    watches
        .and(optional::rights(DEFINITION))
        .and(optional::rights(POD_GROUPS))
        .and(writes)
}

async fn look_after(client: Client) {
    let (requests, mut waiting) = mpsc::channel(REQUESTS);
    let (store, writer) = reflector::store::<LeaderWorkerSet>();
    let context = Arc::new(Context {
        events: Events::new(client.clone(), labels::LEADER_WORKER_SET_EVENT_SOURCE),
        client,
        sets: store.clone(),
        servings: Mutex::default(),
        has_pod_groups: AtomicBool::new(false),
        requests,
        known: watch::Sender::new(0),
        failures: Mutex::default(),
    });
    let mut watches = JoinSet::new();
    watches.spawn(sets(context.clone(), writer));
    watches.spawn(servings(context.clone()));
    watches.spawn(pod_groups(context.clone()));
    let queue = stream::poll_fn(move |waker| waiting.poll_recv(waker));
    let queue = queue.map(Ok::<_, std::convert::Infallible>);
    let config = controller::Config::default().concurrency(WORKERS);
    let reconcile = |set, context| reconcile(set, context).boxed();
    let results = controller::applier(reconcile, on_error, context, store, queue, config);
    // Failures have been logged where they are counted.
    results.for_each(|_result| std::future::ready(())).await;
}

impl Context {
    async fn request(&self, sets: impl IntoIterator<Item = ObjectRef<LeaderWorkerSet>>) {
        for set in sets {
            // Nobody listens any more when the work is about to end.
            let _ended = self.requests.send(set).await;
        }
    }

    /// Asks for the LeaderWorkerSets of some names, where there are any.
    async fn request_by_name<'a>(&self, names: impl IntoIterator<Item = &'a (String, String)>) {
        let refs = names
            .into_iter()
            .map(|(namespace, name)| ObjectRef::new(name).within(namespace));
        let there: Vec<ObjectRef<LeaderWorkerSet>> = refs.filter(|it| self.sets.get(it).is_some()).collect();
        self.request(there).await;
    }

    fn is_known(&self, first: &mut bool) {
        if std::mem::take(first) {
            self.known.send_modify(|known| *known += 1);
        }
    }
}

async fn sets(context: Arc<Context>, mut writer: reflector::store::Writer<LeaderWorkerSet>) {
    let api = Api::<LeaderWorkerSet>::all(context.client.clone());
    let mut changes = std::pin::pin!(follow::changes(api, Selector::default()));
    let mut first = true;
    while let Some(change) = changes.next().await {
        match change {
            Change::Reset(all) => {
                let refs: Vec<_> = all.iter().map(ObjectRef::from_obj).collect();
                writer.apply_watcher_event(&watcher::Event::Init);
                for set in all {
                    writer.apply_watcher_event(&watcher::Event::InitApply(set));
                }
                writer.apply_watcher_event(&watcher::Event::InitDone);
                context.is_known(&mut first);
                context.request(refs).await;
            }
            Change::Apply(set) => {
                let one = ObjectRef::from_obj(&set);
                writer.apply_watcher_event(&watcher::Event::Apply(set));
                context.request([one]).await;
            }
            Change::Delete(set) => {
                context.failures.lock().remove(&ObjectRef::from_obj(&set));
                writer.apply_watcher_event(&watcher::Event::Delete(set));
            }
            Change::Undecodable {
                namespace,
                name,
                error,
            } => {
                tracing::warn!(%namespace, %name, %error, "the LeaderWorkerSet cannot be read and stays as it is");
            }
            Change::Interrupted(error) => tracing::warn!(%error, "the watch of LeaderWorkerSets broke"),
        }
    }
}

async fn servings(context: Arc<Context>) {
    let api = Api::<ModelServing>::all(context.client.clone());
    let mut changes = std::pin::pin!(follow::changes(api, Selector::default()));
    let mut first = true;
    while let Some(change) = changes.next().await {
        match change {
            Change::Reset(all) => {
                let all: HashMap<_, _> = all.into_iter().map(entry).collect();
                let mut names: Vec<_> = all.keys().cloned().collect();
                let before = std::mem::replace(&mut *context.servings.lock(), all);
                names.extend(before.into_keys());
                context.is_known(&mut first);
                context.request_by_name(&names).await;
            }
            Change::Apply(serving) => {
                let (key, serving) = entry(serving);
                context.servings.lock().insert(key.clone(), serving);
                context.request_by_name([&key]).await;
            }
            Change::Delete(serving) => {
                let (key, _) = entry(serving);
                context.servings.lock().remove(&key);
                context.request_by_name([&key]).await;
            }
            // It is there, and the controller of ModelServings says so; nothing can be planned with it.
            Change::Undecodable { .. } => {}
            Change::Interrupted(error) => tracing::warn!(%error, "the watch of ModelServings broke"),
        }
    }
}

fn entry(mut serving: ModelServing) -> ((String, String), Arc<ModelServing>) {
    serving.metadata.managed_fields = None;
    let key = (serving.namespace().unwrap_or_default(), serving.name_any());
    (key, Arc::new(serving))
}

async fn pod_groups(context: Arc<Context>) {
    let mut definitions = std::pin::pin!(optional::definition(context.client.clone(), POD_GROUPS));
    let mut first = true;
    while let Some(definition) = definitions.next().await {
        context
            .has_pod_groups
            .store(definition.is_some(), Ordering::Relaxed);
        context.is_known(&mut first);
    }
}

async fn reconcile(set: Arc<LeaderWorkerSet>, context: Arc<Context>) -> Result<Next, Error> {
    // An error says that the sender is gone, which is this context.
    let mut known = context.known.subscribe();
    drop(known.wait_for(|known| *known >= KINDS).await);
    if set.metadata.deletion_timestamp.is_some() {
        return Ok(Next::await_change());
    }
    let key = (set.namespace().unwrap_or_default(), set.name_any());
    let serving = context.servings.lock().get(&key).cloned();
    let observed = Observed {
        serving: serving.as_deref(),
        has_pod_groups: context.has_pod_groups.load(Ordering::Relaxed),
    };
    let mut plan = plan(&set, observed, Timestamp::now());
    let mut next = RESYNC;
    if let Some(action) = plan.action.take() {
        match act(&context, &set, &action, serving.as_deref()).await? {
            // The status is that of before; what comes of the action leads here again.
            Outcome::Done => {
                context.failures.lock().remove(&ObjectRef::from_obj(&*set));
                tell(&context, &set, action.notice()).await;
                return Ok(Next::requeue(RESYNC));
            }
            Outcome::Outdated => return Ok(Next::requeue(AFTER_CONFLICT)),
            Outcome::Nothing => {}
            Outcome::Refused(message) => {
                plan = plan.refused(&set, observed, &message, Timestamp::now());
                next = AFTER_REFUSAL;
            }
        }
    }
    if set.status.as_ref() != Some(&plan.status) {
        if !write_status(&context, &set, &plan.status).await? {
            return Ok(Next::requeue(AFTER_CONFLICT));
        }
        if let Some(notice) = plan.notice {
            tell(&context, &set, notice).await;
        }
    }
    context.failures.lock().remove(&ObjectRef::from_obj(&*set));
    Ok(Next::requeue(next))
}

async fn act(
    context: &Context,
    set: &LeaderWorkerSet,
    action: &Action,
    serving: Option<&ModelServing>,
) -> Result<Outcome, Error> {
    let namespace = set.namespace().unwrap_or_default();
    let api = Api::<ModelServing>::namespaced(context.client.clone(), &namespace);
    let result = match action {
        Action::Create(serving) => {
            let post = PostParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PostParams::default()
            };
            api.create(&post, serving).await
        }
        Action::Patch(patch) => {
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(&set.name_any(), &params, &Patch::Merge(patch)).await
        }
    };
    match result {
        Ok(written) => {
            let before = serving.and_then(|serving| serving.metadata.resource_version.as_ref());
            let is_same = before.is_some() && before == written.metadata.resource_version.as_ref();
            Ok(if is_same { Outcome::Nothing } else { Outcome::Done })
        }
        Err(kube::Error::Api(status)) => match (status.code, action) {
            (409, _) | (404, Action::Patch(_)) => Ok(Outcome::Outdated),
            (400 | 403 | 422, _) => Ok(Outcome::Refused(status.message.clone())),
            _ => Err(Error::Serving(Box::new(kube::Error::Api(status)))),
        },
        Err(error) => Err(Error::Serving(Box::new(error))),
    }
}

/// Whether it was written: somebody else may have changed the LeaderWorkerSet, or removed it.
async fn write_status(
    context: &Context,
    set: &LeaderWorkerSet,
    status: &LeaderWorkerSetStatus,
) -> Result<bool, Error> {
    let namespace = set.namespace().unwrap_or_default();
    let api = Api::<LeaderWorkerSet>::namespaced(context.client.clone(), &namespace);
    // A merge patch leaves what others have put there, and takes no offence at an older definition that lacks a field.
    let patch = json!({
        "metadata": { "resourceVersion": set.metadata.resource_version },
        "status": status,
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&set.name_any(), &params, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => Err(Error::Status(Box::new(error))),
    }
}

async fn tell(context: &Context, set: &LeaderWorkerSet, notice: Notice) {
    match notice.is_warning {
        true => context.events.warning(set, &notice.reason, &notice.message).await,
        false => context.events.normal(set, &notice.reason, &notice.message).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn on_error(set: Arc<LeaderWorkerSet>, error: &Error, context: Arc<Context>) -> Next {
    let mut failures = context.failures.lock();
    let count = failures.entry(ObjectRef::from_obj(&*set)).or_default();
    let pause = FIRST_PAUSE
        .saturating_mul(1 << (*count).min(10))
        .min(LONGEST_PAUSE);
    *count = count.saturating_add(1);
    let cause = std::error::Error::source(error);
    tracing::warn!(namespace = ?set.namespace(), name = set.name_any(), %error, cause, ?pause, "the plan could not be carried out");
    Next::requeue(pause)
}
