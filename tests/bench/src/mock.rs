//! A mock engine: it answers from prepared bytes, so that a proxy in front of it is what is measured.
//!
//! One process plays every engine of a run, plain, prefill and decode alike, on as many addresses as are wanted. The answer
//! depends on the request alone: `"do_remote_decode":true` asks for a prefill answer (with the full NIXL object of vLLM),
//! `"stream":true` for server-sent events in a burst, anything else for one JSON document. The member `user` makes a
//! stream last ([`HOLD`], [`DRIP`]); every proxy passes it on.

mod answers;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::answers::Answers;
use crate::request::{DRIP, HOLD};

/// The pause between the events of a stream that drips.
const PAUSE: Duration = Duration::from_millis(100);
/// The members that decide stand near the start or the end of what proxies send: two short windows.
const WINDOW: usize = 4096;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Prefill,
    Json,
    Burst,
    Hold,
    Drip(usize),
}

/// Serves until the process ends.
pub(crate) async fn serve(listen: &[SocketAddr], events: usize) -> Result<()> {
    let answers: &'static Answers = Box::leak(Box::new(Answers::new(events)));
    let mut listeners = JoinSet::new();
    for address in listen {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        listeners.spawn(accept(listener, answers));
    }
    while let Some(ended) = listeners.join_next().await {
        ended.context("a listener panicked")??;
    }
    Ok(())
}

async fn accept(listener: TcpListener, answers: &'static Answers) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await.context("accepting a connection")?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is the normal end of a connection.
            let _ended = connection(socket, answers).await;
        });
    }
}

async fn connection(mut socket: TcpStream, answers: &'static Answers) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(at) = memmem::find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        if buffer.starts_with(b"GET ") {
            socket.write_all(answers.get(&buffer[..end])).await?;
            buffer.advance(end);
            continue;
        }
        let length = content_length(&buffer[..end]);
        while buffer.len() < end + length {
            buffer.reserve(end + length - buffer.len());
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let wanted = wanted(&buffer[end..end + length]);
        buffer.advance(end + length);
        if buffer.is_empty() {
            buffer.clear();
        }
        match wanted {
            Wanted::Prefill => socket.write_all(&answers.prefill).await?,
            Wanted::Json => socket.write_all(&answers.json).await?,
            Wanted::Burst => socket.write_all(&answers.stream).await?,
            Wanted::Hold => {
                drop(buffer);
                return hold(socket, answers).await;
            }
            Wanted::Drip(events) => drip(&mut socket, answers, events).await?,
        }
    }
}

async fn hold(mut socket: TcpStream, answers: &Answers) -> Result<()> {
    socket.write_all(&answers.first).await?;
    let mut byte = [0];
    let _left = socket.read(&mut byte).await?;
    Ok(())
}

async fn drip(socket: &mut TcpStream, answers: &Answers, events: usize) -> Result<()> {
    socket.write_all(&answers.first).await?;
    for _ in 0..events {
        tokio::time::sleep(PAUSE).await;
        socket.write_all(&answers.event).await?;
    }
    Ok(socket.write_all(&answers.last).await?)
}

fn wanted(body: &[u8]) -> Wanted {
    let first = &body[..body.len().min(WINDOW)];
    let rest = &body[first.len()..];
    let last = &rest[rest.len().saturating_sub(WINDOW)..];
    let member = |name: &str, value: &str| {
        // Proxies that write the document anew may put a space behind the colon.
        [format!("\"{name}\":{value}"), format!("\"{name}\": {value}")]
            .iter()
            .find_map(|text| {
                [first, last]
                    .into_iter()
                    .find_map(|window| Some(&window[memmem::find(window, text.as_bytes())? + text.len()..]))
            })
    };
    if member("do_remote_decode", "true").is_some() {
        Wanted::Prefill
    } else if member("stream", "true").is_none() {
        Wanted::Json
    } else if member("user", &format!("\"{HOLD}\"")).is_some() {
        Wanted::Hold
    } else if let Some(rest) = member("user", &format!("\"{DRIP}")) {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit());
        Wanted::Drip(digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0')))
    } else {
        Wanted::Burst
    }
}

fn content_length(head: &[u8]) -> usize {
    let mut headers = head.split(|b| *b == b'\n');
    headers
        .find_map(|line| {
            let (name, value) = line.split_at_checked("content-length:".len())?;
            name.eq_ignore_ascii_case(b"content-length:")
                .then(|| std::str::from_utf8(value).ok()?.trim().parse().ok())?
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_get_what_they_ask_for() {
        let long = "x".repeat(100_000);
        for (body, expected) in [
            (r#"{"model":"m","stream":false}"#.to_owned(), Wanted::Json),
            (r#"{"model":"m"}"#.to_owned(), Wanted::Json),
            (r#"{"stream": true}"#.to_owned(), Wanted::Burst),
            (r#"{"stream":true,"user":"bench-hold"}"#.to_owned(), Wanted::Hold),
            (
                r#"{"stream":true,"user":"bench-drip-20"}"#.to_owned(),
                Wanted::Drip(20),
            ),
            (
                format!(r#"{{"messages":"{long}","stream":true,"user":"bench-hold"}}"#),
                Wanted::Hold,
            ),
            (
                format!(r#"{{"kv_transfer_params":{{"do_remote_decode":true}},"prompt":"{long}"}}"#),
                Wanted::Prefill,
            ),
            (
                format!(r#"{{"prompt":"{long}","kv_transfer_params":{}}}"#, answers::NIXL),
                Wanted::Json,
            ),
        ] {
            assert_eq!(
                wanted(body.as_bytes()),
                expected,
                "{}",
                &body[..body.len().min(60)]
            );
        }
    }

    #[test]
    fn header_names_have_no_case() {
        for (head, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n", 12),
            ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length:7\r\n\r\n", 7),
            ("POST / HTTP/1.1\r\n\r\n", 0),
        ] {
            assert_eq!(content_length(head.as_bytes()), expected, "{head}");
        }
    }
}
