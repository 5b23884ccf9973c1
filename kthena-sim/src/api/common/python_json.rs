//! Where Python's JSON reader stops, and what it says.

/// The first thing that Python's `json` would object to: its place, counted in characters, and the message.
/// None if the text is JSON.
pub(super) fn objection(text: &str) -> Option<(usize, &'static str)> {
    let chars: Vec<char> = text.chars().collect();
    let mut reader = Reader { chars: &chars, at: 0 };
    let read = (|| {
        reader.space();
        reader.value(0)?;
        reader.space();
        if reader.at < chars.len() {
            Err((reader.at, "Extra data"))
        } else {
            Ok(())
        }
    })();
    read.err()
}

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
}

type Objection = (usize, &'static str);

const EXPECTING_VALUE: &str = "Expecting value";
const EXPECTING_NAME: &str = "Expecting property name enclosed in double quotes";
const DEEPEST: usize = 900;

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Objection> {
        if depth > DEEPEST {
            return Err((self.at, "maximum recursion depth exceeded"));
        }
        match self.peek() {
            Some('{') => self.object(depth),
            Some('[') => self.array(depth),
            Some('"') => self.string(),
            Some('-' | '0'..='9') => self.number(),
            _ => ["null", "true", "false", "NaN", "Infinity"]
                .iter()
                .find(|word| {
                    self.chars[self.at..]
                        .iter()
                        .take(word.len())
                        .copied()
                        .eq(word.chars())
                })
                .map(|word| self.at += word.len())
                .ok_or((self.at, EXPECTING_VALUE)),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Objection> {
        self.at += 1;
        self.space();
        if self.peek() == Some('}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some('"') {
                return Err((self.at, EXPECTING_NAME));
            }
            self.string()?;
            self.space();
            if self.peek() != Some(':') {
                return Err((self.at, "Expecting ':' delimiter"));
            }
            self.at += 1;
            self.space();
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some('}') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(',') => self.at += 1,
                _ => return Err((self.at, "Expecting ',' delimiter")),
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Objection> {
        self.at += 1;
        self.space();
        if self.peek() == Some(']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            self.space();
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(',') => self.at += 1,
                _ => return Err((self.at, "Expecting ',' delimiter")),
            }
            self.space();
        }
    }

    fn string(&mut self) -> Result<(), Objection> {
        let begin = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err((begin, "Unterminated string starting at")),
                Some('"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some('\\') => match self.chars.get(self.at + 1) {
                    None => return Err((begin, "Unterminated string starting at")),
                    Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => self.at += 2,
                    Some('u') => {
                        let digits = self.chars.get(self.at + 2..self.at + 6).unwrap_or_default();
                        if digits.len() < 4 || !digits.iter().all(char::is_ascii_hexdigit) {
                            return Err((self.at + 1, "Invalid \\\\uXXXX escape"));
                        }
                        self.at += 6;
                    }
                    Some(_) => return Err((self.at, "Invalid \\\\escape")),
                },
                Some(c) if (c as u32) < 0x20 => return Err((self.at, "Invalid control character at")),
                Some(_) => self.at += 1,
            }
        }
    }

    fn number(&mut self) -> Result<(), Objection> {
        let begin = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        if !self.digits() {
            return Err((begin, EXPECTING_VALUE));
        }
        if self.peek() == Some('.') && self.chars.get(self.at + 1).is_some_and(char::is_ascii_digit) {
            self.at += 1;
            self.digits();
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.chars.get(self.at + 1), Some('+' | '-')));
            if self
                .chars
                .get(self.at + 1 + sign)
                .is_some_and(char::is_ascii_digit)
            {
                self.at += 1 + sign;
                self.digits();
            }
        }
        Ok(())
    }

    fn digits(&mut self) -> bool {
        let begin = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objections_are_those_of_python() {
        for (text, expected) in [
            (r#"{"model": "tiny", "#, Some((18, EXPECTING_NAME))),
            ("", Some((0, EXPECTING_VALUE))),
            (r#"{"a""#, Some((4, "Expecting ':' delimiter"))),
            (r#"{"a": 1 "b": 2}"#, Some((8, "Expecting ',' delimiter"))),
            (r#"{"a": "x"#, Some((6, "Unterminated string starting at"))),
            (r#"{"a": }"#, Some((6, EXPECTING_VALUE))),
            (r"{} x", Some((3, "Extra data"))),
            (r#"{"a": [1, 2.5e3, -1, true, null, {"b": "\u00e9"}]}"#, None),
        ] {
            assert_eq!(objection(text), expected, "{text}");
        }
    }
}
