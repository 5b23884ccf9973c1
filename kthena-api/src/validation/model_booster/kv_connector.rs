//! Whether prefill and decode are configured to hand the KV cache over in the same way.

use serde_json::Value;

use crate::{
    model_booster::{ModelBackend, ModelWorker, ModelWorkerType, kv_connector_type},
    model_server::KvConnectorType,
};

/// The first thing that is wrong.
pub(super) fn check(backend: &ModelBackend) -> Result<(), String> {
    let prefill = connector(backend, &ModelWorkerType::Prefill, &["kv_producer", "kv_both"])?;
    let decode = connector(backend, &ModelWorkerType::Decode, &["kv_consumer", "kv_both"])?;
    match (prefill, decode) {
        (None, None) => Ok(()),
        (Some(prefill), Some(decode)) if prefill == decode => Ok(()),
        (Some(prefill), Some(decode)) => Err(format!(
            "prefill transfers the KV cache by {prefill} and decode by {decode}; both must agree"
        )),
        (Some(_), None) => Err("prefill has a kv-transfer-config and decode has none".to_owned()),
        (None, Some(_)) => Err("decode has a kv-transfer-config and prefill has none".to_owned()),
    }
}

/// The connector of the one worker of a type, where there is one and it has any.
fn connector(
    backend: &ModelBackend,
    type_: &ModelWorkerType,
    roles: &[&str],
) -> Result<Option<KvConnectorType>, String> {
    let mut workers = backend
        .workers
        .iter()
        .filter(|worker| worker.effective_type() == type_);
    match (workers.next(), workers.next()) {
        (_, Some(_)) => Err(format!("there is more than one {type_} worker")),
        (None, None) => Ok(None),
        (Some(worker), None) => configured(worker, roles).map_err(|problem| format!("{type_}: {problem}")),
    }
}

fn configured(worker: &ModelWorker, roles: &[&str]) -> Result<Option<KvConnectorType>, String> {
    let config = match &worker.config {
        None => return Ok(None),
        Some(Value::Object(config)) => config,
        Some(_) => return Err("config must be an object".to_owned()),
    };
    let transfer = match config.get("kv-transfer-config") {
        None => return Ok(None),
        Some(Value::String(text)) => serde_json::from_str::<Value>(text)
            .map_err(|error| format!("kv-transfer-config is not JSON: {error}"))?,
        Some(_) => return Err("kv-transfer-config must be a string that contains JSON".to_owned()),
    };
    let text = |name: &str| transfer.get(name).and_then(Value::as_str).unwrap_or_default();
    let connector = kv_connector_type(text("kv_connector")).ok_or_else(|| {
        format!(
            "kv-transfer-config has the unknown kv_connector {:?}",
            text("kv_connector")
        )
    })?;
    if !roles.contains(&text("kv_role")) {
        return Err(format!(
            "kv-transfer-config has the kv_role {:?}; use {}",
            text("kv_role"),
            roles.join(" or ")
        ));
    }
    Ok(Some(connector))
}
