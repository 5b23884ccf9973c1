//! The load generator: a closed loop of connections, and what it saw.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// One kind of request, sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where the proxy listens.
    pub target: SocketAddr,
    /// The whole request, head and body.
    pub request: Arc<[u8]>,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long, after the warm-up.
    pub time: Duration,
    /// How long before anything counts.
    pub warmup: Duration,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Answers read to their end while it counted.
    pub requests: u64,
    /// Answers with another status, an error in their midst, or none.
    pub failed: u64,
    /// Seconds it counted.
    pub seconds: f64,
    /// Median latency, in microseconds.
    pub p50_us: f64,
    /// 99th percentile, in microseconds.
    pub p99_us: f64,
}

/// Builds a chat request of about `bytes` of prompt.
pub(crate) fn chat(target: SocketAddr, bytes: usize, stream: bool) -> Arc<[u8]> {
    let words = "lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam nonumy eirmod tempor invidunt ut labore ";
    let mut prompt = words.repeat(bytes / words.len() + 1);
    prompt.truncate(bytes);
    let body = format!(
        "{{\"model\":\"bench\",\"stream\":{stream},\"max_tokens\":64,\"temperature\":0.7,\"messages\":[{{\"role\":\"system\",\
         \"content\":\"You are terse.\"}},{{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}"
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bench\r\nAccept: */*\r\n\
         Content-Type: application/json\r\nAuthorization: Bearer sk-none\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
    .into()
}

/// Runs the plan to its end.
pub(crate) async fn run(plan: &Plan) -> Result<Outcome> {
    let counting = Arc::new(AtomicBool::new(false));
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let (plan, counting, stop, failed) = (plan.clone(), counting.clone(), stop.clone(), failed.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(1 << 16);
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = connection(&plan, &counting, &stop, &mut times).await {
                    if failed.fetch_add(1, Ordering::Relaxed) == 0 {
                        log::warn!("first failure: {error:#}");
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            times
        }));
    }
    tokio::time::sleep(plan.warmup).await;
    failed.store(0, Ordering::Relaxed);
    counting.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    tokio::time::sleep(plan.time).await;
    counting.store(false, Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut times: Vec<u32> = Vec::new();
    for task in tasks {
        times.append(&mut task.await?);
    }
    times.sort_unstable();
    let at = |q: f64| {
        times
            .get((times.len() as f64 * q) as usize)
            .map_or(0.0, |t| f64::from(*t) / 1000.0)
    };
    Ok(Outcome {
        requests: times.len() as u64,
        failed: failed.load(Ordering::Relaxed),
        seconds,
        p50_us: at(0.5),
        p99_us: at(0.99),
    })
}

async fn connection(
    plan: &Plan,
    counting: &AtomicBool,
    stop: &AtomicBool,
    times: &mut Vec<u32>,
) -> Result<()> {
    let mut socket = TcpStream::connect(plan.target).await.context("connect")?;
    socket.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        socket.write_all(&plan.request).await.context("write")?;
        answer(&mut socket, &mut buffer).await?;
        if counting.load(Ordering::Relaxed) {
            times.push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

/// Reads one answer to its end.
pub(crate) async fn answer(socket: &mut TcpStream, buffer: &mut BytesMut) -> Result<()> {
    buffer.clear();
    let end = loop {
        if let Some(at) = memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read_buf(buffer).await? == 0 {
            bail!("connection closed before the head");
        }
    };
    let head = buffer.split_to(end);
    if !head.starts_with(b"HTTP/1.1 200") {
        let _some = socket.read_buf(buffer).await;
        bail!(
            "{} {}",
            String::from_utf8_lossy(&head),
            String::from_utf8_lossy(buffer)
        );
    }
    let lower = head.to_ascii_lowercase();
    if let Some(at) = memmem::find(&lower, b"content-length:") {
        let value = lower[at + 15..].split(|b| *b == b'\r').next().unwrap_or_default();
        let length: usize = std::str::from_utf8(value)?.trim().parse()?;
        while buffer.len() < length {
            if socket.read_buf(buffer).await? == 0 {
                bail!("connection closed in the body");
            }
        }
        buffer.advance(length);
    } else {
        // Chunked: the bodies of the bench never hold the end mark themselves.
        while !buffer.ends_with(b"\r\n0\r\n\r\n") {
            let keep = buffer.len().saturating_sub(16);
            buffer.advance(keep);
            buffer.reserve(64 * 1024);
            if socket.read_buf(buffer).await? == 0 {
                bail!("connection closed in the stream");
            }
        }
        buffer.clear();
    }
    Ok(())
}
