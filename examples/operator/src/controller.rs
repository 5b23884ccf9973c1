//! Watches, and doing what plans say.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kthena_sdk::api::ModelServing;
use kthena_sdk::apply::Applier;
use kthena_sdk::condition::is_true;
use kthena_sdk::event::Events;
use kthena_sdk::kube::{Api, Client};
use kthena_sdk::watch::{self, Selector};
use tokio::time::{Instant, sleep_until};

use crate::chat_service::{ChatService, READY};
use crate::index::{Index, Key};
use crate::plan::plan;

/// Who writes: the owner of fields, and the source of events.
pub const NAME: &str = "chat-operator";
/// What failed is tried again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until its future is dropped, which may happen anywhere: whoever is next goes on from what there is then.
pub async fn run(client: Client) {
    let worker = Worker {
        applier: Applier::new(client.clone(), NAME),
        events: Events::new(client.clone(), NAME),
    };
    let all = Selector::default();
    let mut services = pin!(watch::changes(
        Api::<ChatService>::all(client.clone()),
        all.clone()
    ));
    let mut servings = pin!(watch::changes(Api::<ModelServing>::all(client), all));
    let mut index = Index::default();
    let mut failed = BTreeSet::<Key>::new();
    let mut retry = Instant::now();
    loop {
        while let Some((key, service, serving)) = index.take() {
            if let Err(error) = worker.reconcile(&service, serving.as_ref()).await {
                tracing::warn!(namespace = key.0, name = key.1, "{error:#}");
                failed.insert(key);
                retry = Instant::now() + PAUSE;
            }
        }
        tokio::select! {
            Some(change) = services.next() => index.service(change),
            Some(change) = servings.next() => index.serving(change),
            () = sleep_until(retry), if !failed.is_empty() => {
                std::mem::take(&mut failed).into_iter().for_each(|key| index.again(key));
            }
        }
    }
}

struct Worker {
    applier: Applier,
    events: Events,
}

impl Worker {
    async fn reconcile(&self, service: &ChatService, serving: Option<&ModelServing>) -> Result<()> {
        let plan = plan(service, serving, Timestamp::now())?;
        if let Some(wanted) = plan.apply {
            self.applier.apply(&wanted).await?;
            let what = if serving.is_some() { "Changed" } else { "Created" };
            let note = format!("ModelServing {}", wanted.metadata.name.unwrap_or_default());
            self.events.normal(service, what, &note).await;
        }
        if let Some(status) = plan.status {
            let was_ready = service
                .status
                .as_ref()
                .is_some_and(|it| is_true(&it.conditions, READY));
            let is_ready = is_true(&status.conditions, READY);
            self.applier.apply_status(service, &status).await?;
            let events = &self.events;
            match (was_ready, is_ready) {
                (false, true) => events.normal(service, "Ready", "All replicas answer").await,
                (true, false) => events.warning(service, "NotReady", "Some do not answer").await,
                _ => {}
            }
        }
        Ok(())
    }
}
