//! The few requests that engines send to each other.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ANSWER_LIMIT: u64 = 512 * 1024 * 1024;

/// Why a peer gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("talking to the peer failed")]
    Io(#[from] io::Error),
    #[error("the peer does not speak HTTP")]
    NotHttp,
}

/// Sends JSON and returns status and body. A new connection each time; dropping the future closes it.
pub(crate) async fn post(
    host: &str,
    port: u16,
    path: &str,
    body: &impl Serialize,
    connect: Duration,
) -> Result<(u16, Vec<u8>), CallError> {
    let body = serde_json::to_vec(body).map_err(io::Error::from)?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    send(host, port, head.as_bytes(), &body, connect).await
}

/// Asks for a path.
pub(crate) async fn get(
    host: &str,
    port: u16,
    path: &str,
    connect: Duration,
) -> Result<(u16, Vec<u8>), CallError> {
    let head = format!("GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n");
    send(host, port, head.as_bytes(), &[], connect).await
}

async fn send(
    host: &str,
    port: u16,
    head: &[u8],
    body: &[u8],
    connect: Duration,
) -> Result<(u16, Vec<u8>), CallError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let connected = tokio::time::timeout(connect, TcpStream::connect((host, port))).await;
    let mut stream = connected.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    stream.write_all(&[head, body].concat()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await?;
    let mut slots = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut slots);
    match parsed.parse(&answer) {
        Ok(httparse::Status::Complete(used)) => {
            let status = parsed.code.ok_or(CallError::NotHttp)?;
            answer.drain(..used);
            Ok((status, answer))
        }
        _ => Err(CallError::NotHttp),
    }
}
