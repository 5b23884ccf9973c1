//! The phases of a request on Pingora.
//!
//! Pingora reads the head and keeps the connection; `request_filter` does the rest: it reads the body, routes, lets the exchange
//! answer, and reports that the response was sent. Where an answer broke off after its head had left, it reports an error
//! instead, so that Pingora closes the connection without the mark of a complete body.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error as PingoraError, ErrorType, Result as PingoraResult};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tokio::time::Instant;

use crate::admin::Readiness;
use crate::cluster::snapshot::Snapshot;
use crate::exchange::head::RequestHead;
use crate::exchange::{Exchange, Prepared, Trace};
use crate::failure::{Failure, Kind};
use crate::openai::peek::{Key, Peek};
use crate::openai::{Edits, Operation, estimate, models};
use crate::route::{Backend, Query};
use crate::telemetry::access_log::{Destination, Sink};
use crate::telemetry::metrics::{Held, Label, Metrics};

mod body;
mod in_flight;
mod record;
mod reply;

use body::{host, parse, request_id};
pub use in_flight::InFlight;
use in_flight::Request;
use reply::{aborted, not_found, refuse, respond, respond_text};

/// How long what was written to a broken HTTP/2 stream may take to leave before the stream is reset.
const HTTP2_FLUSH: Duration = Duration::from_millis(50);

/// What all requests share.
pub struct Shared {
    /// The world, replaced as a whole when it changes.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Sends requests to engines.
    pub exchange: Exchange,
    /// Counters.
    pub metrics: Metrics,
    /// The access log, unless it is off.
    pub access_log: Option<Sink>,
    /// Whether the proxy is ready for traffic.
    pub readiness: Arc<Readiness>,
    /// Requests in progress.
    pub in_flight: Arc<InFlight>,
    /// Largest request body.
    pub body_limit: usize,
    /// Renders `/metrics`, where that is wanted on this port too.
    pub expose_metrics: Option<crate::admin::Render>,
    /// The label of what is not known.
    pub none: Label,
    /// The label of models that no route knows.
    pub unknown: Label,
}

/// What is known of a request while it is in progress.
pub struct Context {
    begun: Instant,
    id: String,
    operation: Operation,
    model: String,
    model_label: Label,
    destination: Destination,
    input_tokens: u64,
    routed: Option<Instant>,
    trace: Trace,
    failure: Option<Failure>,
    /// Whether it belongs in log and metrics.
    recorded: bool,
    _request: Request,
    _active: Held,
    downstream: Option<Held>,
    upstream: Option<Held>,
}

/// The proxy as Pingora runs it.
pub struct Service(pub Arc<Shared>);

#[async_trait]
impl ProxyHttp for Service {
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Self::CTX {
        let shared = &self.0;
        Box::new(Context {
            begun: Instant::now(),
            id: String::new(),
            operation: Operation::Other,
            model: String::new(),
            model_label: shared.unknown.clone(),
            destination: Destination::unresolved(&shared.none),
            input_tokens: 0,
            routed: None,
            trace: Trace::default(),
            failure: None,
            recorded: false,
            _request: shared.in_flight.begin(),
            _active: Held::new(shared.metrics.active.clone()),
            downstream: None,
            upstream: None,
        })
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut Self::CTX) -> PingoraResult<Box<HttpPeer>> {
        // Every request is answered by `request_filter`.
        PingoraError::e_explain(
            ErrorType::InternalError,
            "no request is passed on by pingora itself",
        )
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> PingoraResult<bool> {
        session.set_pipelining_enabled(true);
        let failure = match self.0.answer(session, ctx).await {
            Ok(()) => return Ok(true),
            Err(failure) => failure,
        };
        tracing::debug!(id = %ctx.id, kind = ?failure.kind, source = ?failure.source, "{failure}");
        let result = if session.response_written().is_some() || failure.kind == Kind::ClientGone {
            Err(aborted(&failure))
        } else {
            refuse(session, ctx, &failure).await.map(|()| true)
        };
        ctx.failure = Some(failure);
        result
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &PingoraError,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        // The head has left, or nobody is there to read one. The end of the connection is all that is left to say. An HTTP/2
        // reset throws away what is still queued on its stream: the task of the connection gets a moment to write it.
        if session.as_http2().is_some()
            && ctx
                .failure
                .as_ref()
                .is_some_and(|failure| failure.kind != Kind::ClientGone)
        {
            tokio::time::sleep(HTTP2_FLUSH).await;
        }
        session.downstream_session.shutdown().await;
        if ctx.failure.is_none() {
            ctx.failure = Some(Failure::new(Kind::ClientGone, error.to_string()));
        }
        FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        }
    }

    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &PingoraError) -> bool {
        // The access log has it.
        true
    }

    async fn logging(&self, session: &mut Session, _: Option<&PingoraError>, ctx: &mut Self::CTX) {
        if ctx.recorded {
            ctx.downstream = None;
            ctx.upstream = None;
            self.0.record(session, ctx);
        }
    }
}

impl Shared {
    /// Answers a request, or says why not.
    async fn answer(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Failure> {
        let path = session.req_header().uri.path().to_owned();
        if !path.starts_with("/v1/") {
            return self.outside(session, &path).await;
        }
        ctx.recorded = true;
        ctx.operation = Operation::of(&path);
        ctx.id = request_id(session);
        // The world as it is now, to the end of this request.
        let snapshot = self.snapshot.load_full();
        if matches!(
            session.req_header().method,
            http::Method::GET | http::Method::HEAD
        ) && let Some(answer) = models::answer(&path, &snapshot)
        {
            let (status, body) = answer.map_or_else(
                |failure| (failure.kind.status(), failure.body(ctx.operation)),
                |body| (200, body),
            );
            return respond(session, status, body, &ctx.id)
                .await
                .map_err(Failure::client_gone);
        }
        let body = self.read_body(session).await?;
        let (body, peek, model) = parse(session, body)?;
        ctx.model = model;
        ctx.model_label = snapshot.label(&ctx.model).unwrap_or_else(|| self.unknown.clone());
        ctx.downstream = Some(self.metrics.downstream(&ctx.model_label));
        if let Some(peek) = &peek {
            ctx.input_tokens = estimate::input_tokens(peek);
        }
        self.proxy(session, ctx, &snapshot, &path, body, peek).await
    }

    async fn proxy(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        snapshot: &Snapshot,
        path: &str,
        body: Option<Bytes>,
        peek: Option<Peek>,
    ) -> Result<(), Failure> {
        let query = Query {
            model: &ctx.model,
            path,
            headers: &session.req_header().headers,
        };
        let found = snapshot
            .find(&query, |total| {
                rand::Rng::random_range(&mut rand::rng(), 0..total)
            })
            .ok_or_else(|| {
                Failure::new(
                    Kind::RouteNotFound,
                    format!("route not found: no ModelRoute serves model {:?} here", ctx.model),
                )
            })?;
        ctx.destination.route = found.route.name.clone();
        let server = match &found.target.backend {
            Backend::Server(name, server) => {
                ctx.destination.backend_type = "model_server";
                ctx.destination.backend_name = name.clone();
                server.as_ref().ok_or_else(|| {
                    Failure::new(Kind::ServerMissing, format!("can't find model server: {name}"))
                })?
            }
            Backend::Provider(name) => {
                ctx.destination.backend_type = "external_provider";
                ctx.destination.backend_name = name.clone();
                let message = format!(
                    "model {:?} is served by external provider {name}, which this version cannot reach",
                    ctx.model
                );
                return Err(Failure::new(Kind::Provider, message));
            }
        };
        let rename = server.model.as_ref().filter(|_| !found.lora);
        let upstream_model =
            rename.map_or_else(|| Label::from(ctx.model.as_str()), |rename| rename.name.clone());
        ctx.destination.upstream_model = upstream_model.clone();
        ctx.routed = Some(Instant::now());
        ctx.upstream = Some(self.metrics.upstream(&ctx.destination));
        let stream =
            matches!((&body, &peek), (Some(body), Some(peek)) if peek.bool(body, Key::Stream) == Some(true));
        let mut edits = Edits::new();
        let mut answer_edits = Edits::new();
        let mut hide_usage = false;
        if let (Some(body), Some(peek)) = (&body, &peek) {
            if let Some(rename) = rename
                && peek.raw(body, Key::Model) != Some(&rename.json)
            {
                edits.set(Key::Model, rename.json.clone());
            }
            // What tells engines where to move caches is between engines and this proxy.
            for key in [
                Key::KvTransferParams,
                Key::EcTransferParams,
                Key::BootstrapHost,
                Key::BootstrapPort,
                Key::BootstrapRoom,
            ] {
                if peek.has(key) {
                    edits.remove(key);
                }
            }
            if stream
                && ctx.operation.has_usage_event()
                && let Some(options) = crate::openai::stream_options::with_usage(body, peek)
            {
                answer_edits.set(Key::StreamOptions, options);
                hide_usage = true;
            }
        }
        let host = host(session);
        let mut request = Prepared {
            operation: ctx.operation,
            body,
            peek,
            edits,
            answer_edits,
            hide_usage,
            stream,
            head: RequestHead::new(session.req_header(), &host, &ctx.id, ctx.operation),
            id: &ctx.id,
            model: &upstream_model,
        };
        self.exchange
            .run(session, server, &mut request, &mut ctx.trace)
            .await
    }

    /// Requests that are not for a model.
    async fn outside(&self, session: &mut Session, path: &str) -> Result<(), Failure> {
        let (status, body) = match path {
            "/healthz" => (200, Bytes::from_static(br#"{"message":"ok"}"#)),
            "/readyz" => self.readiness.answer(),
            "/metrics" => match &self.expose_metrics {
                Some(render) => {
                    return respond_text(session, render())
                        .await
                        .map_err(Failure::client_gone);
                }
                None => return Err(not_found(path)),
            },
            _ => return Err(not_found(path)),
        };
        respond(session, status, body, "")
            .await
            .map_err(Failure::client_gone)
    }
}
