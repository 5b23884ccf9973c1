//! Where a body ends, and what of it has arrived.

use bytes::{Buf, BytesMut};

use super::Error;

/// Longest line of a chunk's size with its extensions, or of a trailer.
const LINE: usize = 16 * 1024;

/// Takes a body out of its framing (RFC 9112, sections 6 and 7). Pure: bytes come from an input that grows as they arrive.
#[derive(Debug, PartialEq, Eq)]
pub struct Decoder(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// The line with the size of a chunk comes.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// The end of line behind a chunk comes.
    ChunkEnd,
    /// Trailers come, or the empty line behind the last.
    Trailer,
    /// All until the connection closes.
    UntilClose,
    /// The end, by the body's own framing.
    Done,
    /// The end, because the connection closed.
    Closed,
}

impl Decoder {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(State::Done)
    }

    /// A body of so many bytes.
    #[must_use]
    pub const fn length(length: u64) -> Self {
        Self(if length == 0 {
            State::Done
        } else {
            State::Length(length)
        })
    }

    /// A body in chunks.
    #[must_use]
    pub const fn chunked() -> Self {
        Self(State::Size)
    }

    /// A body that ends with the connection.
    #[must_use]
    pub const fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether all of it came.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.0, State::Done | State::Closed)
    }

    /// Whether all of it came and the connection can go on.
    #[must_use]
    pub const fn is_framed_end(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// The connection is closed; an error where that is too early.
    pub fn close(&mut self) -> Result<(), Error> {
        match self.0 {
            State::UntilClose => self.0 = State::Closed,
            State::Done | State::Closed => {}
            _ => return Err(Error::Closed),
        }
        Ok(())
    }

    /// Moves the body's bytes from `input` to `out`, as far as they have arrived. Bytes behind the end stay.
    pub fn decode(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<(), Error> {
        loop {
            self.0 = match self.0 {
                State::Done | State::Closed => return Ok(()),
                _ if input.is_empty() => return Ok(()),
                State::UntilClose => {
                    let all = input.len();
                    take(input, all, out);
                    State::UntilClose
                }
                State::Length(left) => match left - take_up_to(input, left, out) {
                    0 => State::Done,
                    left => State::Length(left),
                },
                State::Chunk(left) => match left - take_up_to(input, left, out) {
                    0 => State::ChunkEnd,
                    left => State::Chunk(left),
                },
                State::Size => match line(input)? {
                    None => return Ok(()),
                    Some(length) => {
                        let size = size(&input[..length])?;
                        input.advance(length);
                        if size == 0 {
                            State::Trailer
                        } else {
                            State::Chunk(size)
                        }
                    }
                },
                State::ChunkEnd => match line(input)? {
                    None => return Ok(()),
                    Some(length) if input[..length].trim_ascii().is_empty() => {
                        input.advance(length);
                        State::Size
                    }
                    Some(_) => return Err(Error::Chunk),
                },
                State::Trailer => match line(input)? {
                    None => return Ok(()),
                    Some(length) => {
                        let is_last = input[..length].trim_ascii().is_empty();
                        input.advance(length);
                        if is_last { State::Done } else { State::Trailer }
                    }
                },
            };
        }
    }
}

fn take_up_to(input: &mut BytesMut, left: u64, out: &mut BytesMut) -> u64 {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    take(input, count, out);
    count as u64
}

/// Moves bytes: without a copy where there is nothing to add them to and they are all there is.
fn take(input: &mut BytesMut, count: usize, out: &mut BytesMut) {
    if out.is_empty() && count == input.len() {
        *out = input.split();
    } else {
        out.extend_from_slice(&input[..count]);
        input.advance(count);
    }
}

/// The length of the line at the start, its end included, once it is complete.
fn line(input: &[u8]) -> Result<Option<usize>, Error> {
    match memchr::memchr(b'\n', input) {
        Some(end) => Ok(Some(end + 1)),
        None if input.len() > LINE => Err(Error::Chunk),
        None => Ok(None),
    }
}

/// The size of a chunk; extensions behind it are of no meaning here.
fn size(line: &[u8]) -> Result<u64, Error> {
    let line = line.strip_suffix(b"\r\n").ok_or(Error::Chunk)?;
    let digits = line
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(Error::Chunk);
    }
    let digits = std::str::from_utf8(digits).map_err(|_not_hexadecimal| Error::Chunk)?;
    u64::from_str_radix(digits, 16).map_err(|_too_large| Error::Chunk)
}
