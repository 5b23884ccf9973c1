//! The prefill engine's side: the port that decode engines read from, and the bootstrap server.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Refusal;
use super::fetch::{Ask, Refused};
use super::table::Table;
use crate::config::Connector;
use crate::http::conn::Service;
use crate::http::request::Request;
use crate::http::respond::{Cut, Reply, Responder};

/// Answers decode engines; as a bootstrap server it also tells routers who lives here.
pub(crate) struct SideChannel {
    pub(crate) table: Arc<Table>,
    pub(crate) engine_id: String,
    pub(crate) connector: Connector,
    /// Host and port that decode engines are sent to.
    pub(crate) address: (String, u16),
    pub(crate) tokens_per_second: f64,
}

impl Service for SideChannel {
    async fn call(&self, request: Request, out: &mut Responder<'_>) -> Result<(), Cut> {
        match (request.method.as_str(), request.path()) {
            ("POST", "/kv/take") => self.take(&request, out).await,
            ("POST", "/kv/release") => {
                if let Some(ask) = self.ask(&request) {
                    self.table.release(&ask.key);
                }
                out.reply(Reply::json(200, &json!({}))).await
            }
            ("GET", "/query") if self.connector == Connector::Mooncake => {
                out.reply(Reply::json(200, &self.ranks())).await
            }
            ("GET", "/health") if self.connector == Connector::Sglang => {
                out.reply(Reply::text(200, "text/plain; charset=utf-8", "OK"))
                    .await
            }
            _ => {
                out.reply(Reply::json(404, &json!({ "detail": "Not Found" })))
                    .await
            }
        }
    }
}

impl SideChannel {
    async fn take(&self, request: &Request, out: &mut Responder<'_>) -> Result<(), Cut> {
        let Ok(ask) = serde_json::from_slice::<Ask>(&request.body) else {
            return out.reply(Reply::json(400, &json!({}))).await;
        };
        if ask.engine_id.as_ref().is_some_and(|id| *id != self.engine_id) {
            return refuse(out, Refusal::Foreign).await;
        }
        let taken = match self
            .table
            .take(&ask.key, ask.wait_ms.map(Duration::from_millis))
            .await
        {
            Ok(taken) => taken,
            Err(refusal) => return refuse(out, refusal).await,
        };
        if self.tokens_per_second > 0.0 {
            let seconds = taken.tokens() as f64 / self.tokens_per_second;
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        }
        let payload = taken.payload(ask.blocks.as_deref());
        // Before the answer, so that whoever sees the decode engine's answer also sees the blocks freed.
        taken.done();
        out.reply(Reply::json(200, &payload)).await
    }

    fn ask(&self, request: &Request) -> Option<Ask> {
        let ask: Ask = serde_json::from_slice(&request.body).ok()?;
        ask.engine_id
            .as_ref()
            .is_none_or(|id| *id == self.engine_id)
            .then_some(ask)
    }

    fn ranks(&self) -> Value {
        let (host, port) = &self.address;
        json!({ "0": { "engine_id": self.engine_id, "worker_addr": { "0": { "0": format!("tcp://{host}:{port}") } } } })
    }
}

async fn refuse(out: &mut Responder<'_>, refused: Refusal) -> Result<(), Cut> {
    out.reply(Reply::json(409, &Refused { refused })).await
}
