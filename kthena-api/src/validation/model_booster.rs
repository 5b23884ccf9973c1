//! Checks of a ModelBooster.

mod kv_connector;

use serde_json::Value;

use super::{Validate, model_route::check_model_match, spec};
use crate::{
    field::{FieldError, FieldErrors, FieldPath},
    model_booster::{ModelBackend, ModelBackendType, ModelBooster, ModelWorker, ModelWorkerType},
};

const MAX_REPLICAS: i32 = 1_000_000;
const DEFAULT_ENGINE_PORT: u16 = 8000;

impl Validate for ModelBooster {
    fn check_rules(&self, _old: Option<&Self>) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        let backend = &self.spec.backend;
        if backend.replicas > MAX_REPLICAS {
            let detail = format!("must be less than or equal to {MAX_REPLICAS}");
            errors.invalid(backend_path().child("replicas"), backend.replicas, detail);
        }
        check_images(backend, &mut errors);
        check_worker_types(backend, &mut errors);
        check_ports(backend, &mut errors);
        check_volume(backend, &mut errors);
        if let Err(detail) = kv_connector::check(backend) {
            errors.invalid(backend_path().child("workers"), backend.name.as_str(), detail);
        }
        if let Some(condition) = &self.spec.model_match {
            check_model_match(&spec().child("modelMatch"), condition, &mut errors);
        }
        errors.into_vec()
    }
}

fn backend_path() -> FieldPath {
    spec().child("backend")
}

fn worker_path(index: usize) -> FieldPath {
    backend_path().child("workers").index(index)
}

fn check_images(backend: &ModelBackend, errors: &mut FieldErrors) {
    for (index, worker) in backend.workers.iter().enumerate() {
        let image = worker.image.as_deref().unwrap_or_default();
        if image.contains(char::is_whitespace) {
            errors.invalid(
                worker_path(index).child("image"),
                image,
                "must not contain whitespace",
            );
        }
    }
}

fn check_worker_types(backend: &ModelBackend, errors: &mut FieldErrors) {
    errors.known(backend_path().child("type"), Some(&backend.type_));
    let allowed: &[&str] = match &backend.type_ {
        ModelBackendType::Vllm => {
            let count = backend.workers.len();
            if count != 1 {
                let detail = format!("{} takes exactly one worker", backend.type_);
                errors.invalid(backend_path().child("workers"), count, detail);
                return;
            }
            &["server"]
        }
        ModelBackendType::VllmDisaggregated => &["prefill", "decode"],
        ModelBackendType::Unknown(_) => return,
    };
    for (index, worker) in backend.workers.iter().enumerate() {
        let type_ = worker.effective_type().as_str();
        if !allowed.contains(&type_) {
            let detail = format!(
                "{} takes workers of type {}",
                backend.type_,
                allowed.join(" and ")
            );
            errors.invalid(worker_path(index).child("type"), type_, detail);
        }
    }
}

fn serves(worker: &ModelWorker) -> bool {
    use ModelWorkerType::{Decode, Prefill, Server};
    matches!(worker.effective_type(), Server | Prefill | Decode)
}

/// All serving engines listen on one port, because the generated ModelServer knows one.
fn check_ports(backend: &ModelBackend, errors: &mut FieldErrors) {
    if matches!(backend.type_, ModelBackendType::Unknown(_)) {
        return;
    }
    let mut agreed = None;
    for (index, worker) in backend
        .workers
        .iter()
        .enumerate()
        .filter(|(_, worker)| serves(worker))
    {
        let written = worker.config.as_ref().and_then(|config| config.get("port"));
        let detail = match (engine_port(worker), agreed) {
            (Err(detail), _) => detail.to_owned(),
            (Ok(port), Some(agreed)) if port != agreed => {
                format!("this is port {port}, an earlier worker has {agreed}; all must agree")
            }
            (Ok(port), _) => {
                agreed = Some(port);
                continue;
            }
        };
        let value = written.or(worker.config.as_ref()).cloned().unwrap_or_default();
        errors.invalid(worker_path(index).child("config").child("port"), value, detail);
        return;
    }
}

fn engine_port(worker: &ModelWorker) -> Result<u16, &'static str> {
    let written = match &worker.config {
        None => None,
        Some(Value::Object(config)) => config.get("port"),
        Some(_) => return Err("config must be an object"),
    };
    let port = match written {
        None => return Ok(DEFAULT_ENGINE_PORT),
        Some(Value::String(text)) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        Some(Value::Number(number)) => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        Some(_) => None,
    };
    port.filter(|port| *port > 0)
        .ok_or("must be a port from 1 to 65535")
}

/// A model on a volume is read where the volume is mounted, so the cache must be the same volume.
fn check_volume(backend: &ModelBackend, errors: &mut FieldErrors) {
    let Some(source) = backend.model_uri.strip_prefix("pvc://") else {
        return;
    };
    let cache = backend.cache_uri.as_deref().unwrap_or_default();
    let model_path = || backend_path().child("modelURI");
    let cache_path = || backend_path().child("cacheURI");
    let Some(claim) = cache.strip_prefix("pvc://") else {
        let detail = "must be a pvc:// URI, because modelURI is one";
        errors.invalid(cache_path(), cache, detail);
        return;
    };
    let claim = claim.trim_matches('/');
    if source.split('/').any(|segment| segment == "..") {
        errors.invalid(model_path(), backend.model_uri.as_str(), "must not contain '..'");
    } else if claim.is_empty() || claim.contains('/') {
        errors.invalid(
            cache_path(),
            cache,
            "must name a PersistentVolumeClaim and nothing else",
        );
    } else if source.split('/').find(|segment| !matches!(*segment, "" | ".")) != Some(claim) {
        let detail = format!("must begin with the claim of cacheURI, as in pvc://{claim}/path");
        errors.invalid(model_path(), backend.model_uri.as_str(), detail);
    }
}

#[cfg(test)]
mod tests;
