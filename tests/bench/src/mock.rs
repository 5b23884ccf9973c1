//! A mock engine: it answers from prepared bytes, so that a proxy in front of it is what is measured.
//!
//! The answer depends on the request alone: `"do_remote_decode":true` asks for a prefill answer (with the full NIXL object of
//! vLLM), `"stream":true` for server-sent events in a burst, anything else for one JSON document.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a mock engine sends.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    /// Content events of a stream, besides the first, the usage and the `[DONE]` event.
    pub events: usize,
    /// Keep streams open after the first event, until the client leaves (memory per open stream).
    pub hold: bool,
}

struct Answers {
    stream: Vec<u8>,
    stream_head: Vec<u8>,
    json: Vec<u8>,
    prefill: Vec<u8>,
}

impl Answers {
    fn new(shape: &Shape) -> Self {
        let head = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 02:23:28 GMT\r\nserver: uvicorn\r\n";
        let chunk = |event: &str| format!("{:x}\r\n{event}\r\n", event.len());
        let event = |delta: &str, finish: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-9ea31432926a57a4\",\"object\":\"chat.completion.chunk\",\"created\":1795227808,\
                 \"model\":\"base\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\
                 \"finish_reason\":{finish},\"token_ids\":null}}]}}\n\n"
            )
        };
        let stream_head = format!(
            "{head}content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n{}",
            chunk(&event("{\"role\":\"assistant\",\"content\":\"\"}", "null"))
        );
        let mut stream = stream_head.clone();
        for n in 0..shape.events {
            let finish = if n + 1 == shape.events { "\"stop\"" } else { "null" };
            stream += &chunk(&event(&format!("{{\"content\":\" word{n}\"}}"), finish));
        }
        stream += &chunk(
            "data: {\"id\":\"chatcmpl-9ea31432926a57a4\",\"object\":\"chat.completion.chunk\",\"created\":1795227808,\
             \"model\":\"base\",\"choices\":[],\"usage\":{\"prompt_tokens\":256,\"total_tokens\":320,\"completion_tokens\":64}}\n\n",
        );
        stream += &chunk("data: [DONE]\n\n");
        stream += "0\r\n\r\n";
        let json = |extra: &str| {
            let body = format!(
                "{{\"id\":\"chatcmpl-94e226ecc479f0c3\",\"object\":\"chat.completion\",\"created\":1795227818,\
                 \"model\":\"base\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
                 \"content\":\"{}\",\"refusal\":null,\"annotations\":null,\"audio\":null,\"function_call\":null,\
                 \"reasoning\":null}},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}}],\
                 \"service_tier\":null,\"system_fingerprint\":\"vllm-0.32.0-021a1a00\",\"usage\":{{\"prompt_tokens\":256,\
                 \"total_tokens\":320,\"completion_tokens\":64,\"prompt_tokens_details\":null}},\"prompt_logprobs\":null,\
                 \"prompt_token_ids\":null,\"kv_transfer_params\":{extra},\"metrics\":null}}",
                " word".repeat(64)
            );
            format!(
                "{head}content-length: {}\r\ncontent-type: application/json\r\nvary: Origin\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        };
        let params = "{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_block_ids\":[[11,12,13,14,15,16,17,18]],\
                      \"remote_engine_id\":\"c4a72f30-eed1-4295-813c-927c3936ee2f\",\
                      \"remote_request_id\":\"chatcmpl-9ea31432926a57a4-a8aba2ab\",\"remote_host\":\"127.0.0.1\",\
                      \"remote_port\":18600,\"tp_size\":1,\"dcp_size\":1,\"pp_size\":1,\"remote_num_tokens\":256,\
                      \"remote_blocks_expiry_time\":null,\"transfer_mode\":\"pull\",\"remote_prefill_cached_tokens\":0}";
        Self {
            stream: stream.into_bytes(),
            stream_head: stream_head.into_bytes(),
            json: json("null"),
            prefill: json(params),
        }
    }
}

/// Serves until the process ends.
pub(crate) async fn serve(listen: SocketAddr, shape: Shape) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listen on {listen}"))?;
    let answers: &'static Answers = Box::leak(Box::new(Answers::new(&shape)));
    let hold = shape.hold;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            // A client that goes away is the normal end of a connection.
            let _ended = connection(socket, answers, hold).await;
        });
    }
}

async fn connection(mut socket: TcpStream, answers: &'static Answers, hold: bool) -> Result<()> {
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
        let length = content_length(&buffer[..end]);
        while buffer.len() < end + length {
            buffer.reserve(end + length - buffer.len());
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let request = &buffer[end..end + length];
        // The members that decide stand near the start or the end of what proxies send: two short windows.
        let (first, last) = (
            &request[..length.min(2048)],
            &request[length.saturating_sub(4096)..],
        );
        let has = |what: &[u8]| memmem::find(first, what).is_some() || memmem::find(last, what).is_some();
        let prefill = has(b"\"do_remote_decode\":true") || has(b"\"do_remote_decode\": true");
        let stream = has(b"\"stream\":true") || has(b"\"stream\": true");
        if prefill {
            socket.write_all(&answers.prefill).await?;
        } else if stream && hold {
            socket.write_all(&answers.stream_head).await?;
            let mut byte = [0];
            let _left = socket.read(&mut byte).await?;
            return Ok(());
        } else if stream {
            socket.write_all(&answers.stream).await?;
        } else {
            socket.write_all(&answers.json).await?;
        }
        buffer.advance(end + length);
        if buffer.is_empty() {
            buffer.clear();
        }
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
