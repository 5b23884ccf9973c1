//! A client that shows the bytes.

use std::net::SocketAddr;
use std::time::Duration;

use kthena_sim::{Config, Connector, Engine, Handle, Role};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const COMPLETIONS: &str = "/v1/completions";
pub(crate) const CHAT: &str = "/v1/chat/completions";
/// Patience of tests; conditions come true long before.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
}

impl Answer {
    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&raw[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let rest = &raw[end + 4..];
        let chunked = headers
            .iter()
            .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let length: Option<usize> = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, v)| v.parse().ok());
        let (body, complete) = match length {
            _ if chunked => dechunk(rest),
            Some(length) => (rest.to_vec(), rest.len() == length),
            None => (rest.to_vec(), true),
        };
        Some(Self {
            status,
            headers,
            body,
            complete,
        })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `data:` payloads of a stream.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = self.text();
        text.split("\n\n")
            .filter_map(|event| Some(event.split_once("data: ")?.1.to_owned()))
            .collect()
    }

    /// The JSON payloads of a stream.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        self.events()
            .iter()
            .filter(|e| *e != "[DONE]")
            .map(|e| serde_json::from_str(e).unwrap())
            .collect()
    }

    /// What was said, by choice.
    pub(crate) fn said(&self) -> Vec<String> {
        let bodies = if self.body.starts_with(b"{") {
            vec![self.json()]
        } else {
            self.chunks()
        };
        let mut said: Vec<String> = Vec::new();
        for choice in bodies
            .iter()
            .filter_map(|body| body["choices"].as_array())
            .flatten()
        {
            let index = choice["index"].as_u64().unwrap() as usize;
            said.resize(said.len().max(index + 1), String::new());
            let text = [
                &choice["text"],
                &choice["message"]["content"],
                &choice["delta"]["content"],
            ];
            said[index].push_str(text.iter().find_map(|text| text.as_str()).unwrap_or_default());
        }
        said
    }
}

fn dechunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = raw.windows(2).position(|w| w == b"\r\n") else {
            return (body, false);
        };
        let Ok(size) = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap_or("?"), 16) else {
            return (body, false);
        };
        let rest = &raw[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        raw = &rest[size + 2..];
    }
}

/// Opens a connection and sends a request, without reading.
pub(crate) async fn begin(to: SocketAddr, raw: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(raw).await.unwrap();
    stream
}

/// Opens a connection and asks an engine for a completion, without reading.
pub(crate) async fn begin_post(engine: &Handle, body: &Value) -> TcpStream {
    let to = engine.addr();
    begin(
        to,
        &raw(to, "POST", COMPLETIONS, &[], body.to_string().as_bytes()),
    )
    .await
}

/// The bytes of a request that closes its connection.
pub(crate) fn raw(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n");
    if !body.is_empty() {
        if !headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        {
            head.push_str("Content-Type: application/json\r\n");
        }
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends bytes and reads to the end; an error after an answer began leaves what came before.
pub(crate) async fn exchange(to: SocketAddr, raw: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(raw).await?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer).await {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

pub(crate) async fn post(to: SocketAddr, path: &str, body: &Value) -> Answer {
    post_with(to, path, &[], body).await
}

pub(crate) async fn post_with(to: SocketAddr, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
    let raw = raw(to, "POST", path, headers, body.to_string().as_bytes());
    Answer::parse(&exchange(to, &raw).await.unwrap()).unwrap()
}

pub(crate) async fn get(to: SocketAddr, path: &str) -> Answer {
    Answer::parse(&exchange(to, &raw(to, "GET", path, &[], b"")).await.unwrap()).unwrap()
}

/// A body with some members replaced.
pub(crate) fn with(body: &Value, members: Value) -> Value {
    let mut body = body.clone();
    for (name, value) in members.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// A completion that takes a dozen greedy tokens.
pub(crate) fn completion(prompt: &str) -> Value {
    json!({ "model": "sim", "prompt": prompt, "max_tokens": 12, "temperature": 0 })
}

/// A chat that takes a dozen greedy tokens.
pub(crate) fn chat(question: &str) -> Value {
    let messages = json!([{ "role": "user", "content": question }]);
    json!({ "model": "sim", "messages": messages, "max_tokens": 12, "temperature": 0 })
}

/// What a router makes of a request for prefill.
pub(crate) fn for_prefill(body: &Value) -> Value {
    let mut prefill = with(
        body,
        json!({
            "max_tokens": 1,
            "stream": false,
            "kv_transfer_params": { "do_remote_decode": true, "do_remote_prefill": false },
        }),
    );
    prefill.as_object_mut().unwrap().remove("stream_options");
    prefill
}

/// What a router makes of a request for decode.
pub(crate) fn for_decode(body: &Value, params: &Value) -> Value {
    with(body, json!({ "kv_transfer_params": params }))
}

/// Has a prompt prefilled; gives the parameters that decode is to get.
pub(crate) async fn prefill(to: SocketAddr, path: &str, body: &Value) -> Value {
    let answer = post(to, path, &for_prefill(body)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["kv_transfer_params"].clone()
}

/// Asks for the answer to a prompt that was prefilled.
pub(crate) async fn decode(to: SocketAddr, path: &str, body: &Value, params: &Value) -> Answer {
    post(to, path, &for_decode(body, params)).await
}

/// An engine that prefills and one that decodes, alike but for that.
pub(crate) async fn pair(config: Config, connector: Connector) -> (Handle, Handle) {
    let start = async |role| {
        Engine::start(config.clone().paired(role, connector))
            .await
            .unwrap()
    };
    (start(Role::Prefill).await, start(Role::Decode).await)
}
