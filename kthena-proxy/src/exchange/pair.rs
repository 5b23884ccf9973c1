//! One attempt at a prefill and a decode engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora_proxy::Session;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::upstream::{CONNECT_TIMEOUT, Companion, Connector, Error, Upstream};
use super::{Attempt, Exchange, PREFILL_ANSWER, Prepared, Trace, head, is_retryable, or_gone};
use crate::cluster::endpoint::{Address, Endpoint, EndpointKey, Ports};
use crate::cluster::snapshot::Server;
use crate::connector::{self, Alone, Answer, Decode, HandOver, Order};
use crate::failure::Failure;
use crate::openai::Body;
use crate::schedule::Tried;

type Pair<'a> = (&'a Arc<Endpoint>, &'a Arc<Endpoint>);

/// Leads the request through both engines.
pub(super) async fn attempt(
    exchange: &Exchange,
    session: &mut Session,
    server: &Arc<Server>,
    request: &Prepared<'_>,
    pair: Pair<'_>,
    tried: &mut Tried,
    trace: &mut Trace,
) -> Result<Attempt, Failure> {
    let legs = Legs {
        exchange,
        server,
        request,
        pair,
    };
    match server.protocol.0.order(pair.0) {
        Order::PrefillFirst => legs.in_turn(session, tried, trace).await,
        Order::Together => Box::pin(legs.together(session, None, tried, trace)).await,
        Order::TogetherAfterLookup => match Box::pin(or_gone(session, legs.engine_id())).await? {
            Ok(id) => Box::pin(legs.together(session, Some(&id), tried, trace)).await,
            Err(error) => {
                tried.add(pair.0);
                Ok(Attempt::Failed(error))
            }
        },
    }
}

/// What prefill came to.
enum Prefill {
    /// It answered well; here is its answer.
    Ready(Bytes),
    /// It refused the request itself.
    RequestRefused(Upstream),
    /// It refused for now, or did not answer.
    Failed(Attempt),
}

/// What two requests at once came to.
enum Verdict {
    /// Decode's answer counts.
    Answer(Upstream, Option<Companion>),
    /// Decode is to be asked again, for the whole.
    Alone(Alone),
    /// The attempt failed; whether prefill is to blame alone.
    Failed(Attempt),
}

struct Legs<'a> {
    exchange: &'a Exchange,
    server: &'a Arc<Server>,
    request: &'a Prepared<'a>,
    pair: Pair<'a>,
}

impl<'a> Legs<'a> {
    fn hand_over(&self, engine_id: Option<&'a str>) -> HandOver<'a> {
        let prompts = match (&self.request.body, &self.request.peek) {
            (Some(body), Some(peek)) => connector::prompts(body, peek),
            _ => 1,
        };
        HandOver {
            operation: self.request.operation,
            prefill: self.pair.0,
            id: uuid::Uuid::new_v4(),
            prompts,
            engine_id,
        }
    }

    /// Prefill, then decode.
    async fn in_turn(
        &self,
        session: &mut Session,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Result<Attempt, Failure> {
        let hand_over = self.hand_over(None);
        let begun = Instant::now();
        let prefill = or_gone(session, self.prefill(&hand_over)).await?;
        trace.phases.prefill(begun, matches!(prefill, Prefill::Ready(_)));
        let body = match prefill {
            Prefill::Ready(bytes) => match self.decode_body(&hand_over, Some(&bytes)) {
                Ok((body, Decode::WithCache)) => body,
                Ok((body, Decode::Alone(reason))) => {
                    trace.alone = Some(reason);
                    body
                }
                Err(error) => {
                    tried.add(self.pair.0);
                    return Ok(Attempt::Failed(error));
                }
            },
            Prefill::RequestRefused(upstream) => {
                if !self.server.protocol.0.decode_stands_alone() {
                    return Ok(Attempt::Answer(upstream, None));
                }
                upstream.discard().await;
                trace.alone = Some(Alone::PrefillRefused);
                self.request.whole_body()
            }
            Prefill::Failed(attempt) => return Ok(self.prefill_failed(attempt, tried, trace)),
        };
        self.decode(session, body, tried, trace).await
    }

    /// Sends decode's request and judges the answer.
    async fn decode(
        &self,
        session: &mut Session,
        body: Option<Body>,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Result<Attempt, Failure> {
        let begun = Instant::now();
        let sent = or_gone(session, self.send_decode(body.as_ref())).await?;
        Ok(self.decoded(sent, begun, tried, trace))
    }

    /// Prefill and decode at once.
    async fn together(
        &self,
        session: &mut Session,
        engine_id: Option<&'a str>,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Result<Attempt, Failure> {
        let hand_over = self.hand_over(engine_id);
        let (body, _) = match self.decode_body(&hand_over, None) {
            Ok(made) => made,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        // An engine that was asked for its id hands over only if prefill was cut at its one token; decode's head alone says
        // nothing about that.
        let wait = engine_id.is_some();
        let verdict = or_gone(session, self.both(&hand_over, body.as_ref(), wait, tried, trace)).await?;
        match verdict {
            Verdict::Answer(upstream, companion) => Ok(Attempt::Answer(upstream, companion)),
            Verdict::Alone(reason) => {
                trace.alone = Some(reason);
                self.decode(session, self.request.whole_body(), tried, trace)
                    .await
            }
            Verdict::Failed(attempt) => Ok(attempt),
        }
    }

    /// Runs both requests until one of them decides. What is still under way when this returns, or is dropped, is cancelled,
    /// except prefill where decode's answer depends on it.
    async fn both(
        &self,
        hand_over: &HandOver<'_>,
        body: Option<&Body>,
        wait: bool,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Verdict {
        let begun = Instant::now();
        let (report, mut prefill) = oneshot::channel();
        let leg = PrefillLeg::new(self, hand_over);
        let task = tokio::spawn(async move {
            // Nobody listens any more once decode's answer is being handed on.
            let _unheard = report.send(leg.run().await);
        });
        let companion = Companion::new(task);
        let mut decode = std::pin::pin!(self.send_decode(body));
        let mut early: Option<Upstream> = None;
        loop {
            tokio::select! {
                biased;
                ended = &mut prefill => {
                    let ended = ended.unwrap_or(Prefill::Failed(Attempt::Failed(Error::Timeout)));
                    trace.phases.prefill(begun, matches!(ended, Prefill::Ready(_)));
                    match ended {
                        Prefill::Ready(bytes) if wait && !self.was_cut(&bytes) => return Verdict::Alone(Alone::PrefillStopped),
                        Prefill::Ready(_) => break,
                        Prefill::RequestRefused(upstream) if self.server.protocol.0.decode_stands_alone() => {
                            upstream.discard().await;
                            return Verdict::Alone(Alone::PrefillRefused);
                        }
                        Prefill::RequestRefused(upstream) => return Verdict::Answer(upstream, None),
                        Prefill::Failed(attempt) => return Verdict::Failed(self.prefill_failed(attempt, tried, trace)),
                    }
                }
                head = &mut decode, if early.is_none() => {
                    match self.decoded(head, begun, tried, trace) {
                        Attempt::Answer(upstream, _) if wait && upstream.status() < 300 => early = Some(upstream),
                        // Prefill goes on for an answer that comes, and is cancelled for one that does not.
                        Attempt::Answer(upstream, _) if upstream.status() < 300 => {
                            return Verdict::Answer(upstream, Some(companion));
                        }
                        Attempt::Answer(upstream, _) => return Verdict::Answer(upstream, None),
                        failed => return Verdict::Failed(failed),
                    }
                }
            }
        }
        if let Some(upstream) = early {
            return Verdict::Answer(upstream, None);
        }
        match self.decoded(decode.await, begun, tried, trace) {
            Attempt::Answer(upstream, _) => Verdict::Answer(upstream, None),
            failed => Verdict::Failed(failed),
        }
    }

    fn decoded(
        &self,
        head: Result<Upstream, Error>,
        begun: Instant,
        tried: &mut Tried,
        trace: &mut Trace,
    ) -> Attempt {
        let attempt = self.exchange.judge(head, self.pair.1, tried, trace);
        trace.phases.decode(begun, matches!(attempt, Attempt::Answer(..)));
        match &attempt {
            Attempt::Answer(..) => {}
            // Nobody was there: prefill has no part in it, and may be the only one left that works.
            Attempt::Failed(Error::Connect(_) | Error::Resolve { .. }) => {}
            // Either side may be the one that is broken: another pair comes first.
            Attempt::Refused(_) | Attempt::Failed(_) => {
                tried.add(self.pair.0);
                self.pair.0.set_engine_id(None);
            }
        }
        attempt
    }

    fn prefill_failed(&self, attempt: Attempt, tried: &mut Tried, trace: &mut Trace) -> Attempt {
        tried.add(self.pair.0);
        self.pair.0.set_engine_id(None);
        if let Attempt::Refused(upstream) = &attempt {
            trace.upstream_status = Some(upstream.status());
        }
        attempt
    }

    fn was_cut(&self, answer: &[u8]) -> bool {
        Answer::read(answer).is_ok_and(|answer| answer.is_cut(self.request.operation))
    }

    async fn prefill(&self, hand_over: &HandOver<'_>) -> Prefill {
        PrefillLeg::new(self, hand_over).run().await
    }

    fn decode_body(
        &self,
        hand_over: &HandOver<'_>,
        answer: Option<&[u8]>,
    ) -> Result<(Option<Body>, Decode), Error> {
        let answer = answer.map(Answer::read).transpose().map_err(Error::NoJson)?;
        let mut decode = Decode::WithCache;
        let body = self.request.edited(|edits| {
            edits.extend(&self.request.answer_edits);
            decode = self.server.protocol.0.decode(hand_over, answer.as_ref(), edits);
        });
        Ok((body, decode))
    }

    /// The head of a streamed answer comes at once and the timeout bounds it; that of an answer in one piece comes at the end
    /// of generation, which no timeout of this kind is meant to bound.
    async fn send_decode(&self, body: Option<&Body>) -> Result<Upstream, Error> {
        let timeout = self.server.timeout.filter(|_| self.request.stream);
        let connector = &self.exchange.connector;
        connector
            .send_within(timeout, self.pair.1, &self.request.head, body)
            .await
    }

    /// What the prefill engine calls itself: asked of its bootstrap server once, and again after a failure.
    async fn engine_id(&self) -> Result<String, Error> {
        if let Some(id) = self.pair.0.engine_id() {
            return Ok(id.as_ref().clone());
        }
        let (prefill, port) = (
            self.pair.0,
            self.pair.0.ports().mooncake_bootstrap.unwrap_or_default(),
        );
        let address = match prefill.address() {
            Address::Ip(address) => Address::Ip(std::net::SocketAddr::new(address.ip(), port)),
            Address::Name(name, _) => Address::Name(name.clone(), port),
        };
        let key = EndpointKey {
            uid: prefill.key().uid.clone(),
            address,
            tls: None,
        };
        let server = Endpoint::new(key, prefill.name().clone(), Ports::default(), None);
        let head = head::RequestHead::get("/query", &server.address().to_string());
        let ask = async {
            let mut upstream = self.exchange.connector.send(&server, &head, None).await?;
            upstream.read_all(PREFILL_ANSWER).await
        };
        let timeout = self.server.timeout.unwrap_or(CONNECT_TIMEOUT);
        let answer = tokio::time::timeout(timeout, ask)
            .await
            .unwrap_or(Err(Error::Timeout))?;
        let id = connector::mooncake_engine_id(&answer).ok_or(Error::NoEngineId)?;
        prefill.set_engine_id(Some(id.clone()));
        Ok(id)
    }
}

/// The request to prefill, owning all it needs.
struct PrefillLeg {
    connector: Arc<Connector>,
    endpoint: Arc<Endpoint>,
    head: head::RequestHead,
    body: Option<Body>,
    timeout: Option<Duration>,
}

impl PrefillLeg {
    fn new(legs: &Legs<'_>, hand_over: &HandOver<'_>) -> Self {
        let request = legs.request;
        let body = request.edited(|edits| {
            if let (Some(body), Some(peek)) = (&request.body, &request.peek) {
                connector::prefill_edits(request.operation, body, peek, edits);
            }
            legs.server.protocol.0.prefill(hand_over, edits);
        });
        Self {
            connector: legs.exchange.connector.clone(),
            endpoint: legs.pair.0.clone(),
            head: request.head.clone(),
            body,
            timeout: legs.server.timeout,
        }
    }

    async fn run(self) -> Prefill {
        let sent = self
            .connector
            .send_within(self.timeout, &self.endpoint, &self.head, self.body.as_ref())
            .await;
        let mut upstream = match sent {
            Ok(upstream) => upstream,
            Err(error) => return Prefill::Failed(Attempt::Failed(error)),
        };
        match upstream.status() {
            200..=299 => match upstream.read_all(PREFILL_ANSWER).await {
                Ok(bytes) => {
                    upstream.release();
                    Prefill::Ready(bytes)
                }
                Err(error) => Prefill::Failed(Attempt::Failed(error)),
            },
            status if is_retryable(status) => Prefill::Failed(Attempt::Refused(upstream)),
            _ => Prefill::RequestRefused(upstream),
        }
    }
}
