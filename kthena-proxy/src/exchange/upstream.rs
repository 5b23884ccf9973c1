//! One request to one engine: connecting, sending, reading.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error as PingoraError, ErrorType};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::head::RequestHead;
use crate::cluster::endpoint::{Address, Endpoint, InFlight};
use crate::cluster::tls::Verify;
use crate::openai::Body;

/// How long a connection may take to come about.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a prefill engine may take to end its own answer once decode's is complete.
const COMPANION_GRACE: Duration = Duration::from_secs(5);
/// Bodies up to this size go out in one piece with the head.
const JOIN_BELOW: usize = 16 * 1024;
/// How many bytes that are ready at once leave in one write.
const JOIN_UP_TO: usize = 64 * 1024;

/// Why an engine gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not resolve.
    #[error("cannot resolve {name}")]
    Resolve {
        /// The DNS name.
        name: String,
        /// What the resolver said.
        #[source]
        source: std::io::Error,
    },
    /// No connection came about.
    #[error("cannot connect")]
    Connect(#[source] Box<PingoraError>),
    /// The connection closed, or broke, before the head of the answer.
    #[error("the connection closed before an answer")]
    Closed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer is no HTTP.
    #[error("the answer is not valid HTTP")]
    Malformed(#[source] Box<PingoraError>),
    /// The time for this attempt is over.
    #[error("no answer in time")]
    Timeout,
    /// The body of an answer that is read whole is too long.
    #[error("the answer is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The body broke off.
    #[error("the answer broke off")]
    Body(#[source] Box<PingoraError>),
    /// A prefill engine's answer is no JSON.
    #[error("the prefill engine's answer is not JSON")]
    NoJson(#[source] serde_json::Error),
    /// A bootstrap server did not say who its engine is.
    #[error("the bootstrap server did not name its engine")]
    NoEngineId,
}

/// Makes connections.
pub struct Connector {
    transport: TransportConnector,
}

impl Default for Connector {
    fn default() -> Self {
        // Idle connections are kept by their endpoints; pingora's own pool stays empty.
        Self {
            transport: TransportConnector::new(Some(ConnectorOptions::new(1))),
        }
    }
}

impl Connector {
    /// Sends a request and reads the head of the answer. A connection that was kept and turns out closed before it has
    /// answered anything is replaced at once: its engine never saw the request.
    pub async fn send(
        &self,
        endpoint: &Arc<Endpoint>,
        head: &RequestHead,
        body: Option<&Body>,
    ) -> Result<Upstream, Error> {
        let guard = endpoint.begin();
        loop {
            let (stream, reused) = match self.idle(endpoint) {
                Some(stream) => (stream, true),
                None => (self.connect(endpoint).await?, false),
            };
            match exchange(stream, head, body).await {
                Ok(http) => return Ok(Upstream::new(http, endpoint.clone(), guard)),
                Err(Error::Closed(_)) if reused => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The same, within a time.
    pub async fn send_within(
        &self,
        timeout: Option<Duration>,
        endpoint: &Arc<Endpoint>,
        head: &RequestHead,
        body: Option<&Body>,
    ) -> Result<Upstream, Error> {
        let send = self.send(endpoint, head, body);
        match timeout {
            Some(timeout) => tokio::time::timeout(timeout, send)
                .await
                .unwrap_or(Err(Error::Timeout)),
            None => send.await,
        }
    }

    fn idle(&self, endpoint: &Endpoint) -> Option<Stream> {
        while let Some(mut stream) = endpoint.take_idle(IDLE_TIMEOUT) {
            if is_open(&mut stream) {
                return Some(stream);
            }
        }
        None
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Stream, Error> {
        let address = resolve(endpoint.address()).await?;
        let mut peer = HttpPeer::new(address, endpoint.tls().is_some(), String::new());
        peer.options.connection_timeout = Some(CONNECT_TIMEOUT);
        peer.options.total_connection_timeout = Some(CONNECT_TIMEOUT * 2);
        if let Some(tls) = endpoint.tls() {
            peer.sni = if tls.server_name.is_empty() {
                endpoint.address().host()
            } else {
                tls.server_name.clone()
            };
            peer.options.verify_cert = tls.verify == Verify::Full;
            peer.options.verify_hostname = tls.verify == Verify::Full;
            peer.options.ca.clone_from(&tls.ca);
            peer.client_cert_key.clone_from(&tls.client);
        }
        // Boxed: the state of a handshake is large, and only few requests need one.
        Box::pin(self.transport.new_stream(&peer))
            .await
            .map_err(|error| match error.etype() {
                ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Error::Timeout,
                _ => Error::Connect(error),
            })
    }
}

async fn resolve(address: &Address) -> Result<SocketAddr, Error> {
    match address {
        Address::Ip(address) => Ok(*address),
        Address::Name(name, port) => {
            let failed = |source| Error::Resolve {
                name: name.to_string(),
                source,
            };
            let mut found = tokio::net::lookup_host((name.as_ref(), *port))
                .await
                .map_err(failed)?;
            found
                .next()
                .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
        }
    }
}

/// Whether an idle connection is still usable: nothing came, not even its end.
pub fn is_open(stream: &mut Stream) -> bool {
    let mut byte = [0; 1];
    tokio::task::unconstrained(stream.read(&mut byte))
        .now_or_never()
        .is_none()
}

/// The session is boxed: it is large, and goes through many hands.
async fn exchange(
    mut stream: Stream,
    head: &RequestHead,
    body: Option<&Body>,
) -> Result<Box<HttpSession>, Error> {
    if let Err(error) = write(&mut stream, head, body).await {
        // An engine that refuses a request may answer before it has read all of it; that answer is worth more than our error.
        let mut http = Box::new(HttpSession::new(stream));
        return match http.read_response().now_or_never() {
            Some(Ok(_)) => Ok(http),
            _ => Err(Error::Closed(error.into())),
        };
    }
    let mut http = Box::new(HttpSession::new(stream));
    loop {
        http.read_response().await.map_err(|error| match error.etype() {
            ErrorType::ConnectionClosed | ErrorType::ReadError => Error::Closed(error),
            _ => Error::Malformed(error),
        })?;
        // Informational answers come before the one that counts.
        if !http
            .get_status()
            .is_some_and(|status| status.is_informational() && status != 101)
        {
            return Ok(http);
        }
    }
}

async fn write(stream: &mut Stream, head: &RequestHead, body: Option<&Body>) -> std::io::Result<()> {
    let length = body.map(Body::len);
    let mut first =
        BytesMut::with_capacity(head.capacity() + length.filter(|length| *length <= JOIN_BELOW).unwrap_or(0));
    head.write(length, &mut first);
    let segments = body.map_or(&[][..], Body::segments);
    if length.is_some_and(|length| length <= JOIN_BELOW) {
        segments
            .iter()
            .for_each(|segment| first.extend_from_slice(segment));
        stream.write_all(&first).await?;
    } else {
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(segments.len() + 1);
        slices.push(IoSlice::new(&first));
        slices.extend(segments.iter().map(|segment| IoSlice::new(segment)));
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let written = stream.write_vectored(rest).await?;
            if written == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    stream.flush().await
}

/// An answer that is being read.
pub struct Upstream {
    http: Box<HttpSession>,
    endpoint: Arc<Endpoint>,
    _in_flight: InFlight,
    buffer: BytesMut,
    /// An error that came behind bytes which are handed out first.
    failed: Option<Box<PingoraError>>,
    done: bool,
}

impl Upstream {
    fn new(http: Box<HttpSession>, endpoint: Arc<Endpoint>, in_flight: InFlight) -> Self {
        Self {
            http,
            endpoint,
            _in_flight: in_flight,
            buffer: BytesMut::new(),
            failed: None,
            done: false,
        }
    }

    /// The engine that answers.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.http.get_status().map_or(0, |status| status.as_u16())
    }

    /// The head; `None` only if none was read, which [`Connector::send`] rules out.
    #[must_use]
    pub fn head(&self) -> Option<&ResponseHeader> {
        self.http.resp_header()
    }

    /// The next bytes of the body; all that are ready come together. `None` is its end.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(error) = self.failed.take() {
            return Err(Error::Body(error));
        }
        if self.done {
            return Ok(None);
        }
        match self.http.read_body_ref().await {
            Ok(Some(bytes)) => self.buffer.extend_from_slice(bytes),
            Ok(None) => {
                self.done = true;
                return Ok(None);
            }
            Err(error) => return Err(Error::Body(error)),
        }
        while self.buffer.len() < JOIN_UP_TO {
            match self.http.read_body_ref().now_or_never() {
                Some(Ok(Some(bytes))) => self.buffer.extend_from_slice(bytes),
                Some(Ok(None)) => {
                    self.done = true;
                    break;
                }
                Some(Err(error)) => {
                    self.failed = Some(error);
                    break;
                }
                None => break,
            }
        }
        Ok(Some(self.buffer.split().freeze()))
    }

    /// Whether the whole body was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Reads the rest of the body into one piece.
    pub async fn read_all(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.read().await? {
            if all.is_empty() && self.done {
                return Ok(bytes);
            }
            if all.len() + bytes.len() > limit {
                return Err(Error::TooLong { limit });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all.freeze())
    }

    /// Gives the answer up; the connection is kept where little of it is left.
    pub async fn discard(mut self) {
        let read = tokio::time::timeout(Duration::from_secs(1), self.read_all(JOIN_UP_TO)).await;
        if matches!(read, Ok(Ok(_))) {
            self.release().await;
        }
    }

    /// Keeps the connection for the next request, if the answer was read to its end and the engine allows it.
    pub async fn release(self) {
        if !self.done {
            return;
        }
        let mut http = self.http;
        http.respect_keepalive();
        if !http.will_keepalive() {
            return;
        }
        // Boxed for the same reason that the session is.
        if let Some(stream) = Box::pin(http.reuse()).await {
            self.endpoint.give_idle(stream);
        }
    }
}

/// A request that runs beside the one whose answer is handed on. Dropped, it is cancelled with it.
#[derive(Debug)]
pub struct Companion(Option<tokio::task::JoinHandle<()>>);

impl Companion {
    /// Watches over a task.
    #[must_use]
    pub fn new(task: tokio::task::JoinHandle<()>) -> Self {
        Self(Some(task))
    }

    /// The answer it belongs to is complete: it may come to its own end, within a moment.
    pub fn detach(mut self) {
        let Some(mut task) = self.0.take() else { return };
        if task.is_finished() {
            return;
        }
        tokio::spawn(async move {
            if tokio::time::timeout(COMPANION_GRACE, &mut task).await.is_err() {
                task.abort();
            }
        });
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}
