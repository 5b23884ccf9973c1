//! Names: which texts are names in Kubernetes, and how the names of generated objects are made.
//!
//! ```
//! use kthena_api::name::{self, InvalidName, Serving};
//!
//! assert_eq!(name::check_label("405b"), Ok(()));
//! assert_eq!(name::check_letter_label("405b"), Err(InvalidName::LetterLabel));
//! assert_eq!(name::check_subdomain("qwen2.5"), Ok(()));
//! assert_eq!(name::check_key("example.com/team"), Ok(()));
//! assert_eq!(name::check_label_value(""), Ok(()));
//!
//! assert_eq!(Serving("llama").revision("b2c4"), "llama-b2c4");
//! assert_eq!(Serving("llama").longest(10, "decode", 4, 8), "llama-10-decode-4-8");
//! assert_eq!(name::role_instance("decode", 3), "decode-3");
//! assert_eq!(name::booster_backend("qwen", "main"), "qwen-main");
//! ```

use std::fmt;

/// Longest DNS label, and so the longest name of a Service and of whatever becomes a label's value.
pub const MAX_LABEL: usize = 63;
/// Longest DNS name, and so the longest name of most objects.
pub const MAX_SUBDOMAIN: usize = 253;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing at all.
    #[error("must not be empty")]
    Empty,
    /// Too many characters.
    #[error("must be no more than {max} characters")]
    TooLong {
        /// How many are allowed.
        max: usize,
    },
    /// Not a DNS label as in RFC 1123.
    #[error("must consist of lower case letters, digits and '-', and begin and end with a letter or digit")]
    Label,
    /// Not a DNS label as in RFC 1035.
    #[error(
        "must consist of lower case letters, digits and '-', begin with a letter and end with a letter or digit"
    )]
    LetterLabel,
    /// Not a DNS name.
    #[error(
        "must consist of lower case letters, digits, '-' and '.', and each part between dots must begin and end \
         with a letter or digit"
    )]
    Subdomain,
    /// Not the key of a label or annotation.
    #[error(
        "must consist of letters, digits, '-', '_' and '.', begin and end with a letter or digit, and may follow a \
         DNS name and '/'"
    )]
    Key,
    /// Not the value of a label.
    #[error(
        "must be empty or consist of letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
    )]
    Value,
}

/// Checks a DNS label as in RFC 1123: `405b`, `prefill`.
pub fn check_label(text: &str) -> Result<(), InvalidName> {
    check_length(text, MAX_LABEL)?;
    if is_label(text) {
        Ok(())
    } else {
        Err(InvalidName::Label)
    }
}

/// Checks a DNS label as in RFC 1035, which begins with a letter. Services are named so.
pub fn check_letter_label(text: &str) -> Result<(), InvalidName> {
    check_length(text, MAX_LABEL)?;
    let fits = is_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase());
    if fits {
        Ok(())
    } else {
        Err(InvalidName::LetterLabel)
    }
}

/// Checks a DNS name as in RFC 1123. Most objects are named so.
pub fn check_subdomain(text: &str) -> Result<(), InvalidName> {
    check_length(text, MAX_SUBDOMAIN)?;
    if text.split('.').all(is_label) {
        Ok(())
    } else {
        Err(InvalidName::Subdomain)
    }
}

/// Checks the key of a label or annotation.
pub fn check_key(text: &str) -> Result<(), InvalidName> {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            check_subdomain(prefix)?;
            name
        }
        None => text,
    };
    check_length(name, MAX_LABEL)?;
    if is_qualified(name) {
        Ok(())
    } else {
        Err(InvalidName::Key)
    }
}

/// Checks the value of a label.
pub fn check_label_value(text: &str) -> Result<(), InvalidName> {
    if text.len() > MAX_LABEL {
        return Err(InvalidName::TooLong { max: MAX_LABEL });
    }
    if text.is_empty() || is_qualified(text) {
        Ok(())
    } else {
        Err(InvalidName::Value)
    }
}

fn check_length(text: &str, max: usize) -> Result<(), InvalidName> {
    match text.len() {
        0 => Err(InvalidName::Empty),
        length if length > max => Err(InvalidName::TooLong { max }),
        _ => Ok(()),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    is_framed(text, inner, |b| inner(b) && b != b'-')
}

fn is_qualified(text: &str) -> bool {
    is_framed(
        text,
        |b| b.is_ascii_alphanumeric() || b"-_.".contains(&b),
        |b| b.is_ascii_alphanumeric(),
    )
}

/// Whether all bytes are of one set, and the first and last of a narrower one.
fn is_framed(text: &str, inner: impl Fn(u8) -> bool, outer: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|&b| inner(b))
        && bytes.first().is_some_and(|&b| outer(b))
        && bytes.last().is_some_and(|&b| outer(b))
}

/// The names of what a ModelServing owns.
///
/// ```
/// use kthena_api::name::Serving;
///
/// let serving = Serving("llama");
/// assert_eq!(serving.group(0), "llama-0");
/// assert_eq!(serving.pod(0, "405b", 1, 0), "llama-0-405b-1-0");
/// assert_eq!(serving.service(0, "405b", 1), "llama-0-405b-1-0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serving<'a>(
    /// Name of the ModelServing.
    pub &'a str,
);

impl Serving<'_> {
    /// A ServingGroup and its PodGroup.
    pub fn group(self, group: u32) -> String {
        format!("{self}-{group}")
    }

    /// A pod: the entry pod has the index 0, worker pods count from 1.
    pub fn pod(self, group: u32, role: &str, instance: u32, index: u32) -> String {
        format!("{self}-{group}-{role}-{instance}-{index}")
    }

    /// The headless Service of a role instance, which is called like its entry pod.
    pub fn service(self, group: u32, role: &str, instance: u32) -> String {
        self.pod(group, role, instance, 0)
    }

    /// The ControllerRevision of a revision.
    pub fn revision(self, revision: &str) -> String {
        format!("{self}-{revision}")
    }

    /// The longest name that a role's pods come to with these counts. It must be a letter label, because Services are
    /// called like pods. Counts stand in for ordinals, which are smaller by one.
    pub fn longest(self, groups: i32, role: &str, instances: i32, workers: i32) -> String {
        format!("{self}-{groups}-{role}-{instances}-{workers}")
    }
}

impl fmt::Display for Serving<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A role instance within its ServingGroup: `<role>-<ordinal>`.
pub fn role_instance(role: &str, instance: u32) -> String {
    format!("{role}-{instance}")
}

/// The ModelServing and the ModelServer that a ModelBooster generates; its ModelRoute has the ModelBooster's own name.
pub fn booster_backend(booster: &str, backend: &str) -> String {
    format!("{booster}-{backend}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(check: fn(&str) -> Result<(), InvalidName>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), Ok(()), "{text:?}");
        }
        for text in bad {
            assert!(check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn labels_may_begin_with_a_digit_and_service_names_may_not() {
        let long = "a".repeat(63);
        check(
            check_label,
            &["a", "405b", "a-b", &long],
            &["", "-a", "a-", "A", "a.b", "ä", &format!("{long}a")],
        );
        check(
            check_letter_label,
            &["a", "a1", &long],
            &["1a", "405b", "role-", "Prefill", &format!("{long}a")],
        );
    }

    #[test]
    fn subdomains_are_labels_with_dots() {
        let long = vec!["a".repeat(63); 4].join(".");
        check(
            check_subdomain,
            &["a", "qwen2.5", "1.2", &long[..253]],
            &["", ".", "a.", ".a", "a..b", "A.b", "a_b", &long],
        );
    }

    #[test]
    fn keys_have_an_optional_prefix() {
        let long = "a".repeat(63);
        check(
            check_key,
            &["a", "A_b.c-d", "x.y/z", &long, &format!("example.com/{long}")],
            &[
                "",
                "/a",
                "a/",
                "a/b/c",
                "a@b",
                "-a",
                "a b",
                "X.y/z",
                &format!("{long}a"),
            ],
        );
    }

    #[test]
    fn values_may_be_empty() {
        check(
            check_label_value,
            &["", "A", "a_b.c-d"],
            &["a b", "-a", "a/b", "ü", &"a".repeat(64)],
        );
    }
}
