//! Writing answers, with uvicorn's header order and with the faults that a plan asks for.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::date;
use super::plan::{After, How, Pace, Plan};
use super::reply::reason;
pub(crate) use super::reply::{JSON, Reply};

/// Media type of streams, as Starlette writes it.
pub(crate) const EVENTS: &str = "text/event-stream; charset=utf-8";

/// The connection ends here instead of after the answer.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Writing failed.
    Io(io::Error),
    /// With a reset.
    Reset,
    /// In an orderly way, though the answer is incomplete.
    Close,
}

/// The status that was sent; 0 while none was.
pub(crate) type StatusCell = Arc<AtomicU16>;

/// Writes one answer.
pub(crate) struct Responder<'a> {
    out: &'a mut (dyn AsyncWrite + Send + Unpin),
    plan: Plan,
    keep_alive: bool,
    /// FastAPI's CORS middleware adds `vary: Origin`; the bootstrap server has none.
    vary: bool,
    /// The answer to HEAD has no body.
    headless: bool,
    status: StatusCell,
    events: u64,
    bytes: u64,
    held: BytesMut,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl<'a> Responder<'a> {
    pub(crate) fn new(out: &'a mut (dyn AsyncWrite + Send + Unpin), keep_alive: bool, vary: bool) -> Self {
        let headless = false;
        let plan = Plan::default();
        Self {
            out,
            plan,
            keep_alive,
            vary,
            headless,
            status: StatusCell::default(),
            events: 0,
            bytes: 0,
            held: BytesMut::new(),
            gzip: None,
        }
    }

    /// Leaves bodies out, as the answer to HEAD does.
    pub(crate) fn leave_out_body(&mut self) {
        self.headless = true;
    }

    /// Sets the faults. To be called before the answer begins.
    pub(crate) fn disturb(&mut self, plan: Plan) {
        self.plan = plan;
    }

    /// Where the status will be, for those who cannot wait for the end.
    pub(crate) fn status_cell(&self) -> StatusCell {
        self.status.clone()
    }

    /// The status that was sent.
    pub(crate) fn status(&self) -> Option<u16> {
        Some(self.status.load(Ordering::Relaxed)).filter(|&status| status != 0)
    }

    /// Applies the faults that come before any computing. True when they have dealt with the request.
    pub(crate) async fn intercept(&mut self) -> Result<bool, Cut> {
        if !self.plan.is_early() {
            return Ok(false);
        }
        pause(self.plan.delay).await;
        self.plan.delay = Duration::ZERO;
        if self.plan.reset_before_head {
            return Err(Cut::Reset);
        }
        if self.plan.hang {
            std::future::pending::<()>().await;
        }
        if let Some(reply) = self.plan.status.take() {
            self.reply(reply).await?;
        }
        Ok(true)
    }

    /// Sends a whole answer.
    pub(crate) async fn reply(&mut self, mut reply: Reply) -> Result<(), Cut> {
        pause(self.plan.delay).await;
        if self.plan.gzip {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&reply.body).map_err(Cut::Io)?;
            reply.body = encoder.finish().map_err(Cut::Io)?;
        }
        let length = i64::try_from(reply.body.len())
            .unwrap_or(i64::MAX)
            .saturating_add(self.plan.length_by)
            .max(0);
        let mut head = self.head(reply.status);
        for (name, value) in reply.headers.iter().filter(|(name, _)| name == "allow") {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {length}\r\n");
        for (name, value) in reply.headers.iter().filter(|(name, _)| name != "allow") {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        self.end_head(&mut head, reply.content_type, false);
        if self.headless {
            return self.write(head.as_bytes()).await;
        }
        let stops = match self.plan.stop {
            Some((After::Events(n), how)) => (n == 0).then_some((0, how)),
            Some((After::Bytes(n), how)) => (n < reply.body.len() as u64).then_some((n, how)),
            None => None,
        };
        if stops.is_none() && self.plan.pace == Pace::Whole {
            let mut whole = head.into_bytes();
            whole.extend_from_slice(&reply.body);
            return self.write(&whole).await;
        }
        self.write(head.as_bytes()).await?;
        match stops {
            None => self.paced(&reply.body).await,
            Some((bytes, how)) => {
                let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(reply.body.len());
                self.paced(&reply.body[..bytes]).await?;
                stop(how).await
            }
        }
    }

    /// Begins a stream of events.
    pub(crate) async fn start_events(&mut self) -> Result<(), Cut> {
        pause(self.plan.delay).await;
        if self.plan.gzip {
            self.gzip = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        }
        let mut head = self.head(200);
        self.end_head(&mut head, Some(EVENTS), true);
        self.write(head.as_bytes()).await
    }

    /// Sends one event, given with its `data:` and its blank line.
    pub(crate) async fn event(&mut self, payload: &[u8]) -> Result<(), Cut> {
        pause(self.plan.delay_events).await;
        if let Some((After::Events(n), how)) = self.plan.stop
            && self.events >= n
        {
            return stop(how).await;
        }
        let broken;
        let payload = if self.plan.malformed == Some(self.events) {
            broken = [&payload[..payload.len() / 2], b"\n\n"].concat();
            &broken
        } else {
            payload
        };
        self.events += 1;
        let compressed;
        let payload = match &mut self.gzip {
            None => payload,
            Some(encoder) => {
                encoder
                    .write_all(payload)
                    .and_then(|()| encoder.flush())
                    .map_err(Cut::Io)?;
                compressed = std::mem::take(encoder.get_mut());
                &compressed
            }
        };
        self.chunk(payload).await
    }

    /// Ends the stream.
    pub(crate) async fn finish(&mut self) -> Result<(), Cut> {
        if let Some((After::Events(n), how)) = self.plan.stop
            && self.events >= n
        {
            return stop(how).await;
        }
        if let Some(encoder) = self.gzip.take() {
            let rest = encoder.finish().map_err(Cut::Io)?;
            self.chunk(&rest).await?;
        }
        let mut end = String::from("0\r\n");
        for (name, value) in &self.plan.trailers {
            let _ = write!(end, "{name}: {value}\r\n");
        }
        end.push_str("\r\n");
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(end.as_bytes());
        self.paced(&held).await
    }

    async fn chunk(&mut self, payload: &[u8]) -> Result<(), Cut> {
        let mut framed = BytesMut::with_capacity(payload.len() + 16);
        framed.extend_from_slice(format!("{:x}\r\n", payload.len()).as_bytes());
        if let Some((After::Bytes(n), how)) = self.plan.stop
            && self.bytes + payload.len() as u64 > n
        {
            let left = usize::try_from(n - self.bytes).unwrap_or(usize::MAX);
            framed.extend_from_slice(&payload[..left]);
            self.paced(&framed).await?;
            return stop(how).await;
        }
        self.bytes += payload.len() as u64;
        framed.extend_from_slice(payload);
        framed.extend_from_slice(b"\r\n");
        if self.plan.coalesce {
            self.held.extend_from_slice(&framed);
            return Ok(());
        }
        self.paced(&framed).await
    }

    fn head(&mut self, status: u16) -> String {
        self.status.store(status, Ordering::Relaxed);
        let mut head = String::with_capacity(256);
        let now = date::format(date::unix_now());
        let _ = write!(
            head,
            "HTTP/1.1 {status} {}\r\ndate: {now}\r\nserver: uvicorn\r\n",
            reason(status)
        );
        head
    }

    fn end_head(&self, head: &mut String, content_type: Option<&str>, chunked: bool) {
        if let Some(content_type) = content_type {
            let _ = write!(head, "content-type: {content_type}\r\n");
        }
        if self.plan.gzip {
            head.push_str("content-encoding: gzip\r\n");
        }
        for (name, value) in &self.plan.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if self.vary {
            head.push_str("vary: Origin\r\n");
        }
        if !self.keep_alive {
            head.push_str("connection: close\r\n");
        }
        if chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        }
        head.push_str("\r\n");
    }

    async fn paced(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        match self.plan.pace {
            Pace::Whole => self.write(bytes).await,
            Pace::Split => {
                for byte in bytes.chunks(1) {
                    self.write(byte).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            Pace::Drip { bytes: size, every } => {
                for part in bytes.chunks(size) {
                    self.write(part).await?;
                    pause(every).await;
                }
                Ok(())
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Cut> {
        self.out.write_all(bytes).await.map_err(Cut::Io)?;
        self.out.flush().await.map_err(Cut::Io)
    }
}

async fn stop(how: How) -> Result<(), Cut> {
    match how {
        How::Reset => Err(Cut::Reset),
        How::Close => Err(Cut::Close),
        How::Hang => std::future::pending().await,
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
