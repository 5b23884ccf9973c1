//! Reading requests.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const HEAD_LIMIT: usize = 256 * 1024;
const BODY_LIMIT: usize = 512 * 1024 * 1024;
const HEADERS: usize = 200;
/// How much may arrive after a request while it is being answered.
const AHEAD_LIMIT: usize = 64 * 1024;

/// A request as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    /// Names and values in the order and the case they were sent in.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Whether the client wants the connection kept.
    pub(crate) keep_alive: bool,
}

/// A request without its body.
#[derive(Debug)]
pub(crate) struct Head {
    request: Request,
    body: Framing,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("reading failed")]
    Io(#[from] io::Error),
    #[error("the request is malformed")]
    Malformed,
    #[error("the request is too large")]
    TooLarge,
}

/// The reading half of a connection.
pub(crate) struct Reader<R> {
    io: R,
    buffer: BytesMut,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

// === impl Request ===

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    pub(crate) fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first header of a name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.as_str())
}

// === impl Reader ===

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R) -> Self {
        Self {
            io,
            buffer: BytesMut::with_capacity(4096),
        }
    }

    pub(crate) fn into_inner(self) -> R {
        self.io
    }

    /// Whether part of a next request has arrived.
    pub(crate) fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads a request up to its body. Cancel-safe: what was read stays.
    pub(crate) async fn head(&mut self) -> Result<Head, ReadError> {
        loop {
            if let Some((head, used)) = parse_head(&self.buffer)? {
                self.buffer.advance(used);
                return Ok(head);
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(ReadError::TooLarge);
            }
            self.more().await?;
        }
    }

    /// Reads the body that belongs to a head.
    pub(crate) async fn body(&mut self, head: Head) -> Result<Request, ReadError> {
        let body = match head.body {
            Framing::Length(length) if length > BODY_LIMIT => return Err(ReadError::TooLarge),
            Framing::Length(length) => self.take(length).await?,
            Framing::Chunked => self.chunks().await?,
        };
        Ok(Request { body, ..head.request })
    }

    /// Resolves when the peer has gone. Bytes that arrive in the meantime are kept for the next request.
    pub(crate) async fn gone(&mut self) {
        while self.buffer.len() < AHEAD_LIMIT {
            if self.more().await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }

    async fn more(&mut self) -> Result<(), ReadError> {
        match self.io.read_buf(&mut self.buffer).await? {
            0 => Err(ReadError::Closed),
            _ => Ok(()),
        }
    }

    async fn take(&mut self, length: usize) -> Result<Bytes, ReadError> {
        self.buffer.reserve(length.saturating_sub(self.buffer.len()));
        while self.buffer.len() < length {
            self.more().await?;
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn line(&mut self) -> Result<Bytes, ReadError> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.split_to(end).freeze();
                self.buffer.advance(2);
                return Ok(line);
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(ReadError::TooLarge);
            }
            self.more().await?;
        }
    }

    async fn chunks(&mut self) -> Result<Bytes, ReadError> {
        let mut body = BytesMut::new();
        loop {
            let line = self.line().await?;
            let size = std::str::from_utf8(&line).ok().and_then(|l| l.split(';').next());
            let size = size
                .and_then(|s| usize::from_str_radix(s.trim(), 16).ok())
                .ok_or(ReadError::Malformed)?;
            if size == 0 {
                while !self.line().await?.is_empty() {}
                return Ok(body.freeze());
            }
            if size > BODY_LIMIT || body.len() + size > BODY_LIMIT {
                return Err(ReadError::TooLarge);
            }
            body.extend_from_slice(&self.take(size).await?);
            if !self.line().await?.is_empty() {
                return Err(ReadError::Malformed);
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ReadError> {
    let mut slots = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Request::new(&mut slots);
    let used = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ReadError::Malformed),
    };
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
        .collect();
    let connection = header(&headers, "connection")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let keep_alive = match parsed.version {
        Some(1) => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    let chunked =
        header(&headers, "transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
    let body = match header(&headers, "content-length") {
        _ if chunked => Framing::Chunked,
        Some(length) => Framing::Length(length.trim().parse().ok().ok_or(ReadError::Malformed)?),
        None => Framing::Length(0),
    };
    let expects_continue = header(&headers, "expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers,
        body: Bytes::new(),
        keep_alive,
    };
    Ok(Some((
        Head {
            request,
            body,
            expects_continue,
        },
        used,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Request, ReadError> {
        let mut reader = Reader::new(bytes);
        let head = reader.head().await?;
        reader.body(head).await
    }

    #[tokio::test]
    async fn bodies_come_by_length_or_in_chunks() {
        let plain = read(b"POST /a?b=1 HTTP/1.1\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabcGET")
            .await
            .unwrap();
        assert_eq!(
            (plain.path(), plain.query(), plain.body.as_ref()),
            ("/a", Some("b=1"), b"abc".as_ref())
        );
        assert_eq!(plain.headers[1], ("X-A".to_owned(), "b".to_owned()));
        assert!(plain.keep_alive);
        let chunked =
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2;x\r\nab\r\n1\r\nc\r\n0\r\nT: 1\r\n\r\n";
        assert_eq!(read(chunked).await.unwrap().body.as_ref(), b"abc");
    }

    #[tokio::test]
    async fn what_is_no_request_is_an_error() {
        assert!(matches!(read(b"").await, Err(ReadError::Closed)));
        assert!(matches!(
            read(b"\x16\x03\x01 nonsense\r\n\r\n").await,
            Err(ReadError::Malformed)
        ));
        assert!(matches!(
            read(b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n").await,
            Err(ReadError::Malformed)
        ));
        assert!(matches!(
            read(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nab").await,
            Err(ReadError::Closed)
        ));
    }
}
