//! Server-sent events as they pass (WHATWG HTML, section 9.2).
//!
//! A stream is handed on as the engine wrote it. Only where the proxy itself asked for the usage event does it look at events
//! at all: that one event is taken out. An event that is not complete yet cannot be judged, so its beginning waits for its end;
//! a client could not act on it either.

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Longest unfinished event that waits. A longer one is no usage event and passes.
const LONGEST: usize = 64 * 1024;

/// Takes the usage event out of a stream.
#[derive(Debug, Default)]
pub struct HideUsage {
    held: BytesMut,
    /// The rest of an event that was too long to wait: it passes until its end.
    passing: bool,
}

impl HideUsage {
    /// Takes the next bytes of the stream and returns those that may go on.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        if self.passing {
            let Some(end) = event_end(&piece) else {
                return piece;
            };
            self.passing = false;
            let mut piece = piece;
            let head = piece.split_to(end);
            return join(head, self.push(piece));
        }
        let all = if self.held.is_empty() {
            piece
        } else {
            self.held.extend_from_slice(&piece);
            self.held.split().freeze()
        };
        let complete = last_event_end(&all);
        let (ready, rest) = (without_usage(all.slice(..complete)), all.slice(complete..));
        if rest.len() > LONGEST && !looks_like_usage(&rest) {
            self.passing = true;
            return join(ready, rest);
        }
        self.held.extend_from_slice(&rest);
        ready
    }

    /// Takes the end of the stream and returns what may go on of it.
    pub fn last(&mut self, piece: Bytes) -> Bytes {
        join(self.push(piece), self.finish())
    }

    /// What still waits when the stream ends: an event without its blank line. It was not complete, so it passes.
    pub fn finish(&mut self) -> Bytes {
        let rest = self.held.split().freeze();
        if looks_like_usage(&rest) && is_usage_event(&rest) {
            Bytes::new()
        } else {
            rest
        }
    }
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    both.freeze()
}

/// Only what holds these bytes can be a usage event; one search decides it for all events in a buffer.
fn usage_names(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    memmem::find_iter(bytes, b"\"usage\":")
        .filter(|at| bytes[at + 8..].trim_ascii_start().first() != Some(&b'n'))
}

fn looks_like_usage(bytes: &[u8]) -> bool {
    usage_names(bytes).next().is_some()
}

/// Complete events but for those that are usage events; no other event is looked at.
fn without_usage(events: Bytes) -> Bytes {
    let mut kept = BytesMut::new();
    let mut from = 0;
    for at in usage_names(&events) {
        let Some(before) = events.get(from..at) else {
            continue; // in the event that was taken out last
        };
        let begin = from + last_event_end(before);
        let end = event_end(&events[begin..]).map_or(events.len(), |end| begin + end);
        if is_usage_event(&events[begin..end]) {
            kept.reserve(events.len() - from);
            kept.extend_from_slice(&events[from..begin]);
            from = end;
        }
    }
    if from == 0 {
        return events;
    }
    kept.extend_from_slice(&events[from..]);
    kept.freeze()
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<&'a serde_json::value::RawValue>,
    usage: Option<serde_json::Map<String, serde_json::Value>>,
    error: Option<IgnoredAny>,
}

/// Whether an event carries usage and no choice.
fn is_usage_event(event: &[u8]) -> bool {
    let mut lines = event
        .split(|b| matches!(b, b'\n' | b'\r'))
        .filter(|line| !line.is_empty());
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    let Some(data) = line.strip_prefix(b"data:") else {
        return false;
    };
    serde_json::from_slice::<Chunk<'_>>(data.trim_ascii())
        .is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some() && chunk.error.is_none())
}

/// The offset behind the first blank line.
fn event_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = memchr::memchr2(b'\n', b'\r', &bytes[from..]) {
        let at = from + at;
        let line_end = if bytes[at..].starts_with(b"\r\n") {
            at + 2
        } else {
            at + 1
        };
        match bytes.get(line_end..) {
            Some([b'\r', b'\n', ..]) => return Some(line_end + 2),
            // A carriage return that ends the buffer may be half of a line end.
            Some([b'\n', ..] | [b'\r', _, ..]) => return Some(line_end + 1),
            _ => from = line_end,
        }
    }
    None
}

/// The offset behind the last blank line; zero if there is none.
fn last_event_end(bytes: &[u8]) -> usize {
    let mut end = bytes.len();
    while let Some(at) = memchr::memrchr2(b'\n', b'\r', &bytes[..end]) {
        // The line end that `at` is the last byte of, and what stands before it.
        let begin = if bytes[at] == b'\n' && at > 0 && bytes[at - 1] == b'\r' {
            at - 1
        } else {
            at
        };
        if bytes[at] == b'\r' && at + 1 == bytes.len() {
            end = at;
            continue;
        }
        if begin > 0 && matches!(bytes[begin - 1], b'\n' | b'\r') {
            return at + 1;
        }
        end = begin;
    }
    0
}

#[cfg(test)]
mod tests;
