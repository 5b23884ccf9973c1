//! The `/sim` endpoints: counters, recorded requests, faults.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use crate::engine::Engine;
use crate::fault::{FaultId, Rule};
use crate::http::conn::Service;
use crate::http::request::Request;
use crate::http::respond::{Cut, Reply, Responder};

/// Serves only these endpoints, on an address of their own.
pub(crate) struct Admin(pub(crate) Arc<Engine>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Rules {
    Many(Vec<Rule>),
    One(Box<Rule>),
}

impl Service for Admin {
    async fn call(&self, request: Request, out: &mut Responder<'_>) -> Result<(), Cut> {
        out.reply(answer(&self.0, &request)).await
    }
}

/// Answers a `/sim` request.
pub(crate) fn answer(engine: &Engine, request: &Request) -> Reply {
    let path = request.path();
    match (request.method.as_str(), path) {
        ("GET", "/sim/stats") => Reply::json(200, &engine.stats()),
        ("GET", "/sim/config") => Reply::json(200, &engine.config),
        ("GET", "/sim/requests") => {
            let wanted = request.query().and_then(|query| query.strip_prefix("path="));
            let requests = match wanted {
                Some(path) => engine.recorder.path(path),
                None => engine.recorder.all(),
            };
            Reply::json(200, &requests)
        }
        ("DELETE", "/sim/requests") => {
            engine.recorder.clear();
            Reply::empty(204)
        }
        ("GET", "/sim/faults") => Reply::json(200, &listed(engine)),
        ("POST", "/sim/faults") => match serde_json::from_slice(&request.body) {
            Ok(rules) => {
                let rules = match rules {
                    Rules::Many(rules) => rules,
                    Rules::One(rule) => vec![*rule],
                };
                let ids: Vec<_> = rules.into_iter().map(|rule| engine.faults.add(rule)).collect();
                Reply::json(201, &json!({ "ids": ids }))
            }
            Err(error) => Reply::json(400, &json!({ "error": error.to_string() })),
        },
        ("DELETE", "/sim/faults") => {
            engine.faults.clear();
            Reply::empty(204)
        }
        ("DELETE", _) => match path
            .strip_prefix("/sim/faults/")
            .and_then(|id| id.parse::<FaultId>().ok())
        {
            Some(id) if engine.faults.remove(id) => Reply::empty(204),
            _ => missing(),
        },
        _ => missing(),
    }
}

fn listed(engine: &Engine) -> serde_json::Value {
    let rules = engine.faults.list();
    rules
        .into_iter()
        .map(|(id, rule)| json!({ "id": id, "rule": rule }))
        .collect()
}

fn missing() -> Reply {
    Reply::json(404, &json!({ "detail": "Not Found" }))
}
