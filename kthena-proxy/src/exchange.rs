//! Sending a request to engines until one answers, and handing the answer on.
//!
//! Until the first byte has left for the client, a failed attempt is followed by another, at another engine first, within what
//! the ModelServer's policy and the retry budget allow. After it nothing is retried.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::cluster::endpoint::Endpoint;
use crate::cluster::snapshot::{Pool, Server};
use crate::connector::Alone;
use crate::failure::{Failure, Kind};
use crate::openai::usage::Usage;
use crate::openai::{Body, Edits, Operation, Peek};
use crate::schedule::{self, Choice, Scheduler, Tried, Wanted};
use crate::telemetry::metrics::Phases;

pub mod budget;
pub mod head;
pub mod http1;
mod pair;
pub mod relay;
pub mod upstream;

pub use upstream::Connector;
use upstream::{Companion, Error, Upstream};

/// Further candidates that are tried where the ModelServer says nothing about retries.
const DEFAULT_ATTEMPTS: u32 = 4;
/// Longest error body that is kept while another engine is asked.
const KEPT_ERROR_BODY: usize = 64 * 1024;
/// Longest prefill answer.
const PREFILL_ANSWER: usize = 16 * 1024 * 1024;

/// A request, ready to go out.
#[derive(Debug)]
pub struct Prepared<'a> {
    /// The API.
    pub operation: Operation,
    /// The client's body; `None` for requests without one.
    pub body: Option<Bytes>,
    /// Where its members stand, if it is a JSON object.
    pub peek: Option<Peek>,
    /// Edits that every engine's request gets: the model's name, and no hand-over of the client's own making.
    pub edits: Edits,
    /// Edits of the request whose answer the client sees: the usage event.
    pub answer_edits: Edits,
    /// Whether the usage event is there only because the proxy asked for it.
    pub hide_usage: bool,
    /// Whether the client wants a stream.
    pub stream: bool,
    /// The head for engines.
    pub head: head::RequestHead,
    /// The request's id.
    pub id: &'a str,
    /// The model that the engine will be asked for.
    pub model: &'a str,
}

/// What the log and the metrics want to know, filled in as it happens.
#[derive(Debug, Default)]
pub struct Trace {
    /// Attempts so far.
    pub attempts: u32,
    /// The engine that answered, or was asked last.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The engine that prefilled for it.
    pub prefill: Option<Arc<Endpoint>>,
    /// The last status an engine answered with.
    pub upstream_status: Option<u16>,
    /// Why the request was answered by decode alone.
    pub alone: Option<Alone>,
    /// When the first byte of the answer's body left.
    pub first_byte: Option<Instant>,
    /// The usage that the engine reported.
    pub usage: Option<Usage>,
    /// How long prefill and decode took.
    pub phases: Phases,
}

/// Everything that exchanges share.
#[derive(Default)]
pub struct Exchange {
    /// Makes connections.
    pub connector: Arc<Connector>,
    /// Chooses engines.
    pub scheduler: Scheduler,
}

/// How an attempt ended that produced no answer to hand on.
enum Attempt {
    /// An answer: hand it on. A prefill engine may still be at work for it.
    Answer(Upstream, Option<Companion>),
    /// The engine says that it, or the request, cannot be served now.
    Refused(Upstream),
    /// No answer.
    Failed(Error),
}

/// An answer that would do if nothing better comes.
struct Kept {
    head: Box<pingora_http::ResponseHeader>,
    body: Bytes,
}

impl Exchange {
    /// Answers the client from the engines of a server.
    pub async fn run(
        &self,
        session: &mut Session,
        server: &Arc<Server>,
        request: &mut Prepared<'_>,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        server.budget.deposit();
        let wanted = self.wanted(server, request, trace);
        let mut attempts = Attempts::new(server);
        loop {
            let query = schedule::Request { model: request.model };
            let Some(choice) = self
                .scheduler
                .choose(&query, &server.pool, wanted, &attempts.tried)
            else {
                return Err(no_engine(server));
            };
            if attempts.only_others() && attempts.tried.has_asked(&choice) {
                attempts.made -= 1; // it is not made after all
                return attempts.give_up(session, request).await;
            }
            attempts.begin(&choice);
            trace.attempts += 1;
            let attempt = self
                .attempt(session, server, request, &choice, &mut attempts.tried, trace)
                .await?;
            match attempt {
                Attempt::Answer(upstream, companion) => {
                    request.forget();
                    self.hand_on(session, upstream, request, trace).await?;
                    if let Some(companion) = companion {
                        companion.detach();
                    }
                    return Ok(());
                }
                Attempt::Refused(upstream) if attempts.is_last(server) => {
                    request.forget();
                    return self.hand_on(session, upstream, request, trace).await;
                }
                Attempt::Refused(upstream) => attempts.keep(upstream).await,
                Attempt::Failed(error) => {
                    tracing::debug!(server = %server.name, %error, "attempt failed");
                    attempts.error = Some(error);
                    if attempts.is_last(server) {
                        return attempts.give_up(session, request).await;
                    }
                }
            }
            if !attempts.begin_next(server) {
                return attempts.give_up(session, request).await;
            }
            let pause = server.retry.interval;
            if !pause.is_zero() {
                or_gone(session, tokio::time::sleep(pause)).await?;
            }
        }
    }

    fn wanted(&self, server: &Server, request: &Prepared<'_>, trace: &mut Trace) -> Wanted {
        use crate::openai::operation::Split;
        let Pool::Split(_) = server.pool else {
            return Wanted::Pair;
        };
        match request.operation.split() {
            Split::PrefillOnly => Wanted::Prefill,
            Split::DecodeOnly => Wanted::Decode,
            Split::PrefillDecode => {
                let (Some(body), Some(peek)) = (&request.body, &request.peek) else {
                    return Wanted::Decode;
                };
                trace.alone = crate::connector::alone(request.operation, body, peek, server.protocol.0);
                if trace.alone.is_some() {
                    Wanted::Decode
                } else {
                    Wanted::Pair
                }
            }
        }
    }

    async fn attempt(
        &self,
        session: &mut Session,
        server: &Arc<Server>,
        request: &Prepared<'_>,
        choice: &Choice,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Result<Attempt, Failure> {
        match choice {
            Choice::Whole(endpoint) => {
                trace.endpoint = Some(endpoint.clone());
                let body = request.whole_body();
                // Boxed, as below: what sending needs is gone by the time that the answer is handed on.
                let send = self
                    .connector
                    .send_within(server.timeout, endpoint, &request.head, body.as_ref());
                let attempt = or_gone(session, Box::pin(send)).await?;
                Ok(self.judge(attempt, endpoint, tried, trace))
            }
            Choice::Pair(prefill, decode) => {
                trace.prefill = Some(prefill.clone());
                trace.endpoint = Some(decode.clone());
                Box::pin(pair::attempt(
                    self,
                    session,
                    server,
                    request,
                    (prefill, decode),
                    tried,
                    trace,
                ))
                .await
            }
        }
    }

    fn judge(
        &self,
        result: Result<Upstream, Error>,
        endpoint: &Arc<Endpoint>,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Attempt {
        match result {
            Ok(upstream) => {
                trace.upstream_status = Some(upstream.status());
                if is_retryable(upstream.status()) {
                    tried.add(endpoint);
                    Attempt::Refused(upstream)
                } else {
                    Attempt::Answer(upstream, None)
                }
            }
            Err(error) => {
                tried.add(endpoint);
                Attempt::Failed(error)
            }
        }
    }

    async fn hand_on(
        &self,
        session: &mut Session,
        upstream: Upstream,
        request: &Prepared<'_>,
        trace: &mut Trace,
    ) -> Result<(), Failure> {
        trace.endpoint = Some(upstream.endpoint().clone());
        trace.upstream_status = Some(upstream.status());
        let options = relay::Options {
            operation: request.operation,
            hide_usage: request.hide_usage,
            id: request.id,
            is_head: request.head.is_head,
        };
        let relayed = relay::relay(session, upstream, options).await;
        trace.first_byte = relayed.first_byte;
        trace.usage = relayed.usage;
        match relayed.failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl Prepared<'_> {
    /// Nobody will be asked again: what was asked need not be kept while a long answer passes.
    fn forget(&mut self) {
        self.body = None;
        self.peek = None;
        self.head.forget();
    }

    /// The body for an engine that answers the whole request.
    fn whole_body(&self) -> Option<Body> {
        self.edited(|edits| {
            edits.extend(&self.answer_edits);
        })
    }

    /// The body with the common edits and more.
    fn edited(&self, more: impl FnOnce(&mut Edits)) -> Option<Body> {
        let body = self.body.as_ref()?;
        let Some(peek) = &self.peek else {
            return Some(body.clone().into());
        };
        let mut edits = self.edits.clone();
        more(&mut edits);
        Some(edits.apply(body, peek))
    }
}

/// The attempts of one request.
struct Attempts {
    /// What was asked, and what failed.
    tried: Tried,
    made: u32,
    limit: u32,
    others_only: bool,
    error: Option<Error>,
    kept: Option<Kept>,
}

impl Attempts {
    fn new(server: &Server) -> Self {
        Self {
            tried: Tried::default(),
            made: 0,
            limit: server.retry.attempts.unwrap_or(DEFAULT_ATTEMPTS),
            others_only: server.retry.attempts.is_none(),
            error: None,
            kept: None,
        }
    }

    fn begin(&mut self, choice: &Choice) {
        if self.limit > 0 {
            self.tried.ask(choice);
        }
    }

    fn only_others(&self) -> bool {
        self.others_only && self.made > 0
    }

    fn is_last(&self, server: &Server) -> bool {
        let untried = || server.pool.endpoints().any(|endpoint| !self.tried.has(endpoint));
        self.made >= self.limit || (self.others_only && !untried())
    }

    /// Counts the next attempt, if the budget has one.
    fn begin_next(&mut self, server: &Server) -> bool {
        self.made += 1;
        server.budget.withdraw()
    }

    async fn keep(&mut self, mut upstream: Upstream) {
        self.error = None;
        let Some(head) = upstream.head().map(|head| Box::new(head.clone())) else {
            return;
        };
        // A short error body is read so that the connection can serve again; a slow or long one is not worth it.
        let read = tokio::time::timeout(Duration::from_secs(1), upstream.read_all(KEPT_ERROR_BODY)).await;
        if let Ok(Ok(body)) = read {
            self.kept = Some(Kept { head, body });
            upstream.release();
        }
    }

    /// The answer when no further attempt is to be made: the last engine's own error if there was one, else ours.
    async fn give_up(self, session: &mut Session, request: &Prepared<'_>) -> Result<(), Failure> {
        let Some(kept) = self.kept.filter(|_| self.error.is_none()) else {
            let error = self.error.unwrap_or(Error::Timeout);
            return Err(failure(error, self.made + 1));
        };
        let gone = Failure::client_gone;
        let mut head = head::answer(&kept.head, head::Framing::Native, request.id)?;
        head.insert_header(http::header::CONTENT_LENGTH, kept.body.len())
            .map_err(gone)?;
        relay::begin(session, head, false).await.map_err(gone)?;
        session
            .write_response_body(Some(kept.body), true)
            .await
            .map_err(gone)
    }
}

/// Statuses after which another engine may do better.
fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 500 | 502..=504)
}

fn failure(error: Error, attempts: u32) -> Failure {
    let kind = match &error {
        Error::Resolve { .. } | Error::Connect(_) => Kind::Connect,
        Error::Closed(_) | Error::Body(_) => Kind::Closed,
        Error::Malformed(_) | Error::TooLong { .. } | Error::NoJson(_) | Error::NoEngineId => Kind::BadAnswer,
        Error::Timeout => Kind::Timeout,
    };
    let attempts = if attempts == 1 {
        "one attempt".to_owned()
    } else {
        format!("{attempts} attempts")
    };
    Failure::new(
        kind,
        format!("request to all pods failed after {attempts}: {error}"),
    )
    .because(error)
}

fn no_engine(server: &Server) -> Failure {
    let name = &server.name;
    match &server.pool {
        Pool::Split(split) if !split.all_prefill.is_empty() || !split.all_decode.is_empty() => Failure::new(
            Kind::NoPair,
            format!("no valid prefill-decode pod pairs found for model server: {name}"),
        ),
        _ => Failure::new(
            Kind::NoEngine,
            format!("no available pods for model server: {name}"),
        ),
    }
}

/// Runs something until it is done or the client is gone.
async fn or_gone<T>(session: &mut Session, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        failure = relay::client_gone(session) => Err(failure),
    }
}
