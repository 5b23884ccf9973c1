//! The controller of ModelServings: watches, plans, and what is done about them.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt, stream};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::events::v1::Event as KubeEvent;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kthena_api::condition::model_serving as types;
use kthena_api::{ModelServing, ModelServingStatus, labels};
use kube::api::PostParams;
use kube::runtime::controller::{self, Action};
use kube::runtime::events::{self, EventType, Recorder, Reporter};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

mod pace;

use super::execute::{self, AT_ONCE, Error, Executor};
use super::gang::{self, PodGroupObject};
use super::index::{Index, Indexed, Key};
use super::lean::LeanPod;
use super::notice::{self, Notice};
use super::plan_with;
use super::plugin::Registry;
use super::status::set_failure;
use super::view::View;
use crate::rbac::{Rights, Rule, Verb};
use crate::telemetry::{Observer, Outcome, Work};
use crate::watch::{self as follow, Change, Selector, optional};

/// Name of the definition of PodGroups.
const POD_GROUPS: &str = "podgroups.scheduling.volcano.sh";
/// A plan is made anew after this long, even if nothing seems to have changed.
const RESYNC: Duration = Duration::from_secs(600);
/// A ModelServing is planned for at most once in this time: pods that come up together make one plan and one status.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Longest text of an event, as Kubernetes has it.
const LONGEST_NOTE: usize = 1000;
/// ModelServings that may wait to be looked at.
const REQUESTS: usize = 4096;
/// Kinds that must be known before anything is planned: otherwise what is there already would be made again.
const KINDS: usize = 6;

/// The controller of ModelServings.
///
/// ```no_run
/// # async fn example() -> Result<(), kthena_sdk::kube::Error> {
/// use kthena_sdk::model_serving::{controller::Controller, plugin::Registry};
///
/// let client = kthena_sdk::kube::Client::try_default().await?;
/// let controller = Controller::new(client, 5, Registry::built_in(), std::sync::Arc::new(()));
/// let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
/// controller.run(stop).await;
/// # Ok(())
/// # }
/// ```
pub struct Controller {
    context: Arc<Context>,
    waiting: mpsc::Receiver<ObjectRef<ModelServing>>,
    store: reflector::Store<ModelServing>,
    writer: reflector::store::Writer<ModelServing>,
    workers: u16,
}

/// What watches and reconciles share.
struct Context {
    client: Client,
    plugins: Registry,
    observer: Arc<dyn Observer>,
    recorder: Recorder,
    index: Arc<Index>,
    requests: mpsc::Sender<ObjectRef<ModelServing>>,
    /// Kinds that are known.
    known: watch::Sender<BTreeSet<Cow<'static, str>>>,
    marks: Mutex<HashMap<Key, Mark>>,
}

/// What is remembered of a ModelServing between plans. A restart may forget it.
#[derive(Default)]
struct Mark {
    /// Failures in a row.
    failures: u32,
    /// The status that was written last, and the version of the object that came of it: the watch may not know it yet.
    written: Option<(u64, ModelServingStatus)>,
    /// What was told of what keeps pods from being made.
    problems: BTreeSet<String>,
    /// What was told of what runs.
    running: notice::Running,
}

impl Controller {
    /// A controller that works on so many ModelServings at a time at most, and tells the observer what it does. ModelServings may use these
    /// plugins.
    #[must_use]
    pub fn new(client: Client, workers: u16, plugins: Registry, observer: Arc<dyn Observer>) -> Self {
        let (requests, waiting) = mpsc::channel(REQUESTS);
        let reporter = Reporter {
            controller: labels::MODEL_SERVING_EVENT_SOURCE.to_owned(),
            instance: None,
        };
        let context = Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            plugins,
            observer,
            index: Arc::default(),
            requests,
            known: watch::Sender::default(),
            marks: Mutex::default(),
        });
        let (store, writer) = reflector::store();
        Self {
            context,
            waiting,
            store,
            writer,
            workers,
        }
    }

    /// What it knows, at any time.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), kthena_sdk::kube::Error> {
    /// use kthena_sdk::model_serving::{controller::Controller, plugin::Registry};
    ///
    /// let client = kthena_sdk::kube::Client::try_default().await?;
    /// let controller = Controller::new(client, 5, Registry::built_in(), std::sync::Arc::new(()));
    /// let view = controller.view();
    /// tokio::spawn(controller.run(std::future::pending()));
    /// println!("{:#}", view.all());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn view(&self) -> View {
        View {
            servings: self.store.clone(),
            index: self.context.index.clone(),
        }
    }

    /// Runs. Once `stop` resolves nothing new is begun, and this returns when what was under way has ended.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self {
            context,
            waiting,
            store,
            writer,
            workers,
        } = self;
        let mut watches = JoinSet::new();
        watches.spawn(servings(context.clone(), writer));
        watches.spawn(children::<LeanPod>(context.clone(), owned()));
        watches.spawn(children::<Service>(context.clone(), owned()));
        watches.spawn(children::<ControllerRevision>(context.clone(), owned()));
        watches.spawn(children::<PodDisruptionBudget>(context.clone(), owned()));
        watches.spawn(definitions(context.clone()));
        let stop = stop.shared();
        let queue = pace::paced(waiting, PAUSE).take_until(stop.clone());
        let queue = queue.map(Ok::<_, std::convert::Infallible>);
        let config = controller::Config::default().concurrency(workers);
        let work = |serving, context| work(serving, context).boxed();
        let results = controller::applier(work, on_error, context.clone(), store, queue, config);
        // Failures have been logged where they are counted.
        let rest = results.for_each(|_result| std::future::ready(()));
        let idle = async {
            stop.await;
            if context.known.borrow().len() >= KINDS {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = rest => {}
            // Nothing was begun yet, and it would wait for the first lists.
            () = idle => {}
        }
    }
}

/// What the controller asks of the API server, in all namespaces.
///
/// ```
/// use kthena_sdk::rbac::Verb;
///
/// let rights = kthena_sdk::model_serving::controller::rights();
/// assert!(rights.allow_everywhere("", "pods", Verb::Watch, None));
/// assert!(!rights.allow_everywhere("", "secrets", Verb::Get, None));
/// ```
#[must_use]
pub fn rights() -> Rights {
    let watches = Rights::everywhere([
        follow::rule::<ModelServing>(),
        follow::rule::<LeanPod>(),
        follow::rule::<Service>(),
        follow::rule::<ControllerRevision>(),
        follow::rule::<PodDisruptionBudget>(),
        follow::rule::<PodGroupObject>(),
    ]);
    // An event that comes again is counted.
    let events = Rights::everywhere([Rule::of::<KubeEvent>([Verb::Create, Verb::Patch])]);
    watches
        .and(optional::rights(POD_GROUPS))
        .and(execute::rights())
        .and(events)
}

/// Selects what belongs to a ModelServing.
fn owned() -> Selector {
    Selector {
        labels: Some(labels::MODEL_SERVING_NAME.to_owned()),
        ..Selector::default()
    }
}

impl Context {
    async fn request(&self, keys: impl IntoIterator<Item = Key>) {
        for (namespace, name) in keys {
            // Nobody listens any more when the process is about to end.
            let _ended = self.requests.send(ObjectRef::new(&name).within(&namespace)).await;
        }
    }

    /// Takes note that all of a kind is known, or that the cluster does not have the kind.
    fn is_known<K: Resource<DynamicType = ()>>(&self) {
        let is_news = self.known.send_if_modified(|known| known.insert(K::kind(&())));
        if is_news && self.known.borrow().len() == KINDS {
            self.observer.synced();
        }
    }
}

async fn servings(context: Arc<Context>, mut writer: reflector::store::Writer<ModelServing>) {
    let api = Api::<ModelServing>::all(context.client.clone());
    let mut changes = std::pin::pin!(follow::changes(api, Selector::default()));
    while let Some(change) = changes.next().await {
        match change {
            Change::Reset(all) => {
                let keys: Vec<Key> = all.iter().map(key_of).collect();
                writer.apply_watcher_event(&Event::Init);
                for serving in all {
                    writer.apply_watcher_event(&Event::InitApply(serving));
                }
                writer.apply_watcher_event(&Event::InitDone);
                context.is_known::<ModelServing>();
                context.request(keys).await;
            }
            Change::Apply(serving) => {
                let key = key_of(&serving);
                writer.apply_watcher_event(&Event::Apply(serving));
                context.request([key]).await;
            }
            Change::Delete(serving) => {
                context.marks.lock().remove(&key_of(&serving));
                writer.apply_watcher_event(&Event::Delete(serving));
            }
            Change::Undecodable {
                namespace,
                name,
                error,
            } => {
                tracing::warn!(%namespace, %name, %error, "the ModelServing cannot be read and stays as it is");
            }
            Change::Interrupted(error) => tracing::warn!(%error, "the watch of ModelServings broke"),
        }
    }
}

fn key_of(serving: &ModelServing) -> Key {
    let metadata = &serving.metadata;
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

async fn children<K>(context: Arc<Context>, selector: Selector)
where
    K: Indexed + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let api = Api::<K>::all(context.client.clone());
    let mut changes = std::pin::pin!(follow::changes(api, selector));
    while let Some(change) = changes.next().await {
        if let Change::Interrupted(error) = &change {
            tracing::warn!(kind = %K::kind(&()), %error, "the watch broke");
        }
        let is_list = matches!(change, Change::Reset(_));
        let keys = context.index.update(change);
        if is_list {
            context.is_known::<K>();
        }
        context.request(keys).await;
    }
}

/// Follows the definition of PodGroups, and PodGroups as long as it is there.
async fn definitions(context: Arc<Context>) {
    let mut definitions = std::pin::pin!(optional::definition(context.client.clone(), POD_GROUPS));
    let mut pod_groups: Option<optional::Task> = None;
    while let Some(definition) = definitions.next().await {
        let support = definition.as_ref().map(gang::Support::of);
        if support.is_none() {
            pod_groups = None;
            context.is_known::<PodGroupObject>();
        } else if pod_groups.is_none() {
            let watch = children::<PodGroupObject>(context.clone(), owned());
            pod_groups = Some(optional::Task::spawn(watch));
        }
        let keys = context.index.set_gang(support);
        context.request(keys).await;
    }
}

/// Reconciles, once all is known, and tells of it.
async fn work(serving: Arc<ModelServing>, context: Arc<Context>) -> Result<Action, Error> {
    // An error says that the sender is gone, which is this context.
    let mut known = context.known.subscribe();
    drop(known.wait_for(|known| known.len() >= KINDS).await);
    let work = Work::begin(context.observer.clone());
    let result = reconcile(serving, context).await;
    work.end(if result.is_ok() {
        Outcome::Done
    } else {
        Outcome::Failed
    });
    result
}

async fn reconcile(serving: Arc<ModelServing>, context: Arc<Context>) -> Result<Action, Error> {
    let key = key_of(&serving);
    let serving = with_latest_status(&serving, &context, &key);
    let observed = context.index.observe(&key);
    let plan = plan_with(&serving, &observed, &context.plugins, Timestamp::now());
    let executor = Executor {
        client: context.client.clone(),
        index: context.index.clone(),
    };
    if let Err(error) = executor.run(&key, &plan.actions).await {
        let message = format!("{error}: {}", error.source);
        let mut status = serving.status.clone().unwrap_or_default();
        set_failure(
            &mut status.conditions,
            serving.metadata.generation,
            types::REQUEST_FAILED,
            Some(message.clone()),
            Timestamp::now(),
        );
        if let Err(error) = report(&context, &executor, &serving, status).await {
            tracing::debug!(%error, cause = %error.source, "a failure was not told");
        }
        complain(&context, &serving, message).await;
        return Err(error);
    }
    let mut notices = notice::decisions(&key.1, &plan);
    let (running, tell_at, problems) = {
        let mut marks = context.marks.lock();
        let mark = marks.entry(key.clone()).or_default();
        let (running, tell_at) = mark
            .running
            .update(&key.1, &plan.running, &plan.whole, Timestamp::now());
        let problems: Vec<String> = plan.problems.difference(&mark.problems).cloned().collect();
        mark.problems.clone_from(&plan.problems);
        (running, tell_at, problems)
    };
    notices.extend(running);
    tell(&context, &serving, notices).await;
    for problem in problems {
        complain(&context, &serving, problem).await;
    }
    report(&context, &executor, &serving, plan.status).await?;
    context.marks.lock().entry(key).or_default().failures = 0;
    let wake = plan.wake_at.into_iter().chain(tell_at).min().map(|time| {
        let left = time.duration_since(Timestamp::now());
        Duration::try_from(left).unwrap_or_default()
    });
    Ok(Action::requeue(wake.unwrap_or(RESYNC).min(RESYNC)))
}

/// Writes the status where it says anything new.
async fn report(
    context: &Context,
    executor: &Executor,
    serving: &ModelServing,
    status: ModelServingStatus,
) -> Result<(), Error> {
    if serving.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let key = key_of(serving);
    if let Some(version) = executor.write_status(&key, &status).await? {
        let mut marks = context.marks.lock();
        marks.entry(key).or_default().written = Some((version, status));
    }
    Ok(())
}

/// Writes events, each one by itself: they are about different groups, or different instances of one. One that cannot be written is no
/// reason not to go on.
async fn tell(context: &Context, serving: &ModelServing, notices: Vec<Notice>) {
    let namespace = serving.metadata.namespace.clone().unwrap_or_default();
    let api = Api::<KubeEvent>::namespaced(context.client.clone(), &namespace);
    let events = notices.into_iter().map(|notice| event(serving, notice));
    let write = async |event: KubeEvent| {
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::warn!(%error, reason = event.reason, "an event was not written");
        }
    };
    stream::iter(events).for_each_concurrent(AT_ONCE, write).await;
}

fn event(serving: &ModelServing, Notice { reason, message }: Notice) -> KubeEvent {
    KubeEvent {
        metadata: ObjectMeta {
            generate_name: serving.metadata.name.as_ref().map(|name| format!("{name}-")),
            ..ObjectMeta::default()
        },
        action: Some(reason.to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        note: Some(message),
        reason: Some(reason.to_owned()),
        regarding: Some(serving.object_ref(&())),
        reporting_controller: Some(labels::MODEL_SERVING_EVENT_SOURCE.to_owned()),
        reporting_instance: Some(labels::MODEL_SERVING_EVENT_SOURCE.to_owned()),
        type_: Some("Normal".to_owned()),
        ..KubeEvent::default()
    }
}

/// Writes an event that says what went wrong. As long as it goes on, there is one, which is counted.
async fn complain(context: &Context, serving: &ModelServing, mut note: String) {
    if let Some((end, _)) = note.char_indices().nth(LONGEST_NOTE) {
        note.truncate(end);
    }
    let event = events::Event {
        type_: EventType::Warning,
        reason: notice::FAILED.to_owned(),
        note: Some(note),
        action: notice::FAILED.to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&event, &serving.object_ref(&())).await {
        tracing::debug!(%error, "an event was not written");
    }
}

/// The ModelServing with the status that was written last, where the watch has not told of that yet.
fn with_latest_status(serving: &Arc<ModelServing>, context: &Context, key: &Key) -> Arc<ModelServing> {
    let seen = serving.metadata.resource_version.as_deref();
    let seen: u64 = seen.and_then(|version| version.parse().ok()).unwrap_or(0);
    let marks = context.marks.lock();
    let written = marks.get(key).and_then(|mark| mark.written.as_ref());
    match written {
        Some((version, status)) if *version > seen => {
            let mut serving = serving.as_ref().clone();
            serving.status = Some(status.clone());
            Arc::new(serving)
        }
        _ => serving.clone(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the signature is kube's")]
fn on_error(serving: Arc<ModelServing>, error: &Error, context: Arc<Context>) -> Action {
    let key = key_of(&serving);
    let mut marks = context.marks.lock();
    let mark = marks.entry(key.clone()).or_default();
    mark.failures = mark.failures.saturating_add(1);
    let pause = FIRST_PAUSE
        .saturating_mul(1 << (mark.failures - 1).min(10))
        .min(LONGEST_PAUSE);
    tracing::warn!(namespace = key.0, name = key.1, %error, cause = %error.source, ?pause, "the plan could not be carried out");
    Action::requeue(pause)
}
