//! Heads of requests and answers: what passes, what does not.

use bytes::{BufMut, Bytes, BytesMut};
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderName};
use pingora_http::{RequestHeader, ResponseHeader};

use crate::failure::{Failure, Kind};
use crate::openai::Operation;

/// Headers that concern one connection alone (RFC 9110, section 7.6.1), and `Proxy-Connection`, which old clients send.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The name of the header that identifies a request.
pub const REQUEST_ID: &str = "x-request-id";

/// The head of an upstream request, but for its length: that differs between prefill, decode and retries.
#[derive(Debug, Clone)]
pub struct RequestHead {
    lines: Bytes,
    /// Whether the answer has no body whatever its head says.
    pub is_head: bool,
}

impl RequestHead {
    /// The head for engines, made of the client's.
    ///
    /// Everything passes as it came, except what concerns the connection to the client, `Expect` (the proxy has the body),
    /// and, for APIs whose answers it reads, `Accept-Encoding`: usage cannot be read from a compressed answer.
    #[must_use]
    pub fn new(request: &RequestHeader, host: &[u8], id: &str, operation: Operation) -> Self {
        let mut lines = BytesMut::with_capacity(512);
        lines.put_slice(request.method.as_str().as_bytes());
        lines.put_u8(b' ');
        lines.put_slice(request.raw_path());
        lines.put_slice(b" HTTP/1.1\r\nhost: ");
        lines.put_slice(host);
        lines.put_slice(b"\r\n");
        let nominated = nominated(&request.headers);
        for (name, value) in &request.headers {
            let drop = match name.as_str() {
                "host" | "content-length" | "expect" | REQUEST_ID | "http2-settings" => true,
                "accept-encoding" => operation != Operation::Other,
                other => HOP_BY_HOP.contains(&other) || nominated.contains(name),
            };
            if !drop {
                put_line(&mut lines, name.as_str().as_bytes(), value.as_bytes());
            }
        }
        put_line(&mut lines, REQUEST_ID.as_bytes(), id.as_bytes());
        Self {
            lines: lines.freeze(),
            is_head: request.method == http::Method::HEAD,
        }
    }

    /// The head of a request that the proxy makes itself.
    #[must_use]
    pub fn get(path: &str, host: &str) -> Self {
        let lines = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n");
        Self {
            lines: lines.into(),
            is_head: false,
        }
    }

    /// Writes the head for a body of this length.
    pub fn write(&self, length: Option<usize>, out: &mut BytesMut) {
        out.put_slice(&self.lines);
        if let Some(length) = length {
            out.put_slice(b"content-length: ");
            out.put_slice(length.to_string().as_bytes());
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
    }

    /// Forgets its text: it will not be written again.
    pub fn forget(&mut self) {
        self.lines = Bytes::new();
    }

    /// How much room a head takes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.lines.len() + 40
    }
}

fn put_line(lines: &mut BytesMut, name: &[u8], value: &[u8]) {
    lines.reserve(name.len() + value.len() + 4);
    lines.put_slice(name);
    lines.put_slice(b": ");
    lines.put_slice(value);
    lines.put_slice(b"\r\n");
}

/// The names that a `Connection` header lists.
pub(super) fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

/// Whether an answer has no body whatever its head says (RFC 9110, section 6.4.1), the answer to `HEAD` apart.
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// How the client's connection carries a body of unknown length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1: in chunks.
    Chunked,
    /// HTTP/1.0: until the connection closes. HTTP/2: in frames.
    Native,
}

/// The head of the answer to the client, made of the engine's: everything but what concerns the connection to the engine.
///
/// `Content-Length` stays where the engine gave it and the body goes through unchanged.
pub fn answer(upstream: &ResponseHeader, framing: Framing, id: &str) -> Result<Box<ResponseHeader>, Failure> {
    make_answer(upstream, framing, id)
        .map_err(|error| Failure::new(Kind::Internal, "the engine's head cannot be handed on").because(error))
}

fn make_answer(
    upstream: &ResponseHeader,
    framing: Framing,
    id: &str,
) -> pingora_error::Result<Box<ResponseHeader>> {
    let nominated = nominated(&upstream.headers);
    let mut answer = ResponseHeader::build(upstream.status, Some(upstream.headers.len() + 1))?;
    let mut has_id = false;
    for (name, value) in &upstream.headers {
        if HOP_BY_HOP.contains(&name.as_str()) || nominated.contains(name) {
            continue;
        }
        has_id |= name.as_str() == REQUEST_ID;
        answer.append_header(name.clone(), value.clone())?;
    }
    if !has_id {
        answer.insert_header(REQUEST_ID, id)?;
    }
    if framing == Framing::Chunked
        && !is_bodiless(upstream.status)
        && !upstream.headers.contains_key(header::CONTENT_LENGTH)
    {
        answer.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    Ok(Box::new(answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(lines: &[(&'static str, &str)]) -> String {
        let mut request = RequestHeader::build("POST", b"/v1/chat/completions?x=1", None).unwrap();
        for (name, value) in lines {
            request.append_header(*name, *value).unwrap();
        }
        let mut out = BytesMut::new();
        RequestHead::new(&request, b"example.com", "id-1", Operation::Chat).write(Some(7), &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_request_head_passes_what_is_meant_for_the_engine() {
        assert_eq!(
            request(&[
                ("Host", "other"),
                ("Authorization", "Bearer x"),
                ("Connection", "keep-alive, X-Drop"),
                ("X-Drop", "1"),
                ("X-Keep", "1"),
                ("X-Keep", "2"),
                ("TE", "trailers"),
                ("Transfer-Encoding", "chunked"),
                ("Content-Length", "3"),
                ("Expect", "100-continue"),
                ("Accept-Encoding", "gzip"),
                ("X-Request-Id", "client"),
            ]),
            "POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: example.com\r\nauthorization: Bearer x\r\nx-keep: 1\r\nx-keep: 2\r\n\
             x-request-id: id-1\r\ncontent-length: 7\r\n\r\n"
        );
    }

    fn upstream(lines: &[(&'static str, &str)]) -> ResponseHeader {
        let mut head = ResponseHeader::build(200, None).unwrap();
        for (name, value) in lines {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn values(head: &ResponseHeader, name: &str) -> Vec<String> {
        head.headers
            .get_all(name)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn the_answer_keeps_repeated_headers_and_drops_those_of_the_hop() {
        let head = upstream(&[
            ("server", "uvicorn"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
        ]);
        let answer = answer(&head, Framing::Chunked, "id").unwrap();
        assert_eq!(values(&answer, "set-cookie"), ["a=1", "b=2"]);
        assert_eq!(values(&answer, "server"), ["uvicorn"]);
        assert_eq!(values(&answer, "transfer-encoding"), ["chunked"]);
        assert_eq!(values(&answer, REQUEST_ID), ["id"]);
        assert!(values(&answer, "x-hop").is_empty() && values(&answer, "keep-alive").is_empty());
    }

    #[test]
    fn a_known_length_stays_and_an_engines_id_too() {
        let head = upstream(&[("content-length", "5"), (REQUEST_ID, "engine")]);
        let answer = answer(&head, Framing::Chunked, "id").unwrap();
        assert_eq!(values(&answer, "content-length"), ["5"]);
        assert!(values(&answer, "transfer-encoding").is_empty());
        assert_eq!(values(&answer, REQUEST_ID), ["engine"]);
    }

    #[test]
    fn other_framings_get_no_chunks() {
        assert!(
            values(
                &answer(&upstream(&[]), Framing::Native, "id").unwrap(),
                "transfer-encoding"
            )
            .is_empty()
        );
    }
}
