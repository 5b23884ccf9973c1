//! `/debug/config_dump`: what the proxy knows, as JSON.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::cluster::endpoint::Endpoint;
use crate::cluster::index::View;
use crate::cluster::objects::{Key, Pod, qualified};
use crate::cluster::snapshot::{Pool, Snapshot};

/// The routes of the debug server.
pub(super) fn router(view: View) -> Router {
    Router::new()
        .route("/debug/config_dump/{kind}", get(list))
        .route(
            "/debug/config_dump/namespaces/{namespace}/{kind}/{name}",
            get(one),
        )
        .with_state(view)
}

async fn list(State(view): State<View>, Path(kind): Path<String>) -> Response {
    match all(&view, &kind) {
        Some(objects) => {
            Json(json!({ kind: objects.into_iter().map(|(_, object)| object).collect::<Vec<_>>() }))
                .into_response()
        }
        None => not_found("kind"),
    }
}

async fn one(
    State(view): State<View>,
    Path((namespace, kind, name)): Path<(String, String, String)>,
) -> Response {
    let Some(objects) = all(&view, &kind) else {
        return not_found("kind");
    };
    let key = (namespace, name);
    match objects.into_iter().find(|(found, _)| *found == key) {
        Some((_, mut object)) => {
            if kind == "pods"
                && let Some(pod) = view.objects.read().pods.get(&key)
            {
                object["podInfo"] = pod_info(pod);
            }
            Json(object).into_response()
        }
        None => not_found(match kind.as_str() {
            "modelroutes" => "ModelRoute",
            "modelservers" => "ModelServer",
            "externalmodelproviders" => "ExternalModelProvider",
            _ => "Pod",
        }),
    }
}

fn not_found(what: &str) -> Response {
    (
        StatusCode::NOT_FOUND,
        Json(json!({ "error": format!("{what} not found") })),
    )
        .into_response()
}

/// All objects of a kind by namespace and name; `None` for kinds that there are not.
fn all(view: &View, kind: &str) -> Option<Vec<(Key, Value)>> {
    let objects = view.objects.read();
    let snapshot = view.snapshot.load();
    Some(match kind {
        "modelroutes" => objects
            .routes
            .iter()
            .map(|(key, route)| (key.clone(), spec(key, &route.spec)))
            .collect(),
        "externalmodelproviders" => objects
            .providers
            .iter()
            .map(|(key, provider)| (key.clone(), spec(key, &provider.spec)))
            .collect(),
        "modelservers" => objects
            .servers
            .iter()
            .map(|(key, server)| {
                let mut object = spec(key, &server.spec);
                if let Some(known) = snapshot.servers.get(qualified(key).as_str()) {
                    describe(&mut object, &known.pool);
                }
                (key.clone(), object)
            })
            .collect(),
        "pods" => objects
            .pods
            .iter()
            .map(|pod| (pod.key.clone(), pod_summary(pod, &snapshot)))
            .collect(),
        _ => return None,
    })
}

fn spec(key: &Key, spec: &impl serde::Serialize) -> Value {
    json!({ "name": key.1, "namespace": key.0, "spec": spec })
}

fn describe(object: &mut Value, pool: &Pool) {
    let names = |all: &mut dyn Iterator<Item = &std::sync::Arc<Endpoint>>| -> Value {
        all.map(|endpoint| endpoint.name().to_string()).collect()
    };
    object["associatedPods"] = names(&mut pool.endpoints());
    if let Pool::Split(split) = pool {
        object["prefillPods"] = names(&mut split.all_prefill.iter());
        object["decodePods"] = names(&mut split.all_decode.iter());
    }
    object["endpoints"] = pool
        .endpoints()
        .map(|endpoint| {
            json!({
                "name": endpoint.name().as_ref(),
                "address": endpoint.address().to_string(),
                "inFlight": endpoint.in_flight(),
                "idleConnections": endpoint.idle_connections(),
            })
        })
        .collect();
}

fn pod_summary(pod: &Pod, snapshot: &Snapshot) -> Value {
    let name = qualified(&pod.key);
    let mut servers: Vec<&std::sync::Arc<crate::cluster::snapshot::Server>> = snapshot
        .servers
        .values()
        .filter(|server| server.pool.endpoints().any(|endpoint| **endpoint.name() == *name))
        .collect();
    servers.sort_by(|a, b| a.name.cmp(&b.name));
    json!({
        "name": pod.key.1,
        "namespace": pod.key.0,
        "engine": servers.first().map(|server| server.engine.to_string()),
        "ready": pod.ready,
        "modelServers": servers.iter().map(|server| server.name.to_string()).collect::<Vec<_>>(),
    })
}

fn pod_info(pod: &Pod) -> Value {
    json!({
        "podIP": pod.ip,
        "nodeName": pod.node,
        "phase": pod.phase,
        "startTime": pod.started,
        "labels": pod.labels,
    })
}
