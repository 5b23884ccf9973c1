//! The phases of a request on Pingora.
//!
//! Pingora reads the head and keeps the connection; `request_filter` does the rest: it reads the body, routes, lets the exchange
//! answer, and reports that the response was sent. Where an answer broke off after its head had left, it reports an error
//! instead, so that Pingora closes the connection without the mark of a complete body.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error as PingoraError, ErrorType, Result as PingoraResult};
use pingora_http::ResponseHeader;
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admin::Readiness;
use crate::cluster::snapshot::Snapshot;
use crate::exchange::head::{REQUEST_ID, RequestHead};
use crate::exchange::{Exchange, Prepared, Trace};
use crate::failure::{Failure, Kind};
use crate::openai::peek::{Key, Peek};
use crate::openai::{Edits, Operation, estimate, form, models};
use crate::route::{Backend, Query};
use crate::telemetry::access_log::{self, Destination, Entry, Sink};
use crate::telemetry::metrics::{Finished, Held, Label, Metrics};

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

/// Counts requests, and tells when there is none.
#[derive(Debug, Default)]
pub struct InFlight {
    count: AtomicUsize,
    idle: Notify,
}

impl InFlight {
    fn begin(self: &Arc<Self>) -> Request {
        self.count.fetch_add(1, Ordering::Relaxed);
        Request(self.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until there is none.
    pub async fn none(&self) {
        loop {
            let notified = self.idle.notified();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

/// A request in progress.
#[derive(Debug)]
struct Request(Arc<InFlight>);

impl Drop for Request {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
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
            return respond(session, status, body, &ctx.id).await.map_err(gone);
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
                Some(render) => return respond_text(session, render()).await.map_err(gone),
                None => return Err(not_found(path)),
            },
            _ => return Err(not_found(path)),
        };
        respond(session, status, body, "").await.map_err(gone)
    }

    async fn read_body(&self, session: &mut Session) -> Result<Bytes, Failure> {
        if session.is_body_empty() {
            return Ok(Bytes::new());
        }
        let announced = session
            .get_header(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.body_limit) {
            return Err(self.too_large());
        }
        if session
            .get_header(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            let proceed = ResponseHeader::build(100, Some(0)).map_err(gone)?;
            session
                .write_response_header(Box::new(proceed), false)
                .await
                .map_err(gone)?;
        }
        let read = |error: Box<PingoraError>| match error.etype() {
            ErrorType::ReadTimedout => {
                Failure::new(Kind::BodyTimeout, "the request body did not come in time").because(error)
            }
            ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => gone(error),
            _ => Failure::new(Kind::Parse, "the request body is not framed as HTTP demands").because(error),
        };
        let Some(first) = session.read_request_body().await.map_err(read)? else {
            return Ok(Bytes::new());
        };
        if session.is_body_done() {
            return Ok(first);
        }
        // Memory follows what has arrived, not what was announced.
        let mut all = BytesMut::with_capacity(announced.unwrap_or(0).clamp(first.len(), 1 << 20));
        all.extend_from_slice(&first);
        while let Some(next) = session.read_request_body().await.map_err(read)? {
            if all.len() + next.len() > self.body_limit {
                return Err(self.too_large());
            }
            all.extend_from_slice(&next);
        }
        Ok(all.freeze())
    }

    fn too_large(&self) -> Failure {
        Failure::new(
            Kind::TooLarge,
            format!("the request body is larger than {} bytes", self.body_limit),
        )
    }

    /// Writes log and metrics.
    fn record(&self, session: &Session, ctx: &Context) {
        let duration = ctx.begun.elapsed();
        let written = session.response_written().map(|head| head.status.as_u16());
        let status = match &ctx.failure {
            // What came after the head is told by the error, not by the status.
            Some(failure) if failure.kind == Kind::ClientGone => written.unwrap_or(Kind::ClientGone.status()),
            Some(failure) => written.unwrap_or(failure.kind.status()),
            None => written.unwrap_or(0),
        };
        let error_type = match &ctx.failure {
            Some(failure) => failure.kind.label(),
            None if status < 400 => "successful_request",
            None => "request_failed",
        };
        let usage = ctx.trace.usage.unwrap_or_default();
        let alone = ctx.trace.alone.map(crate::connector::Alone::label);
        self.metrics.finish(&Finished {
            model: &ctx.model_label,
            path: ctx.operation.label(),
            status,
            error_type,
            destination: &ctx.destination,
            duration,
            first_byte: ctx.trace.first_byte.map(|at| at.duration_since(ctx.begun)),
            input_tokens: ctx.input_tokens,
            output_tokens: usage.output,
            retries: u64::from(ctx.trace.attempts.saturating_sub(1)),
            phases: &ctx.trace.phases,
            alone,
        });
        let Some(log) = &self.access_log else { return };
        let request = session.req_header();
        let to = &ctx.destination;
        let resolved = |label: &'_ Label| (label != &self.none).then(|| label.to_string());
        let (route, backend, upstream_model) = (
            resolved(&to.route),
            resolved(&to.backend_name),
            resolved(&to.upstream_model),
        );
        let routed = ctx.routed.map_or(duration, |at| at.duration_since(ctx.begun));
        log.log(&Entry {
            timestamp: timestamp(duration),
            method: request.method.as_str(),
            path: request.uri.path(),
            protocol: protocol(request.version),
            status_code: status,
            error: ctx.failure.as_ref().map(|failure| access_log::Error {
                r#type: failure.kind.label(),
                message: &failure.message,
            }),
            model_name: &ctx.model,
            model_route: route.as_deref(),
            model_server: backend.as_deref().filter(|_| to.backend_type == "model_server"),
            selected_pod: ctx.trace.endpoint.as_ref().map(|endpoint| endpoint.pod()),
            prefill_pod: ctx.trace.prefill.as_ref().map(|endpoint| endpoint.pod()),
            request_id: &ctx.id,
            backend_type: Some(to.backend_type).filter(|_| to.is_resolved()),
            backend_name: backend.as_deref(),
            upstream_model: upstream_model.as_deref(),
            upstream_status_code: ctx.trace.upstream_status,
            upstream_attempts: ctx.trace.attempts,
            decode_alone: alone,
            input_tokens: ctx.input_tokens,
            output_tokens: usage.output,
            duration_total: access_log::millis(duration),
            duration_request_processing: access_log::millis(routed),
            duration_upstream_processing: access_log::millis(duration.saturating_sub(routed)),
            duration_response_processing: 0,
        });
    }
}

/// The parts of a body that routing needs: the model, and where members stand if it is JSON.
fn parse(session: &Session, body: Bytes) -> Result<(Option<Bytes>, Option<Peek>, String), Failure> {
    let missing = || Failure::new(Kind::ModelMissing, "you must provide a model parameter");
    if let Some(boundary) = form::boundary(session.get_header_bytes(header::CONTENT_TYPE)) {
        let model = form::field(&body, &boundary, "model")
            .map_err(|error| Failure::new(Kind::Parse, error.to_string()).because(error))?
            .filter(|model| !model.trim().is_empty())
            .ok_or_else(missing)?;
        return Ok((Some(body), None, model));
    }
    let peek = Peek::read(&body).map_err(|error| {
        let message = if body.is_empty() {
            "the request has no body".to_owned()
        } else {
            error.to_string()
        };
        Failure::new(Kind::Parse, message).because(error)
    })?;
    let model = peek
        .string(&body, Key::Model)
        .filter(|model| !model.trim().is_empty())
        .ok_or_else(missing)?;
    Ok((Some(body), Some(peek), model))
}

fn not_found(path: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("unknown path {path:?}; the API is below /v1/"),
    )
}

fn gone(error: Box<PingoraError>) -> Failure {
    Failure::new(Kind::ClientGone, "the client closed the connection").because(error)
}

/// The client's own id for the request, if it is one that can be logged and passed on; else a fresh one.
fn request_id(session: &Session) -> String {
    session
        .get_header(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|id| !id.is_empty() && id.len() <= 256)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

fn host(session: &Session) -> Vec<u8> {
    let request = session.req_header();
    match request.headers.get(header::HOST) {
        Some(host) => host.as_bytes().to_vec(),
        None => request
            .uri
            .authority()
            .map_or_else(Vec::new, |authority| authority.as_str().as_bytes().to_vec()),
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// When the request began, now that it has taken this long.
fn timestamp(duration: Duration) -> String {
    let now = jiff::Timestamp::now();
    now.checked_sub(duration).unwrap_or(now).to_string()
}

fn aborted(failure: &Failure) -> Box<PingoraError> {
    let kind = if failure.kind == Kind::ClientGone {
        ErrorType::ConnectionClosed
    } else {
        ErrorType::Custom("UpstreamLost")
    };
    PingoraError::explain(kind, failure.message.clone())
}

/// Answers with an error of ours.
async fn refuse(session: &mut Session, ctx: &Context, failure: &Failure) -> PingoraResult<()> {
    let unread = !session.is_body_done();
    respond_as(
        session,
        failure.kind.status(),
        failure.body(ctx.operation),
        &ctx.id,
        |head| {
            if failure.kind.status() == 503 {
                head.insert_header(header::RETRY_AFTER, "1")?;
            }
            Ok(())
        },
    )
    .await?;
    if unread {
        // A client that is still sending would see its connection reset before it has read the answer: let it send a little.
        let _late = tokio::time::timeout(Duration::from_secs(1), async {
            let mut left = 8_usize << 20;
            while let Ok(Some(bytes)) = session.read_request_body().await {
                left = left.saturating_sub(bytes.len());
                if left == 0 {
                    break;
                }
            }
        })
        .await;
    }
    Ok(())
}

/// Answers with JSON.
async fn respond(session: &mut Session, status: u16, body: Bytes, id: &str) -> PingoraResult<()> {
    respond_as(session, status, body, id, |_| Ok(())).await
}

async fn respond_as(
    session: &mut Session,
    status: u16,
    body: Bytes,
    id: &str,
    more: impl FnOnce(&mut ResponseHeader) -> PingoraResult<()>,
) -> PingoraResult<()> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    if !id.is_empty() {
        head.insert_header(REQUEST_ID, id)?;
    }
    more(&mut head)?;
    send(session, head, body).await
}

async fn respond_text(session: &mut Session, text: String) -> PingoraResult<()> {
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, crate::admin::METRICS_TYPE)?;
    head.insert_header(header::CONTENT_LENGTH, text.len())?;
    send(session, head, text.into()).await
}

async fn send(session: &mut Session, head: ResponseHeader, body: Bytes) -> PingoraResult<()> {
    let bodiless = session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(head), bodiless).await?;
    session
        .write_response_body((!bodiless).then_some(body), true)
        .await
}
