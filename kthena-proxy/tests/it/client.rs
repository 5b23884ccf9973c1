//! An HTTP/1.1 client that sees the bytes: what came, in which pieces, and whether the end was clean.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::bed::{CHAT, chat};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its framed end.
    pub(crate) complete: bool,
    /// The body as it was on the wire.
    pub(crate) raw: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The data of all events.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text()
            .split("\n\n")
            .flat_map(|event| event.lines())
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.trim().to_owned())
            .collect()
    }

    /// The generated text, of a stream or of one document.
    pub(crate) fn generated(&self) -> String {
        let of = |value: &serde_json::Value| -> String {
            let choices = value["choices"].as_array().cloned().unwrap_or_default();
            choices
                .iter()
                .filter_map(|choice| {
                    ["text", "message", "delta"]
                        .iter()
                        .find_map(|name| match &choice[*name] {
                            serde_json::Value::String(text) => Some(text.clone()),
                            other => other["content"].as_str().map(str::to_owned),
                        })
                })
                .collect()
        };
        if self
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/event-stream"))
        {
            let data = self.events();
            data.iter()
                .filter_map(|data| serde_json::from_str(data).ok())
                .map(|value| of(&value))
                .collect()
        } else {
            of(&self.json())
        }
    }

    /// Checks that it is a good one, to its end.
    #[track_caller]
    pub(crate) fn assert_good(&self, what: impl Display) {
        assert_eq!(
            (self.status, self.complete),
            (200, true),
            "{what}: {}",
            self.text()
        );
    }

    /// Checks that it is an error of the proxy's own.
    #[track_caller]
    pub(crate) fn assert_refused(&self, status: u16, code: &str, what: impl Display) {
        assert_eq!(
            (self.status, self.error_code().as_str()),
            (status, code),
            "{what}: {}",
            self.text()
        );
    }

    pub(crate) fn error_code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

/// A connection.
pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.expect("the proxy listens");
        socket.set_nodelay(true).expect("a TCP socket");
        Self {
            socket,
            buffer: Vec::new(),
        }
    }

    /// A client whose side of the connection holds hardly anything that it has not read.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a TCP socket");
        Self {
            socket: socket.connect(address).await.expect("the proxy listens"),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the proxy reads");
    }

    /// Sends a POST with JSON.
    pub(crate) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head =
            format!("POST {path} HTTP/1.1\r\nHost: proxy.test\r\nContent-Type: application/json\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), body].concat()).await;
    }

    /// Sends a chat with greedy sampling.
    pub(crate) async fn chat(&mut self, prompt: &str, stream: bool) {
        self.post(CHAT, &[], chat(prompt, stream).to_string().as_bytes())
            .await;
    }

    async fn fill(&mut self) -> usize {
        let read = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.buffer))
            .await
            .expect("in time");
        // A reset is an end like any other, only not a clean one.
        read.unwrap_or(0)
    }

    /// Reads the head of an answer; `None` if the connection ends first.
    pub(crate) async fn head(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill().await == 0 {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let text = String::from_utf8(head).expect("an ASCII head");
        let mut lines = text.trim_end().split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .expect("a status line");
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Answer {
            status,
            headers,
            body: Vec::new(),
            complete: false,
            raw: Vec::new(),
        })
    }

    /// Reads the next piece of a body that is chunked; what is already there counts. `None` at its end, clean or not.
    pub(crate) async fn piece(&mut self) -> Option<Vec<u8>> {
        if self.buffer.is_empty() && self.fill().await == 0 {
            return None;
        }
        Some(std::mem::take(&mut self.buffer))
    }

    /// Reads a whole answer.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let answer = self.head().await.expect("an answer");
            if answer.status >= 200 {
                return self.body(answer).await;
            }
        }
    }

    pub(crate) async fn body(&mut self, mut answer: Answer) -> Answer {
        if matches!(answer.status, 204 | 304) {
            answer.complete = true;
        } else if let Some(length) = answer
            .header("content-length")
            .map(|length| length.parse::<usize>().expect("a number"))
        {
            while self.buffer.len() < length && self.fill().await > 0 {}
            answer.complete = self.buffer.len() >= length;
            answer.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
            answer.raw.clone_from(&answer.body);
        } else if answer.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut answer).await;
        } else {
            while self.fill().await > 0 {}
            answer.body = std::mem::take(&mut self.buffer);
            answer.complete = true;
        }
        answer
    }

    async fn chunks(&mut self, answer: &mut Answer) {
        loop {
            let line_end = loop {
                match self.buffer.windows(2).position(|two| two == b"\r\n") {
                    Some(at) => break at,
                    None if self.fill().await == 0 => {
                        answer.raw.append(&mut self.buffer);
                        return;
                    }
                    None => {}
                }
            };
            let size = std::str::from_utf8(&self.buffer[..line_end]).expect("a chunk size");
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                .expect("a chunk size");
            let total = line_end + 2 + size + 2;
            while self.buffer.len() < total {
                if self.fill().await == 0 {
                    answer.raw.append(&mut self.buffer);
                    return;
                }
            }
            let chunk: Vec<u8> = self.buffer.drain(..total).collect();
            answer.raw.extend_from_slice(&chunk);
            answer
                .body
                .extend_from_slice(&chunk[line_end + 2..line_end + 2 + size]);
            if size == 0 {
                answer.complete = true;
                return;
            }
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn post(address: SocketAddr, path: &str, body: &serde_json::Value) -> Answer {
    post_with(address, path, &[], body.to_string().as_bytes()).await
}

/// The same with headers and any body.
pub(crate) async fn post_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut client = Client::connect(address).await;
    client.post(path, headers, body).await;
    client.answer().await
}

/// A GET.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client
        .write(format!("GET {path} HTTP/1.1\r\nHost: proxy.test\r\n\r\n").as_bytes())
        .await;
    client.answer().await
}
