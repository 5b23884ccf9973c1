//! From the RE2 dialect to the syntax of the `regex` crate.

use std::{collections::HashSet, fmt::Write as _};

use super::InvalidPattern;

const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space",
    "upper", "word", "xdigit",
];

/// RE2 refuses larger counts.
const MAX_COUNT: u32 = 1000;

/// Rewrites an expression so that the `regex` crate reads it as RE2 does.
pub(super) fn translate(pattern: &str) -> Result<String, InvalidPattern> {
    let mut translator = Translator {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        last: Last::Nothing,
        end: 0,
        names: HashSet::new(),
    };
    while !translator.rest.is_empty() {
        translator.step()?;
    }
    Ok(translator.out)
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    last: Last,
    /// Where in `out` the last item ends; settings such as `(?i)` may follow it.
    end: usize,
    names: HashSet<&'a str>,
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    Item,
    Repetition,
}

fn syntax<T>(message: impl Into<String>) -> Result<T, InvalidPattern> {
    Err(InvalidPattern::Syntax(message.into()))
}

impl<'a> Translator<'a> {
    fn step(&mut self) -> Result<(), InvalidPattern> {
        let Some(c) = self.next() else { return Ok(()) };
        match c {
            '\\' => self.escape(),
            '(' => self.group(),
            '[' => self.class(),
            '*' | '+' | '?' => self.repetition(&c.to_string()),
            '{' => match counts(self.rest) {
                Some((counts, rest)) => {
                    self.rest = rest;
                    counts.check()?;
                    self.repetition(&counts.text)
                }
                None => self.item(r"\{"),
            },
            '|' => {
                self.out.push('|');
                self.last = Last::Nothing;
                Ok(())
            }
            ')' | '.' | '^' | '$' => self.item(&c.to_string()),
            literal => self.item(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn item(&mut self, text: &str) -> Result<(), InvalidPattern> {
        self.out.push_str(text);
        self.last = Last::Item;
        self.end = self.out.len();
        Ok(())
    }

    fn repetition(&mut self, operator: &str) -> Result<(), InvalidPattern> {
        match self.last {
            Last::Nothing => return syntax(format!("missing argument to repetition operator: {operator}")),
            Last::Repetition => return syntax(format!("invalid nested repetition operator: {operator}")),
            Last::Item => {}
        }
        // In `a(?i)*` the operator still means the `a`.
        let operator = if self.eat("?") {
            format!("{operator}?")
        } else {
            operator.to_owned()
        };
        self.out.insert_str(self.end, &operator);
        self.end += operator.len();
        self.last = Last::Repetition;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), InvalidPattern> {
        if self.eat("Q") {
            let (literal, rest) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
            self.rest = rest;
            return if literal.is_empty() {
                Ok(())
            } else {
                self.item(&regex::escape(literal))
            };
        }
        if let Some(set) = self.perl_class() {
            return self.item(&format!("[{set}]"));
        }
        if let Some(class) = self.unicode_class()? {
            return self.item(&class);
        }
        match self.rest.chars().next() {
            Some(boundary @ ('b' | 'B')) => {
                self.next();
                self.item(&format!(r"(?-u:\{boundary})"))
            }
            Some(anchor @ ('A' | 'z')) => {
                self.next();
                self.item(&format!(r"\{anchor}"))
            }
            _ => {
                let c = self.escaped_char()?;
                self.item(&regex::escape(c.encode_utf8(&mut [0; 4])))
            }
        }
    }

    /// `\d` and its like, as the inside of a class.
    fn perl_class(&mut self) -> Option<&'static str> {
        let set = match self.rest.as_bytes().first()? {
            b'd' => "0-9",
            b'D' => "^0-9",
            b's' => r"\t\n\f\r\x20",
            b'S' => r"^\t\n\f\r\x20",
            b'w' => "0-9A-Za-z_",
            b'W' => "^0-9A-Za-z_",
            _ => return None,
        };
        self.rest = &self.rest[1..];
        Some(set)
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`, `\P{Greek}`.
    fn unicode_class(&mut self) -> Result<Option<String>, InvalidPattern> {
        let mut negated = match self.rest.as_bytes().first() {
            Some(b'p') => false,
            Some(b'P') => true,
            _ => return Ok(None),
        };
        self.rest = &self.rest[1..];
        let name = if self.eat("{") {
            let Some((name, rest)) = self.rest.split_once('}') else {
                return syntax("unfinished Unicode class");
            };
            self.rest = rest;
            name
        } else {
            let start = self.rest;
            match self.next() {
                Some(c) => &start[..c.len_utf8()],
                None => return syntax("unfinished Unicode class"),
            }
        };
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negated = !negated;
                name
            }
            None => name,
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return syntax(format!("invalid Unicode class {name:?}"));
        }
        Ok(Some(format!(r"\{}{{{name}}}", if negated { 'P' } else { 'p' })))
    }

    /// What follows a backslash where a single character is meant.
    fn escaped_char(&mut self) -> Result<char, InvalidPattern> {
        let Some(c) = self.next() else {
            return syntax("trailing backslash");
        };
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(c),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            other => syntax(format!(r"invalid escape sequence: \{other}")),
        }
    }

    fn hexadecimal(&mut self) -> Result<char, InvalidPattern> {
        let digits = if self.eat("{") {
            let Some((digits, rest)) = self.rest.split_once('}') else {
                return syntax(r"invalid escape sequence: \x{");
            };
            self.rest = rest;
            digits
        } else {
            let digits = self.rest.get(..2).unwrap_or_default();
            self.rest = &self.rest[digits.len()..];
            digits
        };
        let well_formed = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        well_formed
            .then(|| u32::from_str_radix(digits, 16).ok().and_then(char::from_u32))
            .flatten()
            .map_or_else(|| syntax(format!(r"invalid escape sequence: \x{digits}")), Ok)
    }

    /// Up to three octal digits. One digit alone would be a back-reference, unless it is zero.
    fn octal(&mut self, first: char) -> Result<char, InvalidPattern> {
        let more = self
            .rest
            .bytes()
            .take(2)
            .take_while(|b| (b'0'..=b'7').contains(b))
            .count();
        if first != '0' && more == 0 {
            return syntax(format!(r"invalid escape sequence: \{first}"));
        }
        let (digits, rest) = self.rest.split_at(more);
        self.rest = rest;
        let code = u32::from_str_radix(&format!("{first}{digits}"), 8).unwrap_or_default();
        char::from_u32(code).map_or_else(|| syntax("invalid escape sequence"), Ok)
    }

    fn group(&mut self) -> Result<(), InvalidPattern> {
        if !self.eat("?") {
            self.out.push('(');
            self.last = Last::Nothing;
            return Ok(());
        }
        if self.eat("P<") || self.eat("<") {
            return self.named_group();
        }
        let end = self.rest.find([':', ')']);
        let Some((flags, closing)) = end.map(|end| (&self.rest[..end], &self.rest[end..=end])) else {
            return syntax("missing closing )");
        };
        let (on, off) = flags.split_once('-').unwrap_or((flags, "i"));
        let known = |flags: &str| flags.bytes().all(|b| matches!(b, b'i' | b'm' | b's' | b'U'));
        if !known(on) || !known(off) || off.is_empty() {
            return syntax(format!("invalid or unsupported Perl syntax: (?{flags}"));
        }
        self.rest = &self.rest[flags.len() + 1..];
        if closing == ":" {
            self.last = Last::Nothing;
        } else if flags.is_empty() {
            return Ok(());
        }
        // Writing to a string does not fail.
        let _ = write!(self.out, "(?{flags}{closing}");
        Ok(())
    }

    /// A group whose name nobody asks for.
    fn named_group(&mut self) -> Result<(), InvalidPattern> {
        let Some((name, rest)) = self.rest.split_once('>') else {
            return syntax("invalid named capture");
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return syntax(format!("invalid named capture: {name:?}"));
        }
        if !self.names.insert(name) {
            return syntax(format!("duplicate group name: {name}"));
        }
        self.rest = rest;
        self.out.push('(');
        self.last = Last::Nothing;
        Ok(())
    }

    fn class(&mut self) -> Result<(), InvalidPattern> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.is_empty() {
                return syntax("missing closing ]");
            }
            if !first && self.eat("]") {
                break;
            }
            first = false;
            if !self.nested_class()? {
                self.class_range()?;
            }
        }
        self.item("]")
    }

    /// `[:alpha:]`, `\d` or `\pL` inside a class.
    fn nested_class(&mut self) -> Result<bool, InvalidPattern> {
        if let Some(posix) = self.rest.strip_prefix("[:")
            && let Some((name, rest)) = posix.split_once(":]")
        {
            if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                return syntax(format!("invalid character class range: [:{name}:]"));
            }
            let _ = write!(self.out, "[:{name}:]");
            self.rest = rest;
            return Ok(true);
        }
        let before = self.rest;
        if !self.eat("\\") {
            return Ok(false);
        }
        if let Some(set) = self.perl_class() {
            let _ = write!(self.out, "[{set}]");
            return Ok(true);
        }
        if let Some(class) = self.unicode_class()? {
            self.out.push_str(&class);
            return Ok(true);
        }
        self.rest = before;
        Ok(false)
    }

    fn class_range(&mut self) -> Result<(), InvalidPattern> {
        let low = self.class_char()?;
        push_class_char(&mut self.out, low);
        if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.next();
            let high = self.class_char()?;
            if high < low {
                return syntax(format!("invalid character class range: {low}-{high}"));
            }
            self.out.push('-');
            push_class_char(&mut self.out, high);
        }
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, InvalidPattern> {
        match self.next() {
            Some('\\') => self.escaped_char(),
            Some(c) => Ok(c),
            None => syntax("missing closing ]"),
        }
    }
}

fn push_class_char(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() {
        out.push(c);
    } else {
        let _ = write!(out, r"\x{{{:X}}}", u32::from(c));
    }
}

struct Counts {
    text: String,
    min: Option<u32>,
    max: Option<u32>,
}

/// What stands after `{`, if it is a repetition; if not, the brace is literal.
fn counts(rest: &str) -> Option<(Counts, &str)> {
    let (inside, rest) = rest.split_once('}')?;
    let (low, high) = match inside.split_once(',') {
        Some((low, high)) => (low, Some(high)),
        None => (inside, None),
    };
    let number = |text: &str| {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        plain && (text == "0" || !text.starts_with('0'))
    };
    if !number(low) || !high.is_none_or(|high| high.is_empty() || number(high)) {
        return None;
    }
    let min = low.parse().ok();
    let max = match high {
        None => min,
        Some("") => Some(MAX_COUNT),
        Some(high) => high.parse().ok(),
    };
    Some((
        Counts {
            text: format!("{{{inside}}}"),
            min,
            max,
        },
        rest,
    ))
}

impl Counts {
    fn check(&self) -> Result<(), InvalidPattern> {
        match (self.min, self.max) {
            (Some(min), Some(max)) if min <= max && max <= MAX_COUNT => Ok(()),
            _ => syntax(format!("invalid repeat count: {}", self.text)),
        }
    }
}
