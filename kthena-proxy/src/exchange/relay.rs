//! Handing an engine's answer to the client.

use bytes::Bytes;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::head::{self, Framing};
use super::upstream::Upstream;
use crate::failure::{Failure, Kind};
use crate::openai::Operation;
use crate::openai::sse::HideUsage;
use crate::openai::usage::{Scan, Usage};

/// What to do with an answer besides handing it on.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The API of the request.
    pub operation: Operation,
    /// Whether the usage event is there only because the proxy asked for it.
    pub hide_usage: bool,
    /// The request's id.
    pub id: &'a str,
    /// Whether the request was `HEAD`.
    pub is_head: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Relayed {
    /// The usage that the engine reported.
    pub usage: Option<Usage>,
    /// When the first byte of the body left.
    pub first_byte: Option<tokio::time::Instant>,
    /// Why the answer did not get to its end. The head is sent: all that is left is to end the connection without a clean end.
    pub failure: Option<Failure>,
}

/// Hands on head and body. Once the head has left nothing is retried: what goes wrong from here on becomes an event in the
/// stream, and a connection that ends without the mark of a complete body.
pub async fn relay(session: &mut Session, mut upstream: Upstream, options: Options<'_>) -> Relayed {
    let mut relayed = Relayed::default();
    if let Err(failure) = run(session, &mut upstream, options, &mut relayed).await {
        relayed.failure = Some(failure);
        return relayed;
    }
    upstream.release();
    relayed
}

async fn run(
    session: &mut Session,
    upstream: &mut Upstream,
    options: Options<'_>,
    relayed: &mut Relayed,
) -> Result<(), Failure> {
    let Some(engine_head) = upstream.take_head() else {
        return Err(Failure::new(Kind::Internal, "no answer to hand on"));
    };
    let is_stream = is_event_stream(&engine_head);
    let is_encoded = engine_head.headers.contains_key(http::header::CONTENT_ENCODING);
    let head = head::answer(&engine_head, framing(session), options.id)?;
    drop(engine_head);
    let bodiless = options.is_head || head::is_bodiless(head.status);
    begin(session, head, bodiless)
        .await
        .map_err(Failure::client_gone)?;
    if bodiless {
        return session
            .write_response_body(None, true)
            .await
            .map_err(Failure::client_gone);
    }
    let mut hide = (options.hide_usage && is_stream && !is_encoded).then(HideUsage::default);
    let mut scan = Scan::default();
    loop {
        let read = tokio::select! {
            biased;
            read = upstream.read() => read,
            failure = client_gone(session) => return Err(failure),
        };
        let (bytes, end) = match read {
            Ok(Some(bytes)) => (bytes, upstream.is_done()),
            Ok(None) => (Bytes::new(), true),
            Err(error) => {
                let failure =
                    Failure::new(Kind::Lost, format!("the engine was lost: {error}")).because(error);
                return Err(lost(session, options, is_stream && !is_encoded, hide.as_mut(), failure).await);
            }
        };
        if !is_encoded {
            scan.push(&bytes);
        }
        let bytes = match &mut hide {
            None => bytes,
            Some(hide) if end => hide.last(bytes),
            Some(hide) => hide.push(bytes),
        };
        if relayed.first_byte.is_none() && !bytes.is_empty() {
            relayed.first_byte = Some(tokio::time::Instant::now());
        }
        if !bytes.is_empty() || end {
            session
                .write_response_body(Some(bytes), end)
                .await
                .map_err(Failure::client_gone)?;
        }
        if end {
            relayed.usage = scan.usage();
            return Ok(());
        }
    }
}

/// Writes the head of an answer. Once the process drains it says that the connection ends with this answer: Pingora looks when
/// a request begins, and this one may have begun long before.
pub async fn begin(
    session: &mut Session,
    head: Box<ResponseHeader>,
    bodiless: bool,
) -> pingora_error::Result<()> {
    if session.is_process_shutting_down() {
        session.set_keepalive(None);
    }
    session.write_response_header(head, bodiless).await
}

/// Tells the client of a stream that it will not be complete.
async fn lost(
    session: &mut Session,
    options: Options<'_>,
    is_stream: bool,
    hide: Option<&mut HideUsage>,
    failure: Failure,
) -> Failure {
    if is_stream {
        // What waited for its end is dropped: half an event would spoil the one that says what happened.
        let boundary = if hide.is_some() { &b""[..] } else { b"\n\n" };
        let event = [boundary, &failure.event(options.operation)].concat();
        // The client may be gone as well; then nobody needs to be told.
        let _told = session.write_response_body(Some(event.into()), false).await;
    }
    failure
}

fn is_event_stream(head: &ResponseHeader) -> bool {
    head.headers.get(http::header::CONTENT_TYPE).is_some_and(|value| {
        let media_type = value
            .as_bytes()
            .split(|byte| *byte == b';')
            .next()
            .unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

/// How this client's connection carries a body of unknown length.
pub fn framing(session: &Session) -> Framing {
    if session.req_header().version == http::Version::HTTP_11 {
        Framing::Chunked
    } else {
        Framing::Native
    }
}

/// Resolves when the client is gone. Cancel-safe.
pub async fn client_gone(session: &mut Session) -> Failure {
    loop {
        if let Err(error) = session.read_body_or_idle(true).await {
            return Failure::client_gone(error);
        }
    }
}
