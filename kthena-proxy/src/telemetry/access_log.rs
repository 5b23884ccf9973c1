//! One line for each request below `/v1`, as text or as JSON.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use super::metrics::Label;

/// Where a request went.
#[derive(Debug, Clone)]
pub struct Destination {
    /// `namespace/name` of the ModelRoute, or `none`.
    pub route: Label,
    /// `model_server`, `external_provider`, or `unresolved`.
    pub backend_type: &'static str,
    /// `namespace/name` of the backend, or `none`.
    pub backend_name: Label,
    /// The model that the backend was asked for, or `none`.
    pub upstream_model: Label,
}

impl Destination {
    /// Not known yet.
    #[must_use]
    pub fn unresolved(none: &Label) -> Self {
        Self {
            route: none.clone(),
            backend_type: "unresolved",
            backend_name: none.clone(),
            upstream_model: none.clone(),
        }
    }

    /// Whether it is known.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.backend_type != "unresolved"
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// What a line says. Members that are `None` or zero are left out.
#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    /// When the request began, RFC 3339 with nanoseconds.
    pub timestamp: String,
    /// HTTP method.
    pub method: &'a str,
    /// Path without its query.
    pub path: &'a str,
    /// Such as `HTTP/1.1`.
    pub protocol: &'static str,
    /// Status that the client got.
    pub status_code: u16,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Error<'a>>,
    /// The model that the client named.
    pub model_name: &'a str,
    /// The ModelRoute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_route: Option<&'a str>,
    /// The ModelServer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_server: Option<&'a str>,
    /// The pod that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selected_pod: Option<&'a str>,
    /// The pod that prefilled for it (an addition).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_pod: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a str,
    /// `model_server` or `external_provider`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_type: Option<&'a str>,
    /// The backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_name: Option<&'a str>,
    /// The model that the backend was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_model: Option<&'a str>,
    /// The last status an engine answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_status_code: Option<u16>,
    /// Attempts.
    #[serde(skip_serializing_if = "is_zero")]
    pub upstream_attempts: u32,
    /// Why decode answered alone (an addition).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_alone: Option<&'static str>,
    /// Estimated tokens of the prompt.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub input_tokens: u64,
    /// Tokens of the answer.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub output_tokens: u64,
    /// Milliseconds from beginning to end.
    pub duration_total: u64,
    /// Milliseconds until the request was read and routed.
    pub duration_request_processing: u64,
    /// Milliseconds from then to the head of the answer.
    pub duration_upstream_processing: u64,
    /// Milliseconds from there to the end.
    pub duration_response_processing: u64,
}

/// What went wrong.
#[derive(Debug, Serialize)]
pub struct Error<'a> {
    /// The class.
    pub r#type: &'a str,
    /// What the client was told.
    pub message: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero_u64(n: &u64) -> bool {
    *n == 0
}

impl Entry<'_> {
    /// Appends the line, with its end.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        match format {
            Format::Json => {
                let before = out.len();
                if serde_json::to_writer(&mut *out, self).is_err() {
                    out.truncate(before);
                    return;
                }
            }
            Format::Text => {
                let mut line = Text(String::with_capacity(512));
                self.text(&mut line);
                out.extend_from_slice(line.0.as_bytes());
            }
        }
        out.push(b'\n');
    }

    fn text(&self, line: &mut Text) {
        line.push("[")
            .push(&self.timestamp)
            .push("] \"")
            .value(self.method)
            .push(" ")
            .value(self.path);
        line.push(" ")
            .push(self.protocol)
            .push("\" ")
            .number(u64::from(self.status_code));
        if let Some(error) = &self.error {
            line.push(" error=")
                .value(error.r#type)
                .push(":")
                .value(error.message);
        }
        let fields = [
            (
                " model_name=",
                Some(self.model_name).filter(|name| !name.is_empty()),
            ),
            (" model_route=", self.model_route),
            (" model_server=", self.model_server),
            (" selected_pod=", self.selected_pod),
            (" prefill_pod=", self.prefill_pod),
            (" request_id=", Some(self.request_id)),
            (" backend_type=", self.backend_type),
            (" backend_name=", self.backend_name),
            (" upstream_model=", self.upstream_model),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                line.push(name).value(value);
            }
        }
        if let Some(status) = self.upstream_status_code {
            line.push(" upstream_status_code=").number(u64::from(status));
        }
        if self.upstream_attempts > 0 {
            line.push(" upstream_attempts=")
                .number(u64::from(self.upstream_attempts));
        }
        if let Some(reason) = self.decode_alone {
            line.push(" decode_alone=").push(reason);
        }
        if self.input_tokens > 0 || self.output_tokens > 0 {
            line.push(" tokens=")
                .number(self.input_tokens)
                .push("/")
                .number(self.output_tokens);
        }
        line.push(" timings=")
            .number(self.duration_total)
            .push("ms(")
            .number(self.duration_request_processing);
        line.push("+").number(self.duration_upstream_processing);
        line.push("+").number(self.duration_response_processing).push(")");
    }
}

struct Text(String);

impl Text {
    fn push(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        // Writing to a string cannot fail.
        let _infallible = write!(self.0, "{number}");
        self
    }

    /// A value that a client may have chosen: control characters, which could forge lines, are escaped.
    fn value(&mut self, value: &str) -> &mut Self {
        if value.bytes().all(|byte| byte >= b' ' && byte != 0x7f) {
            self.0.push_str(value);
        } else {
            self.0.extend(value.chars().flat_map(char::escape_default));
        }
        self
    }
}

/// Milliseconds, truncated.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Where lines go: a thread of its own writes what has gathered, so that a slow disk or pipe never stalls a request, and a
/// request costs no system call. When the target cannot keep up, lines are dropped and counted rather than memory filled.
#[derive(Debug, Clone)]
pub struct Sink {
    shared: Arc<Waiting>,
    format: Format,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// Wakes the writer, which sleeps only while there is nothing to write.
    wake: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: Vec<u8>,
    dropped: u64,
    asleep: bool,
    ended: bool,
}

/// Bytes that may wait.
const MOST: usize = 8 << 20;
/// How long lines gather before they are written together.
const GATHER: Duration = Duration::from_millis(10);

impl Sink {
    /// Starts the thread that writes to `out`.
    pub fn start(mut out: Box<dyn std::io::Write + Send>, format: Format) -> std::io::Result<Self> {
        let shared = Arc::new(Waiting::default());
        let waiting = shared.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                let mut batch = Vec::new();
                while let Some(dropped) = waiting.take(&mut batch) {
                    if let Err(error) = out.write_all(&batch).and_then(|()| out.flush()) {
                        tracing::warn!(%error, "the access log cannot be written");
                    }
                    if dropped > 0 {
                        tracing::warn!(dropped, "the access log's target is too slow: lines were dropped");
                    }
                }
            })?;
        Ok(Self { shared, format })
    }

    /// Queues a line.
    pub fn log(&self, entry: &Entry<'_>) {
        let mut lines = self.shared.lines.lock();
        if lines.text.len() > MOST {
            lines.dropped += 1;
            return;
        }
        entry.write(self.format, &mut lines.text);
        if std::mem::take(&mut lines.asleep) {
            self.shared.wake.notify_one();
        }
    }

    /// Waits until everything that was logged is written, for at most this long. To be called when the process ends.
    pub fn flush(&self, patience: Duration) {
        let mut lines = self.shared.lines.lock();
        lines.ended = true;
        self.shared.wake.notify_one();
        // The writer notifies once it has written all.
        self.shared.wake.wait_while_for(
            &mut lines,
            |lines| !lines.text.is_empty() || lines.ended,
            patience,
        );
    }
}

impl Waiting {
    /// Waits for lines and takes them all; `None` once there will be none.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        batch.clear();
        let mut lines = self.lines.lock();
        while lines.text.is_empty() {
            if lines.ended {
                lines.ended = false;
                self.wake.notify_all();
                return None;
            }
            lines.asleep = true;
            self.wake.wait(&mut lines);
        }
        if !lines.ended {
            // Others follow soon: they leave together.
            self.wake.wait_for(&mut lines, GATHER);
        }
        std::mem::swap(&mut lines.text, batch);
        Some(std::mem::take(&mut lines.dropped))
    }
}

#[cfg(test)]
mod tests;
