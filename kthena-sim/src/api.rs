//! The engine's HTTP interface.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::Kind;
use crate::engine::Engine;
use crate::fault::Subject;
use crate::http::conn::Service;
use crate::http::plan::Plan;
use crate::http::request::Request;
use crate::http::respond::{Cut, Reply, Responder};
use crate::kv::{Transfer, params};
use crate::sim_api;
use crate::stats::{Abort, Outcome, Phase};

mod chat;
mod common;
mod completions;
mod error;
mod fields;
mod logprobs;
mod lora;
mod messages;
mod models;
mod pooling;
mod responses;
mod route;
mod run;
mod sglang;
mod tokens;
mod usage;

pub(crate) use error::{ApiError, Trouble};
use route::Route;

/// Serves clients.
pub(crate) struct Api(pub(crate) Arc<Engine>);

/// A request for text, with what every endpoint wants to know.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) body: &'a Map<String, Value>,
    /// The part of the answer's id that the client may choose.
    pub(crate) id: String,
}

/// Counts a request that is being answered. Dropped before its end, the client has gone.
struct Flight<'a> {
    engine: &'a Engine,
    phase: Phase,
    id: String,
    begun: tokio::time::Instant,
    ended: bool,
}

impl Service for Api {
    fn varies(&self) -> bool {
        self.0.config.kind != Kind::Sglang
    }

    fn refuses(&self) -> bool {
        self.0.faults.refuses()
    }

    async fn call(&self, request: Request, out: &mut Responder<'_>) -> Result<(), Cut> {
        let engine = &self.0;
        if request.path().starts_with("/sim/") {
            return out.reply(sim_api::answer(engine, &request)).await;
        }
        let mut open = engine.recorder.open(&request, out.status_cell());
        // Boxed, because a connection spends most of its life without a request.
        let result = Box::pin(dispatch(engine, &request, out)).await;
        open.complete = result.is_ok();
        result
    }
}

async fn dispatch(engine: &Arc<Engine>, request: &Request, out: &mut Responder<'_>) -> Result<(), Cut> {
    let route = Route::find(&engine.config, request);
    let body = match &route {
        Ok(route) if route.takes_json() => serde_json::from_slice::<Value>(&request.body).ok(),
        _ => None,
    };
    let members = body.as_ref().and_then(Value::as_object);
    let phase = members.map_or(Phase::of(engine.config.role), |body| phase(engine, body));
    let model = members.and_then(|body| body.get("model")).and_then(Value::as_str);
    let faults = engine.faults.strike(&Subject {
        path: request.path(),
        phase,
        model,
    });
    out.disturb(Plan::new(faults));
    let route = match route {
        Ok(route) => route,
        Err(reply) => {
            return if out.intercept().await? {
                Ok(())
            } else {
                out.reply(reply).await
            };
        }
    };
    if !route.is_inference() {
        if out.intercept().await? {
            return Ok(());
        }
        return out.reply(route.answer(engine, request, members)).await;
    }
    infer(engine, request, route, members, phase, out).await
}

/// Answers a request that makes the engine compute.
async fn infer(
    engine: &Arc<Engine>,
    request: &Request,
    route: Route,
    members: Option<&Map<String, Value>>,
    phase: Phase,
    out: &mut Responder<'_>,
) -> Result<(), Cut> {
    let id = common::request_id(engine.config.kind, request, members);
    let flight = Flight::new(engine, phase, id.clone());
    match out.intercept().await {
        Ok(false) => {}
        Ok(true) => return flight.end(Outcome::Failed, Ok(())),
        Err(cut) => return flight.end(Outcome::Failed, Err(cut)),
    }
    let outcome = match common::check(engine, request, members) {
        Err(error) => Err(error.into()),
        Ok(body) => {
            let call = Call { engine, body, id };
            tokio::select! {
                biased;
                outcome = route.run(&call, out) => outcome,
                () = engine.died() => Err(Trouble::Api(ApiError::dead())),
            }
        }
    };
    match outcome {
        Ok(()) => flight.end(Outcome::Finished, Ok(())),
        Err(Trouble::Cut(Cut::Io(error))) => Err(Cut::Io(error)),
        Err(Trouble::Cut(cut)) => flight.end(Outcome::Failed, Err(cut)),
        Err(Trouble::Api(error)) => {
            let sent = error.send(route.style(engine.config.kind), out).await;
            flight.end(Outcome::Failed, sent)
        }
    }
}

/// The part that a request plays, told by its own parameters.
fn phase(engine: &Engine, body: &Map<String, Value>) -> Phase {
    match params::transfer(&engine.config, body) {
        Transfer::None => Phase::of(engine.config.role),
        Transfer::Give(_) => Phase::Prefill,
        Transfer::Take(_) | Transfer::Stuck { .. } => Phase::Decode,
        Transfer::Fatal => Phase::of(engine.config.role),
    }
}

impl<'a> Flight<'a> {
    fn new(engine: &'a Engine, phase: Phase, id: String) -> Self {
        engine.counters.received(phase);
        Self {
            engine,
            phase,
            id,
            begun: tokio::time::Instant::now(),
            ended: false,
        }
    }

    fn end(mut self, outcome: Outcome, result: Result<(), Cut>) -> Result<(), Cut> {
        self.ended = true;
        self.engine.counters.ended(self.phase, outcome);
        result
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.engine.counters.aborted(Abort {
                request_id: std::mem::take(&mut self.id),
                phase: self.phase,
                at: crate::http::date::unix_now_f64(),
                after_ms: self.begun.elapsed().as_secs_f64() * 1000.0,
            });
        }
    }
}

/// An answer that FastAPI gives by itself.
pub(crate) fn detail(status: u16, text: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "detail": text }))
}

/// An event of a stream.
pub(crate) fn data(chunk: &impl serde::Serialize) -> Vec<u8> {
    let mut event = Vec::with_capacity(384);
    event.extend_from_slice(b"data: ");
    if let Err(error) = serde_json::to_writer(&mut event, chunk) {
        tracing::error!(%error, "an event cannot be written");
    }
    event.extend_from_slice(b"\n\n");
    event
}
