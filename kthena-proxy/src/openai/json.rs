//! Passing over JSON text: whether it is valid, where things stand, how long strings are. Nothing is decoded.
//!
//! Prompts are long strings, so that is what this is made for: quotes and backslashes, the only bytes that matter in them, are
//! found by vector instructions in one sweep over the whole text.

use std::borrow::Cow;
use std::ops::Range;

use memchr::Memchr2;

/// The text is no JSON. What exactly is wrong is for `serde_json` to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Invalid;

/// A place in a JSON text. What its methods read they leave behind; white space before it does not matter.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    at: usize,
    /// Quotes and backslashes, in order.
    marks: Memchr2<'t>,
    /// The last of them that was asked for.
    mark: Option<usize>,
}

/// A string in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'t> {
    /// What stands between the quotes, escapes included.
    inner: &'t str,
    /// Offset of the opening quote.
    pub start: usize,
    /// How many characters escapes have more than what they stand for.
    surplus: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut marks = memchr::memchr2_iter(b'"', b'\\', text.as_bytes());
        let mark = marks.next();
        Self {
            text,
            at: 0,
            marks,
            mark,
        }
    }

    /// The offset behind what was read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The byte that comes next.
    pub(super) fn peek(&mut self) -> Result<u8, Invalid> {
        loop {
            match self.byte()? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                other => return Ok(other),
            }
        }
    }

    /// Whether nothing but white space is left.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek().is_err()
    }

    /// Passes over a value.
    pub(super) fn value(&mut self) -> Result<Range<usize>, Invalid> {
        self.peek()?;
        let start = self.at;
        // What ends the objects and arrays that are open: a stack of its own, as nesting has no limit.
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b't' => self.word("true")?,
                b'f' => self.word("false")?,
                b'n' => self.word("null")?,
                b'-' | b'0'..=b'9' => self.number()?,
                begin @ (b'{' | b'[') => {
                    self.at += 1;
                    let end = if begin == b'{' { b'}' } else { b']' };
                    if self.peek()? == end {
                        self.at += 1;
                    } else {
                        open.push(end);
                        if end == b'}' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                _ => return Err(Invalid),
            }
            // Where a value ends, what holds it goes on or ends as well.
            loop {
                let Some(&end) = open.last() else {
                    return Ok(start..self.at);
                };
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if end == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    byte if byte == end => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(Invalid),
                }
            }
        }
    }

    /// Passes over an object. Gets the name of each member and has to pass over its value.
    pub(super) fn members(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'t>) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.items(b'{', b'}', |cursor| {
            let name = cursor.name()?;
            member(cursor, name)
        })
    }

    /// Passes over an array. Has to pass over each element.
    pub(super) fn elements(
        &mut self,
        element: impl FnMut(&mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.items(b'[', b']', element)
    }

    fn items(
        &mut self,
        begin: u8,
        end: u8,
        mut item: impl FnMut(&mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.eat(begin)?;
        if self.peek()? == end {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek()? {
                b',' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Invalid),
            }
        }
    }

    /// Passes over a string.
    pub(super) fn string(&mut self) -> Result<Text<'t>, Invalid> {
        self.eat(b'"')?;
        let begin = self.at;
        let bytes = self.text.as_bytes();
        let mut surplus = 0;
        loop {
            let mark = self.mark()?;
            if bytes[mark] == b'"' {
                self.at = mark + 1;
                break;
            }
            let (length, more) = escape(&bytes[mark..])?;
            self.at = mark + length;
            surplus += more;
        }
        let inner = &self.text[begin..self.at - 1];
        // All bytes are looked at, without a branch: that is what lets the compiler take many at once.
        if inner.bytes().fold(false, |control, byte| control | (byte < b' ')) {
            return Err(Invalid);
        }
        Ok(Text {
            inner,
            start: begin - 1,
            surplus,
        })
    }

    /// A member's name, and its colon.
    fn name(&mut self) -> Result<Text<'t>, Invalid> {
        let name = self.string()?;
        self.eat(b':')?;
        Ok(name)
    }

    /// The next quote or backslash.
    fn mark(&mut self) -> Result<usize, Invalid> {
        loop {
            match self.mark {
                Some(mark) if mark < self.at => self.mark = self.marks.next(),
                mark => return mark.ok_or(Invalid),
            }
        }
    }

    fn number(&mut self) -> Result<(), Invalid> {
        self.at += usize::from(self.is(b'-'));
        if self.is(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.is(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if self.is(b'e') || self.is(b'E') {
            self.at += 1;
            self.at += usize::from(self.is(b'+') || self.is(b'-'));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Invalid> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(Invalid) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), Invalid> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Invalid);
        }
        self.at += word.len();
        Ok(())
    }

    fn eat(&mut self, expected: u8) -> Result<(), Invalid> {
        if self.peek()? != expected {
            return Err(Invalid);
        }
        self.at += 1;
        Ok(())
    }

    fn is(&self, byte: u8) -> bool {
        self.byte() == Ok(byte)
    }

    fn byte(&self) -> Result<u8, Invalid> {
        self.text.as_bytes().get(self.at).copied().ok_or(Invalid)
    }
}

impl<'t> Text<'t> {
    /// How many Unicode code points it stands for.
    pub(super) fn characters(self) -> usize {
        self.inner.chars().count().saturating_sub(self.surplus)
    }

    /// What it stands for; `None` where that is no text, as half of a surrogate pair is not.
    pub(super) fn decode(self) -> Option<Cow<'t, str>> {
        if self.surplus == 0 {
            return Some(Cow::Borrowed(self.inner));
        }
        let quoted = format!("\"{}\"", self.inner);
        serde_json::from_str(&quoted).ok().map(Cow::Owned)
    }
}

/// The length of an escape, and by how many characters that is more than it stands for: a code point, or nothing, because the
/// second half of a surrogate pair was counted with the first.
fn escape(bytes: &[u8]) -> Result<(usize, usize), Invalid> {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok((2, 1)),
        Some(b'u') => match bytes.get(2..6) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => {
                let is_low_surrogate =
                    matches!(hex[0], b'd' | b'D') && matches!(hex[1], b'c'..=b'f' | b'C'..=b'F');
                Ok((6, if is_low_surrogate { 6 } else { 5 }))
            }
            _ => Err(Invalid),
        },
        _ => Err(Invalid),
    }
}

#[cfg(test)]
mod tests;
