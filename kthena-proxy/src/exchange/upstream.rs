//! One request to one engine: connecting, sending, reading.

use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_error::{Error as PingoraError, ErrorType};
use pingora_http::ResponseHeader;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::head::RequestHead;
use super::http1::{self, Reader};
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
    Malformed(#[source] http1::Error),
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
    Body(#[source] http1::Error),
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
                Ok((http, head)) => return Ok(Upstream::new(http, head, endpoint.clone(), guard)),
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

async fn exchange(
    mut stream: Stream,
    head: &RequestHead,
    body: Option<&Body>,
) -> Result<(Reader, Box<ResponseHeader>), Error> {
    if let Err(error) = write(&mut stream, head, body).await {
        // An engine that refuses a request may answer before it has read all of it; that answer is worth more than our error.
        return match Reader::start(stream, head.is_head).now_or_never() {
            Some(Ok(answer)) => Ok(answer),
            _ => Err(Error::Closed(error.into())),
        };
    }
    Reader::start(stream, head.is_head).await.map_err(|error| {
        if error.is_close() {
            Error::Closed(error.into())
        } else {
            Error::Malformed(error)
        }
    })
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
    http: Reader,
    status: u16,
    head: Option<Box<ResponseHeader>>,
    endpoint: Arc<Endpoint>,
    _in_flight: InFlight,
    /// An error that came behind bytes which are handed out first.
    failed: Option<http1::Error>,
}

impl Upstream {
    fn new(http: Reader, head: Box<ResponseHeader>, endpoint: Arc<Endpoint>, in_flight: InFlight) -> Self {
        Self {
            http,
            status: head.status.as_u16(),
            head: Some(head),
            endpoint,
            _in_flight: in_flight,
            failed: None,
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
        self.status
    }

    /// The head; `None` once it was taken.
    #[must_use]
    pub fn head(&self) -> Option<&ResponseHeader> {
        self.head.as_deref()
    }

    /// Hands out the head, so that it does not outlive its use.
    pub fn take_head(&mut self) -> Option<Box<ResponseHeader>> {
        self.head.take()
    }

    /// The next bytes of the body; all that are ready come together. `None` is its end. Nothing is lost where the future is
    /// dropped before it is ready.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(error) = self.failed.take() {
            return Err(Error::Body(error));
        }
        let mut bytes = BytesMut::new();
        let failed = loop {
            if let Err(error) = self.http.decode(&mut bytes) {
                break Some(error);
            }
            if self.http.is_done() || bytes.len() >= JOIN_UP_TO {
                break None;
            }
            let filled = if bytes.is_empty() {
                self.http.fill().await
            } else {
                match self.http.fill().now_or_never() {
                    Some(filled) => filled,
                    None => break None,
                }
            };
            if let Err(error) = filled {
                break Some(error);
            }
        };
        match failed {
            Some(error) if bytes.is_empty() => return Err(Error::Body(error)),
            failed => self.failed = failed,
        }
        Ok((!bytes.is_empty()).then(|| bytes.freeze()))
    }

    /// Whether the whole body was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.failed.is_none() && self.http.is_done()
    }

    /// Reads the rest of the body into one piece.
    pub async fn read_all(&mut self, limit: usize) -> Result<Bytes, Error> {
        let mut all = BytesMut::new();
        while let Some(bytes) = self.read().await? {
            if all.is_empty() && self.is_done() {
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
            self.release();
        }
    }

    /// Keeps the connection for the next request, if the answer was read to its end and the engine allows it.
    pub fn release(self) {
        if let Some(stream) = self.http.into_idle() {
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
