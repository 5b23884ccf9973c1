//! Splicing new members into a body, the rest byte for byte.

use bytes::{Bytes, BytesMut};

use super::peek::{Key, Peek};

/// Bodies up to this size are copied into one piece; larger ones stay a list of slices of the original.
const JOIN_BELOW: usize = 8 * 1024;
/// Room for what edits insert: a hand-over of a KV cache takes about half of it.
const SPARE: usize = 1024;

/// A request body: slices of the client's bytes with edits between them.
#[derive(Debug, Clone, Default)]
pub struct Body {
    segments: Vec<Bytes>,
    length: usize,
}

impl Body {
    /// The length in bytes, as `Content-Length` wants it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The slices, in order.
    #[must_use]
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// All bytes in one piece; for tests and small bodies.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.segments.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many
                .iter()
                .fold(BytesMut::with_capacity(self.length), |mut all, segment| {
                    all.extend_from_slice(segment);
                    all
                })
                .freeze(),
        }
    }

    fn push(&mut self, segment: Bytes) {
        if !segment.is_empty() {
            self.length += segment.len();
            self.segments.push(segment);
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        let mut body = Self::default();
        body.push(bytes);
        body
    }
}

/// Members to set and to remove. A later edit of a member replaces an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    edits: Vec<(Key, Option<Bytes>)>,
}

impl Edits {
    /// No edit: the body goes on as it came.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a member to a JSON value, given as its text. It stays where it is, or comes last.
    pub fn set(&mut self, key: Key, json: impl Into<Bytes>) -> &mut Self {
        self.put(key, Some(json.into()))
    }

    /// Removes every occurrence of a member.
    pub fn remove(&mut self, key: Key) -> &mut Self {
        self.put(key, None)
    }

    /// Adds all edits of another list.
    pub fn extend(&mut self, other: &Self) -> &mut Self {
        for (key, value) in &other.edits {
            self.put(*key, value.clone());
        }
        self
    }

    /// Takes an edit back: the member goes on as it came.
    pub fn keep(&mut self, key: Key) -> &mut Self {
        self.edits.retain(|(other, _)| *other != key);
        self
    }

    fn put(&mut self, key: Key, value: Option<Bytes>) -> &mut Self {
        self.edits.retain(|(other, _)| *other != key);
        self.edits.push((key, value));
        self
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Applies the edits to the body that was peeked.
    #[must_use]
    pub fn apply(&self, body: &Bytes, peek: &Peek) -> Body {
        // What is cut out of the original, and what stands in its place, by offset.
        let mut cuts: Vec<(usize, usize, &[u8])> = Vec::with_capacity(self.edits.len() + 1);
        let mut appended: Vec<(Key, &[u8])> = Vec::new();
        for (key, value) in &self.edits {
            match value {
                Some(json) if peek.has(*key) => {
                    cuts.extend(peek.values(*key).map(|at| (at.start, at.end, json.as_ref())));
                }
                Some(json) => appended.push((*key, json)),
                None => cuts.extend(peek.spans(*key).map(|at| (at.start, at.end, &b""[..]))),
            }
        }
        if cuts.is_empty() && appended.is_empty() {
            return body.clone().into();
        }
        cuts.sort_unstable_by_key(|cut| cut.0);
        let (open, close) = peek.braces();
        let mut splice = Splice {
            source: body,
            out: Body::default(),
            pending: BytesMut::with_capacity(body.len().min(JOIN_BELOW) + SPARE),
            at: 0,
        };
        // Removing a member takes one comma along: the one before it, or, for the first members, the one after.
        let mut any_kept = false;
        let mut cursor = open + 1;
        for (start, end, value) in cuts {
            if !value.is_empty() {
                splice.copy_to(start);
                splice.insert(value);
                splice.skip_to(end);
                any_kept = true;
                cursor = end;
                continue;
            }
            let before = &body[cursor..start];
            any_kept |= before
                .iter()
                .any(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b','));
            if any_kept {
                let comma = memchr::memrchr(b',', before).map_or(start, |at| cursor + at);
                splice.copy_to(comma.max(splice.at));
                splice.skip_to(end);
                cursor = end;
            } else {
                let comma = memchr::memchr(b',', &body[end..close]).map_or(end, |at| end + at + 1);
                // Only white space may stand between a member and its comma; anything else is the next brace.
                splice.copy_to(start.max(splice.at));
                splice.skip_to(comma);
                cursor = comma;
            }
        }
        let tail = &body[cursor.min(close)..close];
        any_kept |= tail
            .iter()
            .any(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r' | b','));
        if appended.is_empty() {
            splice.copy_to(body.len());
        } else {
            splice.copy_to(close);
            for (key, json) in appended {
                if any_kept {
                    splice.insert(b",");
                }
                any_kept = true;
                splice.insert(b"\"");
                splice.insert(key.name().as_bytes());
                splice.insert(b"\":");
                splice.insert(json);
            }
            splice.copy_to(body.len());
        }
        splice.finish()
    }
}

struct Splice<'a> {
    source: &'a Bytes,
    out: Body,
    pending: BytesMut,
    at: usize,
}

impl Splice<'_> {
    fn copy_to(&mut self, end: usize) {
        if end <= self.at {
            return;
        }
        if end - self.at <= JOIN_BELOW {
            self.pending.extend_from_slice(&self.source[self.at..end]);
        } else {
            self.flush();
            self.out.push(self.source.slice(self.at..end));
        }
        self.at = end;
    }

    fn skip_to(&mut self, end: usize) {
        self.at = self.at.max(end);
    }

    fn insert(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        let pending = self.pending.split().freeze();
        self.out.push(pending);
    }

    fn finish(mut self) -> Body {
        self.flush();
        self.out
    }
}

#[cfg(test)]
mod tests;
