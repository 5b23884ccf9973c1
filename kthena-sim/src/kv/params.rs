//! The members of a request and of an answer that are about hand-over.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Give, Take, Transfer};
use crate::config::{Config, Connector, Role};
use crate::text::tokenizer::Token;

/// SGLang's default bootstrap port.
const BOOTSTRAP_PORT: u16 = 8998;

/// What a prefill engine says about a prompt it keeps.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) block_ids: &'a [u32],
    pub(crate) computed_tokens: u32,
    /// Told only by a prefill of one token.
    pub(crate) cached_tokens: Option<u32>,
    pub(crate) last_token: Token,
    pub(crate) engine_id: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: u16,
}

/// NIXL's object, in the recorded order.
#[derive(Serialize)]
struct Nixl<'a> {
    do_remote_prefill: bool,
    do_remote_decode: bool,
    remote_block_ids: [&'a [u32]; 1],
    remote_engine_id: &'a str,
    remote_request_id: &'a str,
    remote_host: &'a str,
    remote_port: u16,
    tp_size: u32,
    dcp_size: u32,
    pp_size: u32,
    remote_num_tokens: u32,
    remote_blocks_expiry_time: Option<f64>,
    transfer_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_prefill_cached_tokens: Option<u32>,
}

/// The object of vLLM-Ascend's Mooncake connector.
#[derive(Serialize)]
struct Ascend<'a> {
    do_remote_prefill: bool,
    do_remote_decode: bool,
    remote_block_ids: [&'a [u32]; 1],
    remote_engine_id: &'a str,
    remote_request_id: &'a str,
    remote_host: &'a str,
    remote_port: u16,
    remote_pcp_size: u32,
    remote_dcp_size: u32,
    remote_ptp_size: u32,
    last_token_id: Token,
    remote_multi_nodes_meta_mapping: Map<String, Value>,
    num_prompt_blocks: usize,
}

/// What a request asks for.
pub(crate) fn transfer(config: &Config, body: &Map<String, Value>) -> Transfer {
    let params = body.get("kv_transfer_params").and_then(Value::as_object);
    match config.connector {
        Connector::None | Connector::Lmcache => Transfer::None,
        Connector::Sglang => room(config, body),
        Connector::Nixl | Connector::MooncakeAscend => match params {
            Some(params) if flag(params, "do_remote_prefill") => answered(config, params),
            Some(params) if flag(params, "do_remote_decode") => Transfer::Give(Give::Answered),
            _ => Transfer::None,
        },
        Connector::Mooncake => match params {
            Some(params) if flag(params, "do_remote_prefill") => match config.role {
                Role::Prefill => Transfer::Fatal,
                Role::Plain | Role::Decode => named(params),
            },
            Some(params) if flag(params, "do_remote_decode") => {
                match (config.role, text(params, "transfer_id")) {
                    (Role::Decode, _) => Transfer::Fatal,
                    (_, Some(id)) => Transfer::Give(Give::Named(id)),
                    (_, None) => Transfer::None,
                }
            }
            _ => Transfer::None,
        },
    }
}

/// The object that a prefill engine answers with.
pub(crate) fn answer(connector: Connector, kept: &Kept<'_>) -> Option<Box<RawValue>> {
    let object = match connector {
        Connector::Nixl => serde_json::value::to_raw_value(&Nixl {
            do_remote_prefill: true,
            do_remote_decode: false,
            remote_block_ids: [kept.block_ids],
            remote_engine_id: kept.engine_id,
            remote_request_id: kept.request_id,
            remote_host: kept.host,
            remote_port: kept.port,
            tp_size: 1,
            dcp_size: 1,
            pp_size: 1,
            remote_num_tokens: kept.computed_tokens,
            remote_blocks_expiry_time: None,
            transfer_mode: "pull",
            remote_prefill_cached_tokens: kept.cached_tokens,
        }),
        Connector::MooncakeAscend => serde_json::value::to_raw_value(&Ascend {
            do_remote_prefill: true,
            do_remote_decode: false,
            remote_block_ids: [kept.block_ids],
            remote_engine_id: kept.engine_id,
            remote_request_id: kept.request_id,
            remote_host: kept.host,
            remote_port: kept.port,
            remote_pcp_size: 1,
            remote_dcp_size: 1,
            remote_ptp_size: 1,
            last_token_id: kept.last_token,
            remote_multi_nodes_meta_mapping: Map::new(),
            num_prompt_blocks: kept.block_ids.len(),
        }),
        Connector::None | Connector::Mooncake | Connector::Sglang | Connector::Lmcache => return None,
    };
    object.ok()
}

/// NIXL and vLLM-Ascend: everything is in the parameters.
fn answered(config: &Config, params: &Map<String, Value>) -> Transfer {
    if config.connector == Connector::Nixl && !params.contains_key("remote_block_ids") {
        return Transfer::Fatal;
    }
    // NIXL's scheduler stumbles over such a request when it is given up; vLLM-Ascend's just forgets it.
    let stuck = Transfer::Stuck {
        deadly: config.connector == Connector::Nixl,
    };
    let names = (
        text(params, "remote_request_id"),
        text(params, "remote_engine_id"),
    );
    let address = (text(params, "remote_host"), port(params.get("remote_port")));
    let ((Some(key), Some(engine_id)), (Some(host), Some(port))) = (names, address) else {
        return stuck;
    };
    Transfer::Take(Take {
        host,
        port,
        key,
        engine_id: Some(engine_id),
        blocks: params.get("remote_block_ids").map(block_ids),
        by_query: false,
        may_wait: false,
        releases: true,
        prefill_cached: params
            .get("remote_prefill_cached_tokens")
            .and_then(Value::as_u64)
            .map(|n| n as u32),
    })
}

/// vLLM's Mooncake: a name, and the bootstrap server of an engine.
fn named(params: &Map<String, Value>) -> Transfer {
    let address = text(params, "remote_bootstrap_addr");
    let address = address
        .as_deref()
        .map(|a| a.trim_start_matches("http://").trim_end_matches('/'));
    let address = address
        .and_then(|a| a.rsplit_once(':'))
        .and_then(|(h, p)| Some((h.to_owned(), p.parse().ok()?)));
    match (
        address,
        text(params, "transfer_id"),
        text(params, "remote_engine_id"),
    ) {
        (Some((host, port)), Some(key), Some(engine_id)) => Transfer::Take(Take {
            host,
            port,
            key,
            engine_id: Some(engine_id),
            blocks: None,
            by_query: true,
            may_wait: true,
            releases: true,
            prefill_cached: None,
        }),
        _ => Transfer::Stuck { deadly: false },
    }
}

/// SGLang: the room, and for decode the prefill engine's bootstrap server.
fn room(config: &Config, body: &Map<String, Value>) -> Transfer {
    let room = match body.get("bootstrap_room").map(first) {
        Some(Value::Number(room)) => room.to_string(),
        _ => return Transfer::None,
    };
    if config.role == Role::Prefill {
        return Transfer::Give(Give::Met(room));
    }
    let default_port = if config.bootstrap_port == 0 {
        BOOTSTRAP_PORT
    } else {
        config.bootstrap_port
    };
    // Without a host the engine looks for one that is not there.
    let host = body
        .get("bootstrap_host")
        .map(first)
        .and_then(Value::as_str)
        .unwrap_or("none.invalid");
    Transfer::Take(Take {
        host: host.to_owned(),
        port: port(body.get("bootstrap_port").map(first)).unwrap_or(default_port),
        key: room,
        engine_id: None,
        blocks: None,
        by_query: false,
        may_wait: true,
        releases: false,
        prefill_cached: None,
    })
}

/// A batch has lists here; its first member stands for all.
fn first(value: &Value) -> &Value {
    value.as_array().and_then(|list| list.first()).unwrap_or(value)
}

fn flag(params: &Map<String, Value>, name: &str) -> bool {
    params.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn text(params: &Map<String, Value>, name: &str) -> Option<String> {
    params
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn port(value: Option<&Value>) -> Option<u16> {
    value
        .and_then(Value::as_u64)
        .and_then(|port| u16::try_from(port).ok())
}

/// Block ids, in one list or in a list for each KV group.
fn block_ids(value: &Value) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut rest: Vec<&Value> = value
        .as_array()
        .map(|list| list.iter().rev().collect())
        .unwrap_or_default();
    while let Some(value) = rest.pop() {
        match value {
            Value::Array(list) => rest.extend(list.iter().rev()),
            other => ids.push(
                other
                    .as_u64()
                    .and_then(|id| u32::try_from(id).ok())
                    .unwrap_or(u32::MAX),
            ),
        }
    }
    ids
}
