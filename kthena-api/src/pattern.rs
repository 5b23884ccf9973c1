//! Regular expressions in the RE2 dialect of Go, which is what ModelRoutes and the CRDs are written in.
//!
//! The `regex` crate is of the same family: linear time, no look-around, no back-references. It differs in details
//! that decide whether a request matches, so expressions are translated before they are compiled:
//!
//! | | RE2 as Go has it | `regex` crate |
//! |---|---|---|
//! | `\d`, `\s`, `\w`, `\b` | ASCII | Unicode |
//! | `\Q…\E` | literal text | unknown |
//! | `\123` | octal | unknown |
//! | `[a&&b]`, `[a--b]`, `[[a]b]` | literal characters | set operations |
//! | `a{`, `a{,5}` | literal text | an error, or a repetition |
//! | `a**` | an error | allowed |
//! | `a{1001}` | an error | allowed |
//! | flags | `i`, `m`, `s`, `U` | also `x`, `u`, `R` |
//!
//! What remains different: the names of Unicode classes come from the tables of the `regex` crate, which know more of
//! them; nested counts such as `(a{100}){100}` are limited by the compiled size, a mebibyte, and not by their product.
//!
//! ```
//! use kthena_api::model_route::StringMatch;
//! use kthena_api::pattern::{InvalidPattern, StringMatcher};
//!
//! let condition = StringMatch { regex: Some("^gpt-[0-9]$".into()), ..StringMatch::default() };
//! let matcher = StringMatcher::new(&condition)?;
//! assert!(matcher.matches("gpt-4") && !matcher.matches("gpt-4o"));
//! # Ok::<(), InvalidPattern>(())
//! ```

mod translate;

use regex::{Regex, RegexBuilder};

use crate::model_route::StringMatch;

/// Why a text is not an expression of the RE2 dialect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// A construct that RE2 does not have, or that is not complete.
    #[error("{0}")]
    Syntax(String),
    /// The compiled expression would be too large.
    #[error("the expression is too large")]
    TooLarge,
}

const SIZE_LIMIT: usize = 1 << 20;

/// Compiles an expression of the RE2 dialect.
///
/// ```
/// use kthena_api::pattern;
///
/// assert!(pattern::compile(r"^\Qgpt-4.1\E(-mini)?$").is_ok_and(|regex| regex.is_match("gpt-4.1-mini")));
/// assert!(pattern::compile("(?=look-ahead)").is_err());
/// ```
pub fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let translated = translate::translate(pattern)?;
    RegexBuilder::new(&translated)
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => InvalidPattern::TooLarge,
            other => InvalidPattern::Syntax(reason(&other.to_string())),
        })
}

/// The last line of the crate's message, which says what is wrong; the lines before it draw the translated text.
fn reason(message: &str) -> String {
    let last = message.lines().next_back().unwrap_or(message).trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// A [`StringMatch`] that is ready to be asked.
#[derive(Debug, Clone)]
pub enum StringMatcher {
    /// Anything matches.
    Any,
    /// The text is exactly this.
    Exact(String),
    /// The text begins with this.
    Prefix(String),
    /// The expression matches somewhere in the text.
    Regex(Regex),
}

impl StringMatcher {
    /// Prepares the condition that counts: the first of exact, prefix and regex that is set, be it to an empty text.
    pub fn new(condition: &StringMatch) -> Result<Self, InvalidPattern> {
        match condition {
            StringMatch {
                exact: Some(exact), ..
            } => Ok(Self::Exact(exact.clone())),
            StringMatch {
                prefix: Some(prefix), ..
            } => Ok(Self::Prefix(prefix.clone())),
            StringMatch {
                regex: Some(pattern), ..
            } => compile(pattern).map(Self::Regex),
            StringMatch {
                exact: None,
                prefix: None,
                regex: None,
            } => Ok(Self::Any),
        }
    }

    /// Whether a text matches. A text that is missing, such as a header that was not sent, is an empty one.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests;
