//! `GET /v1/models`.

use serde::Serialize;

use super::common::hex16;
use crate::engine::Engine;
use crate::http::respond::Reply;

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Card<'a>>,
}

#[derive(Serialize)]
struct Card<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    root: &'a str,
    parent: Option<&'a str>,
    max_model_len: Option<u32>,
    permission: [Permission; 1],
}

#[derive(Serialize)]
struct Permission {
    id: String,
    object: &'static str,
    created: u64,
    allow_create_engine: bool,
    allow_sampling: bool,
    allow_logprobs: bool,
    allow_search_indices: bool,
    allow_view: bool,
    allow_fine_tuning: bool,
    organization: &'static str,
    group: Option<&'static str>,
    is_blocking: bool,
}

/// Lists the base model under each of its names, and the adapters.
pub(crate) fn list(engine: &Engine) -> Reply {
    let models = engine.models.lock();
    let card = |id, created, root, parent, max_model_len| Card {
        id,
        object: "model",
        created,
        owned_by: "vllm",
        root,
        parent,
        max_model_len,
        permission: [Permission {
            id: format!("modelperm-{}", hex16()),
            object: "model_permission",
            created,
            allow_create_engine: false,
            allow_sampling: true,
            allow_logprobs: true,
            allow_search_indices: false,
            allow_view: true,
            allow_fine_tuning: false,
            organization: "*",
            group: None,
            is_blocking: false,
        }],
    };
    let longest = Some(engine.config.max_model_len);
    let base = models
        .names()
        .iter()
        .map(|name| card(name, models.created(), models.root(), None, longest));
    let parent = models.names().first().map(String::as_str);
    let adapters = models
        .adapters()
        .iter()
        .map(|adapter| card(&adapter.name, adapter.created, &adapter.path, parent, None));
    Reply::json(
        200,
        &List {
            object: "list",
            data: base.chain(adapters).collect(),
        },
    )
}
