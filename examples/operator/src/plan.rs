//! What is to be done about a ChatService. Everything follows from what there is.

use k8s_openapi::jiff::Timestamp;
use kthena_sdk::api::condition::model_serving::AVAILABLE;
use kthena_sdk::api::{ModelServing, ModelServingSpec};
use kthena_sdk::condition::{self, FALSE};
use kthena_sdk::{apply, owner};
use serde_json::json;

use crate::chat_service::{ChatService, ChatServiceStatus, NAME_TAKEN, READY};

/// The role of all pods.
const ROLE: &str = "engine";

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The ModelServing that is to be applied, where that would change something.
    pub apply: Option<ModelServing>,
    /// The status that is to be written, where it says anything new.
    pub status: Option<ChatServiceStatus>,
}

/// Decides what to do, with the ModelServing that has the ChatService's name.
///
/// # Errors
///
/// Where the ModelServing cannot be written as JSON.
pub fn plan(
    service: &ChatService,
    serving: Option<&ModelServing>,
    now: Timestamp,
) -> Result<Plan, serde_json::Error> {
    if service.metadata.deletion_timestamp.is_some() {
        // What it owns is collected with it.
        return Ok(Plan {
            apply: None,
            status: None,
        });
    }
    let foreign = serving.filter(|serving| !owner::controls(service, *serving));
    let wanted = desired(service)?;
    let apply = match serving {
        _ if foreign.is_some() => None,
        Some(found) if apply::covers(&serde_json::to_value(found)?, &serde_json::to_value(&wanted)?) => None,
        _ => Some(wanted),
    };
    let status = status(service, serving, foreign.is_some(), now);
    Ok(Plan {
        apply,
        status: (service.status.as_ref() != Some(&status)).then_some(status),
    })
}

/// The ModelServing of a ChatService.
///
/// # Errors
///
/// Never, as long as a ModelServing is what it is taken for here.
pub fn desired(service: &ChatService) -> Result<ModelServing, serde_json::Error> {
    let size = service.spec.size;
    let name = service.metadata.name.clone().unwrap_or_default();
    let engine = |args: Vec<&str>| {
        json!({ "spec": { "containers": [{
            "name": ROLE,
            "image": "vllm/vllm-openai:latest",
            "args": args,
            "resources": { "limits": { "nvidia.com/gpu": size.gpus().to_string() } },
        }] } })
    };
    let mut role = json!({
        "name": ROLE,
        "replicas": 1,
        "entryTemplate": engine(vec!["--model", &service.spec.model]),
    });
    if size.workers() > 0 {
        role["workerReplicas"] = size.workers().into();
        role["workerTemplate"] = engine(vec!["--model", &service.spec.model, "--headless"]);
    }
    let spec = json!({ "replicas": service.spec.replicas, "template": { "roles": [role] } });
    let mut serving = ModelServing::new(&name, serde_json::from_value::<ModelServingSpec>(spec)?);
    serving.metadata.namespace.clone_from(&service.metadata.namespace);
    serving.metadata.owner_references = Some(vec![owner::unblocking(owner::reference(service))]);
    Ok(serving)
}

fn status(
    service: &ChatService,
    serving: Option<&ModelServing>,
    is_foreign: bool,
    now: Timestamp,
) -> ChatServiceStatus {
    let generation = service.metadata.generation;
    let mut status = service.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    let theirs = serving.filter(|_| !is_foreign).and_then(|it| it.status.as_ref());
    status.available_replicas = theirs.and_then(|it| it.available_replicas).unwrap_or(0);
    let ready = if is_foreign {
        let message = "a ModelServing of this name belongs to somebody else";
        condition::new(READY, FALSE, NAME_TAKEN, message, generation, now)
    } else {
        let conditions = theirs.map_or(&[][..], |it| &it.conditions);
        let their_generation = serving.and_then(|it| it.metadata.generation);
        condition::told(READY, (conditions, their_generation), AVAILABLE, generation, now)
    };
    condition::set(&mut status.conditions, ready);
    status
}

#[cfg(test)]
mod tests;
