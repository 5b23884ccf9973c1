//! Reading an HTTP/1.1 answer (RFC 9112) with no more memory than what has arrived.
//!
//! Pingora's client session keeps the bytes of the head and a body buffer of 64 KiB for as long as an answer lasts; an open
//! stream needs neither. [`Decoder`] is pure; [`Reader`] feeds it from a connection.

use bytes::{Buf, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora_core::protocols::Stream;
use pingora_http::ResponseHeader;
use tokio::io::AsyncReadExt;

mod body;

pub use body::Decoder;

/// Longest head.
const HEAD: usize = 1 << 20;
/// Most header lines.
const HEADERS: usize = 256;
/// Room for a read, as long as little comes at once.
const SMALL: usize = 2 * 1024;
/// Room for a read after one that was filled.
const LARGE: usize = 32 * 1024;

/// Why an answer cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine closed the connection before the end.
    #[error("the connection closed early")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Read(#[source] std::io::Error),
    /// The head does not end.
    #[error("the head is longer than {HEAD} bytes")]
    HeadTooLong,
    /// The head is not HTTP/1.
    #[error("the head is not HTTP/1")]
    Head(#[source] httparse::Error),
    /// A line of the head cannot be a header.
    #[error("the head has an invalid line")]
    Line(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The length is no number, or several.
    #[error("the length of the body is not clear")]
    Length,
    /// The engine wants another protocol, which nobody asked for.
    #[error("the engine switches protocols")]
    Switch,
    /// A chunk is not framed as it must be.
    #[error("the body is not framed in chunks as announced")]
    Chunk,
}

impl Error {
    /// Whether the engine went away, rather than said something wrong.
    #[must_use]
    pub const fn is_close(&self) -> bool {
        matches!(self, Self::Closed | Self::Read(_))
    }
}

/// An answer that is being read.
pub struct Reader {
    stream: Stream,
    input: BytesMut,
    /// Whether the last read filled the room it had.
    filled: bool,
    body: Decoder,
    keep_alive: bool,
}

impl Reader {
    /// Reads the head of the answer to a request; informational ones before it are passed over.
    pub async fn start(mut stream: Stream, is_head: bool) -> Result<(Self, Box<ResponseHeader>), Error> {
        let mut input = BytesMut::with_capacity(SMALL);
        let head = loop {
            match parse(&input)? {
                Some((head, length)) => {
                    input.advance(length);
                    match head.status.as_u16() {
                        101 => return Err(Error::Switch),
                        100..=199 => continue,
                        _ => break head,
                    }
                }
                None if input.len() >= HEAD => return Err(Error::HeadTooLong),
                None => {}
            }
            input.reserve(SMALL);
            if stream.read_buf(&mut input).await.map_err(Error::Read)? == 0 {
                return Err(Error::Closed);
            }
        };
        let (head, body) = framing(head, is_head)?;
        let keep_alive = keeps_alive(&head);
        // What came with the head is copied, so that the head's bytes are not kept for it.
        let input = BytesMut::from(&input[..]);
        let reader = Self {
            stream,
            input,
            filled: false,
            body,
            keep_alive,
        };
        Ok((reader, head))
    }

    /// Moves what has arrived of the body to `out`.
    pub fn decode(&mut self, out: &mut BytesMut) -> Result<(), Error> {
        self.body.decode(&mut self.input, out)
    }

    /// Waits for more. Nothing is lost where the future is dropped.
    pub async fn fill(&mut self) -> Result<(), Error> {
        let room = if self.filled { LARGE } else { SMALL };
        if self.input.is_empty() && self.input.capacity() > 2 * room {
            // It has grown for a burst that is over.
            self.input = BytesMut::new();
        }
        self.input.reserve(room);
        let room = self.input.capacity() - self.input.len();
        let read = self.stream.read_buf(&mut self.input).await.map_err(Error::Read)?;
        self.filled = read == room;
        if read == 0 { self.body.close() } else { Ok(()) }
    }

    /// Whether the whole body was decoded.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// The connection, if it can take another request.
    #[must_use]
    pub fn into_idle(self) -> Option<Stream> {
        // Bytes behind the end belong to no request of ours.
        (self.keep_alive && self.body.is_framed_end() && self.input.is_empty()).then_some(self.stream)
    }
}

/// A head and its length, if it is complete.
fn parse(input: &[u8]) -> Result<Option<(Box<ResponseHeader>, usize)>, Error> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut lines = [httparse::EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut lines);
    let mut config = httparse::ParserConfig::default();
    // As Pingora and other proxies read answers.
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    let httparse::Status::Complete(length) =
        config.parse_response(&mut response, input).map_err(Error::Head)?
    else {
        return Ok(None);
    };
    let line = |error: Box<dyn std::error::Error + Send + Sync>| Error::Line(error);
    let code = response.code.unwrap_or_default();
    let mut head = ResponseHeader::build_no_case(code, Some(response.headers.len()))
        .map_err(|error| line(error.into()))?;
    head.set_version(match response.version {
        Some(0) => http::Version::HTTP_10,
        _ => http::Version::HTTP_11,
    });
    for found in response.headers.iter() {
        let name = HeaderName::from_bytes(found.name.as_bytes()).map_err(|error| line(error.into()))?;
        // A folded line has line ends inside, which mean a space (RFC 9112, section 5.2).
        let value = if found.value.contains(&b'\n') {
            let parts = found.value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let text: Vec<&[u8]> = parts.collect();
            HeaderValue::from_bytes(text.join(&b' ').trim_ascii())
        } else {
            HeaderValue::from_bytes(found.value)
        };
        let value = value.map_err(|error| line(error.into()))?;
        head.append_header(name, value)
            .map_err(|error| line(error.into()))?;
    }
    Ok(Some((Box::new(head), length)))
}

/// How the body ends (RFC 9112, section 6.3).
fn framing(mut head: Box<ResponseHeader>, is_head: bool) -> Result<(Box<ResponseHeader>, Decoder), Error> {
    let is_chunked = last_coding(&head.headers).is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let has_coding = head.headers.contains_key(header::TRANSFER_ENCODING);
    if has_coding {
        // It overrides a length, which must not be passed on.
        head.remove_header(&header::CONTENT_LENGTH);
    }
    let decoder = if is_head || super::head::is_bodiless(head.status) {
        Decoder::empty()
    } else if is_chunked {
        Decoder::chunked()
    } else if has_coding {
        Decoder::until_close()
    } else {
        match length(&head.headers)? {
            Some(length) => Decoder::length(length),
            None => Decoder::until_close(),
        }
    };
    Ok((head, decoder))
}

fn last_coding(headers: &HeaderMap) -> Option<&[u8]> {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back()?;
    last.as_bytes()
        .rsplit(|byte| *byte == b',')
        .next()
        .map(<[u8]>::trim_ascii)
}

/// The announced length: one number, however often it is said.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(text).ok().filter(|_| digits);
            let number: u64 = number.and_then(|text| text.parse().ok()).ok_or(Error::Length)?;
            if found.is_some_and(|found| found != number) {
                return Err(Error::Length);
            }
            found = Some(number);
        }
    }
    Ok(found)
}

fn keeps_alive(head: &ResponseHeader) -> bool {
    let options = super::head::nominated(&head.headers);
    match head.version {
        http::Version::HTTP_10 => options.iter().any(|option| option == "keep-alive"),
        _ => options.iter().all(|option| option != "close"),
    }
}

#[cfg(test)]
mod tests;
