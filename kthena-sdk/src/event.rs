//! Events: what people read about an object.
//!
//! ```no_run
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::event::Events;
//! use kthena_sdk::kube::{Api, Client};
//!
//! # async fn example() -> Result<(), kthena_sdk::kube::Error> {
//! let client = Client::try_default().await?;
//! let events = Events::new(client.clone(), "my-operator");
//! let serving = Api::<ModelServing>::default_namespaced(client).get("llama").await?;
//! events.normal(&serving, "Seen", "It is there").await;
//! # Ok(())
//! # }
//! ```

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

/// Longest text of an event, in characters; the API server refuses a longer one.
pub const LONGEST_NOTE: usize = 1000;

/// Writes events. The same one again within some minutes is counted instead. The account needs `create` and `patch` of Events.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # #[cfg(feature = "testing")] {
/// use kthena_sdk::event::Events;
/// use kthena_sdk::k8s_openapi::api::events::v1::Event;
/// use kthena_sdk::testing::{FakeApi, serving};
///
/// let api = FakeApi::new();
/// let serving = api.add(&serving("llama").build());
/// let events = Events::new(api.client(), "my-operator");
/// events.warning(&serving, "Refused", "a pod is refused").await;
/// assert_eq!(api.list::<Event>()[0].type_.as_deref(), Some("Warning"));
/// # }
/// # });
/// ```
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Writes them as this controller.
    #[must_use]
    pub fn new(client: Client, controller: &str) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: None,
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells that something happened as it should. An event that cannot be written is logged, and no reason not to go on.
    pub async fn normal<K>(&self, object: &K, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.write(object, EventType::Normal, reason, note).await;
    }

    /// Tells that something is wrong. An event that cannot be written is logged, and no reason not to go on.
    pub async fn warning<K>(&self, object: &K, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.write(object, EventType::Warning, reason, note).await;
    }

    async fn write<K>(&self, object: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            action: reason.to_owned(),
            note: Some(shortened(note).to_owned()),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(%error, reason, "an event was not written");
        }
    }
}

/// As much of a text as an event holds.
///
/// ```
/// use kthena_sdk::event::{LONGEST_NOTE, shortened};
///
/// assert_eq!(shortened("short"), "short");
/// assert_eq!(shortened(&"ü".repeat(2000)).chars().count(), LONGEST_NOTE);
/// ```
pub fn shortened(note: &str) -> &str {
    match note.char_indices().nth(LONGEST_NOTE) {
        Some((end, _)) => &note[..end],
        None => note,
    }
}
