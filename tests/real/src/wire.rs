//! HTTP as bytes: what was sent and what came back can be kept, compared and broken off.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// What an answer may take. The first hand-over of a pair is slow, and so is a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A request, before it is bytes.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
}

/// A connection on which an answer is coming.
#[derive(Debug)]
pub(crate) struct Open {
    stream: TcpStream,
    raw: Vec<u8>,
}

/// `GET`
pub(crate) async fn get(to: SocketAddr, path: &str) -> Result<Answer> {
    let request = Request {
        method: "GET",
        path: path.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    send(to, &request).await
}

/// Sends a request, and reads its answer to the end.
pub(crate) async fn send(to: SocketAddr, request: &Request) -> Result<Answer> {
    let raw = exchange(to, &request.bytes(to)).await?;
    Answer::parse(&raw)
        .with_context(|| format!("no answer to {request:?}: {:?}", String::from_utf8_lossy(&raw)))
}

/// Sends bytes, and reads the bytes of the answer.
pub(crate) async fn exchange(to: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut open = begin(to, request).await?;
    open.until(|_| false).await?;
    Ok(open.raw)
}

/// Sends bytes.
pub(crate) async fn begin(to: SocketAddr, request: &[u8]) -> Result<Open> {
    let mut stream = TcpStream::connect(to)
        .await
        .with_context(|| format!("connecting to {to}"))?;
    stream
        .write_all(request)
        .await
        .with_context(|| format!("sending to {to}"))?;
    Ok(Open {
        stream,
        raw: Vec::new(),
    })
}

impl Open {
    /// The answer as far as it is there.
    pub(crate) fn answer(&self) -> Option<Answer> {
        Answer::parse(&self.raw)
    }

    /// Reads until the answer is as wanted, or ends.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Answer) -> bool) -> Result<()> {
        let read = async {
            loop {
                if Answer::parse(&self.raw).is_some_and(|answer| answer.complete || wanted(&answer)) {
                    return Ok(());
                }
                if self
                    .stream
                    .read_buf(&mut self.raw)
                    .await
                    .context("reading an answer")?
                    == 0
                {
                    return Ok(());
                }
            }
        };
        match timeout(PATIENCE, read).await {
            Ok(read) => read,
            Err(_) => bail!(
                "no whole answer in {PATIENCE:?}, only {:?}",
                String::from_utf8_lossy(&self.raw)
            ),
        }
    }
}

impl Request {
    pub(crate) fn post(path: &str, body: &Value) -> Self {
        Self::raw(path, body.to_string().into_bytes())
    }

    pub(crate) fn raw(path: &str, body: Vec<u8>) -> Self {
        Self {
            method: "POST",
            path: path.to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body,
        }
    }

    /// On a connection of its own.
    pub(crate) fn bytes(&self, to: SocketAddr) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n",
            self.method, self.path
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

impl Answer {
    /// The answer as far as it is there; nothing before the end of its head.
    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&raw[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let split = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let mut answer = Self {
            status,
            headers: lines.filter_map(split).collect(),
            body: Vec::new(),
            complete: false,
        };
        let rest = &raw[end + 4..];
        let length = answer.header("content-length").map(str::parse::<usize>);
        (answer.body, answer.complete) = match length {
            Some(length) => (rest.to_vec(), rest.len() >= length.ok()?),
            None if answer.header("transfer-encoding") == Some("chunked") => unchunked(rest),
            None => (rest.to_vec(), matches!(status, 204 | 304)),
        };
        Some(answer)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type")
            .is_some_and(|value| value.starts_with("text/event-stream"))
    }
}

fn unchunked(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = raw.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let size = std::str::from_utf8(&raw[..end]).ok();
        let Some(size) = size.and_then(|size| usize::from_str_radix(size, 16).ok()) else {
            return (body, false);
        };
        let rest = &raw[end + 2..];
        if size == 0 {
            return (body, rest.starts_with(b"\r\n"));
        }
        body.extend_from_slice(&rest[..rest.len().min(size)]);
        let Some(next) = rest.get(size + 2..) else {
            return (body, false);
        };
        raw = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_when_its_framing_says_so() {
        for (raw, body, complete) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "ab", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
                "ab",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
                "ab",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                "abc",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nab",
                "ab",
                false,
            ),
        ] {
            let answer = Answer::parse(raw.as_bytes()).unwrap();
            assert_eq!(
                (answer.text().as_str(), answer.complete),
                (body, complete),
                "{raw:?}"
            );
        }
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Le").is_none());
    }
}
