//! The API server: what is shared, and how requests are answered.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::Fault;
use super::follow::Follower;
use super::refusal::Refusal;
use super::request::{Request, Verb};
use super::selector::Filter;
use super::store::{Place, Store};

/// What decides about faults.
pub(super) type Decide = Box<dyn FnMut(&Request) -> Option<Fault> + Send>;

/// What all handles of an API server have in common.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Changes whenever a watch has to look.
    pub(super) news: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) store: Store,
    pub(super) requests: Vec<Request>,
    pub(super) decide: Option<Decide>,
    /// Counts how often all watches were cut.
    pub(super) turn: u64,
}

/// The body of an answer.
type Answer = Either<Full<Bytes>, StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// A connection that broke.
#[derive(Debug, thiserror::Error)]
#[error("the connection broke, as the test wants it")]
pub(super) struct Broken;

impl Shared {
    pub(super) fn new() -> Self {
        let state = State {
            store: Store::default(),
            requests: Vec::new(),
            decide: None,
            turn: 0,
        };
        Self {
            state: Mutex::new(state),
            news: watch::Sender::default(),
        }
    }

    /// Changes something, and tells those who follow if anything is different.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (result, is_news) = {
            let mut state = self.state.lock();
            let mark = |state: &State| (state.store.version, state.store.compacted, state.turn);
            let before = mark(&state);
            let result = change(&mut state);
            (result, mark(&state) != before)
        };
        if is_news {
            self.news.send_modify(|count| *count += 1);
        }
        result
    }

    /// Answers a request.
    pub(super) async fn answer(
        self: Arc<Self>,
        request: http::Request<Body>,
    ) -> Result<http::Response<Answer>, Broken> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Err(Broken);
        };
        let request = match Request::of(&head, &body.to_bytes()) {
            Ok(request) => request,
            Err(refusal) => return Ok(respond(refusal.code, &refusal.status())),
        };
        let (number, fault) = {
            let mut state = self.state.lock();
            let mut decide = state.decide.take();
            let fault = decide.as_mut().and_then(|decide| decide(&request));
            state.decide = decide;
            state.requests.push(request.clone());
            (state.requests.len() - 1, fault)
        };
        let answer = match fault {
            Some(Fault::Unreachable) => return Err(Broken),
            Some(Fault::Refused(code)) => {
                let refusal = Refusal::wanted(code);
                respond(code, &refusal.status())
            }
            Some(Fault::Unanswered) => {
                // It is done, and nobody learns of it.
                drop(self.handle(&request));
                return Err(Broken);
            }
            None => self.handle(&request),
        };
        if let Some(request) = self.state.lock().requests.get_mut(number) {
            request.answer = Some(answer.status().as_u16());
        }
        Ok(answer)
    }

    fn handle(self: &Arc<Self>, request: &Request) -> http::Response<Answer> {
        let result = match request.verb {
            Verb::Watch => match Follower::of(request, self) {
                Ok(follower) => {
                    let frames = follower.stream().map(|line| Ok(Frame::data(line)));
                    return with(200, Either::Right(StreamBody::new(frames.boxed())));
                }
                Err(refusal) => Err(refusal),
            },
            Verb::Get => self.state.lock().store.read(request),
            Verb::List => self.state.lock().store.list(request),
            _ => self.change(|state| state.store.write(request)),
        };
        match result {
            Ok((code, value)) => respond(code, &value),
            Err(refusal) => respond(refusal.code, &refusal.status()),
        }
    }
}

impl Store {
    fn read(&self, request: &Request) -> Result<(u16, Value), Refusal> {
        if !matches!(request.subresource.as_deref(), None | Some("status")) {
            return Err(Refusal::not_found(format!("{request} is not played")));
        }
        let place = Place::of(request)?;
        let object = self.get(&place).ok_or_else(|| place.missing())?;
        Ok((200, Value::clone(object)))
    }

    fn list(&self, request: &Request) -> Result<(u16, Value), Refusal> {
        let filter = Filter::of(request)?;
        let all = self.all().filter(|(place, object)| filter.takes(place, object));
        let items: Vec<&Value> = all.map(|(_, object)| &**object).collect();
        let (api_version, kind) = self.kind(&request.group, &request.resource);
        let kind = format!("{}List", kind.as_str().unwrap_or_default());
        let metadata = json!({ "resourceVersion": self.version.to_string() });
        let list = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items });
        Ok((200, list))
    }
}

fn respond(code: u16, value: &Value) -> http::Response<Answer> {
    with(code, Either::Left(Full::from(value.to_string())))
}

fn with(code: u16, body: Answer) -> http::Response<Answer> {
    let mut response = http::Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
}
