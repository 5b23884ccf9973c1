//! Problems with an object, each with the path of the field it concerns.
//!
//! ```
//! use kthena_api::field::{Enumeration, FieldError, FieldErrorKind, FieldErrors, FieldPath};
//! use kthena_api::model_serving::RecoveryPolicy;
//!
//! let spec = FieldPath::root().child("spec");
//! let mut errors = FieldErrors::new();
//! errors.required(spec.child("modelName"), "name a model");
//! errors.invalid(spec.child("rules").index(0), "x", "is no rule");
//! errors.forbidden(spec.child("labels").key("app"), "belongs to somebody else");
//! errors.known(spec.child("recoveryPolicy"), Some(&RecoveryPolicy::from("Never")));
//! errors.push(FieldError::duplicate(spec.child("roles").index(1), "decode"));
//! errors.push(FieldError::unsupported(spec.child("unit"), "year".to_owned(), &["day"]));
//! errors.push(FieldError::too_long(spec.child("name"), 63));
//! errors.push(FieldError::too_many(spec.child("roles"), 9, 4));
//! errors.push(FieldError::unknown(spec.child("modelNmae")));
//!
//! let errors = errors.into_vec();
//! assert_eq!(errors.len(), 9);
//! assert_eq!(errors[0].kind, FieldErrorKind::Required);
//! assert_eq!(errors[1].path.as_str(), "spec.rules[0]");
//! assert_eq!(RecoveryPolicy::from("Never").unknown(), Some("Never"));
//! assert!(RecoveryPolicy::supported().contains(&"RoleRecreate"));
//! ```

use std::fmt;

use serde_json::Value;

/// Where in an object a field is, such as `spec.rules[0].modelMatch.headers[x-user].regex`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldPath(String);

/// One problem with one field.
///
/// It renders the way the Kubernetes API server words its own:
///
/// ```
/// use kthena_api::field::{FieldError, FieldPath};
///
/// let path = FieldPath::new("spec").child("replicas");
/// let error = FieldError::invalid(path, -1, "must not be negative");
/// assert_eq!(error.to_string(), "spec.replicas: Invalid value: -1: must not be negative");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// The field concerned.
    pub path: FieldPath,
    /// What kind of problem it is.
    pub kind: FieldErrorKind,
    /// What to know or do about it; may be empty.
    pub detail: String,
}

/// The kinds of problems.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum FieldErrorKind {
    /// The value does not fit; it is shown.
    Invalid {
        /// The offending value.
        value: Value,
    },
    /// The field is missing or empty.
    Required,
    /// The field may not be set here.
    Forbidden,
    /// The value is not one of a fixed set.
    Unsupported {
        /// The offending value.
        value: String,
        /// The values that would do.
        supported: Vec<String>,
    },
    /// The value occurs already where each may occur once.
    Duplicate {
        /// The repeated value.
        value: Value,
    },
    /// The text has too many characters.
    TooLong {
        /// How many it may have.
        max: usize,
    },
    /// The list or map has too many entries.
    TooMany {
        /// How many it has.
        actual: usize,
        /// How many it may have.
        max: usize,
    },
    /// The schema has no such field.
    Unknown,
}

/// What [`FieldErrors`] needs to know about an enumeration that tolerates unknown values.
pub trait Enumeration {
    /// The text of a value that is not in the set.
    fn unknown(&self) -> Option<&str>;
    /// The set.
    fn supported() -> &'static [&'static str];
}

/// Collects problems in the order in which they are found.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

// === impl FieldPath ===

impl FieldPath {
    /// A path of one name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The path of the object itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// A member of this object.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self(name.to_owned())
        } else {
            Self(format!("{}.{name}", self.0))
        }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<root>" } else { &self.0 })
    }
}

// === impl FieldError ===

impl FieldError {
    /// A value that does not fit.
    pub fn invalid(path: FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self {
            path,
            kind: FieldErrorKind::Invalid { value: value.into() },
            detail: detail.into(),
        }
    }

    /// A field that is missing or empty.
    pub fn required(path: FieldPath, detail: impl Into<String>) -> Self {
        Self {
            path,
            kind: FieldErrorKind::Required,
            detail: detail.into(),
        }
    }

    /// A field that may not be set here.
    pub fn forbidden(path: FieldPath, detail: impl Into<String>) -> Self {
        Self {
            path,
            kind: FieldErrorKind::Forbidden,
            detail: detail.into(),
        }
    }

    /// A value outside a fixed set.
    pub fn unsupported(path: FieldPath, value: impl Into<String>, supported: &[&str]) -> Self {
        let supported = supported.iter().map(|&value| value.to_owned()).collect();
        let kind = FieldErrorKind::Unsupported {
            value: value.into(),
            supported,
        };
        Self {
            path,
            kind,
            detail: String::new(),
        }
    }

    /// A value that occurs already.
    pub fn duplicate(path: FieldPath, value: impl Into<Value>) -> Self {
        Self {
            path,
            kind: FieldErrorKind::Duplicate { value: value.into() },
            detail: String::new(),
        }
    }

    /// A text with too many characters.
    pub fn too_long(path: FieldPath, max: usize) -> Self {
        let detail = format!("must be no more than {max} characters");
        Self {
            path,
            kind: FieldErrorKind::TooLong { max },
            detail,
        }
    }

    /// A list or map with too many entries.
    pub fn too_many(path: FieldPath, actual: usize, max: usize) -> Self {
        let detail = format!("must have at most {max} items");
        Self {
            path,
            kind: FieldErrorKind::TooMany { actual, max },
            detail,
        }
    }

    /// A field that the schema does not have.
    pub fn unknown(path: FieldPath) -> Self {
        Self {
            path,
            kind: FieldErrorKind::Unknown,
            detail: String::new(),
        }
    }

    /// Everything but the path.
    fn body(&self) -> String {
        let head = match &self.kind {
            FieldErrorKind::Invalid { value } => format!("Invalid value: {value}"),
            FieldErrorKind::Required => "Required value".to_owned(),
            FieldErrorKind::Forbidden => "Forbidden".to_owned(),
            FieldErrorKind::Unsupported { value, supported } => {
                let supported: Vec<_> = supported.iter().map(|value| quoted(value)).collect();
                format!(
                    "Unsupported value: {}: supported values: {}",
                    quoted(value),
                    supported.join(", ")
                )
            }
            FieldErrorKind::Duplicate { value } => format!("Duplicate value: {value}"),
            FieldErrorKind::TooLong { .. } => "Too long".to_owned(),
            FieldErrorKind::TooMany { actual, .. } => format!("Too many: {actual}"),
            FieldErrorKind::Unknown => "Unknown field".to_owned(),
        };
        if self.detail.is_empty() {
            head
        } else {
            format!("{head}: {}", self.detail)
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

impl std::error::Error for FieldError {}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

// === impl FieldErrors ===

impl FieldErrors {
    /// No problem yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a problem.
    pub fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// Adds [`FieldError::invalid`].
    pub fn invalid(&mut self, path: FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// Adds [`FieldError::required`].
    pub fn required(&mut self, path: FieldPath, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    /// Adds [`FieldError::forbidden`].
    pub fn forbidden(&mut self, path: FieldPath, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    /// Adds [`FieldError::unsupported`] where the value is not one of the enumeration's.
    pub fn known<E: Enumeration>(&mut self, path: FieldPath, value: Option<&E>) {
        if let Some(unknown) = value.and_then(Enumeration::unknown) {
            self.push(FieldError::unsupported(path, unknown, E::supported()));
        }
    }

    /// All problems.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<I: IntoIterator<Item = FieldError>>(&mut self, errors: I) {
        self.0.extend(errors);
    }
}

/// The message with which an admission webhook, the CLI and the file source refuse an object: one line per problem.
///
/// ```
/// use kthena_api::field::{FieldError, FieldPath, admission_message};
///
/// let errors = [FieldError::required(FieldPath::new("spec").child("baseURL"), "")];
/// assert_eq!(admission_message(&errors), "validation failed:\n  - spec.baseURL: Required value");
/// ```
pub fn admission_message(errors: &[FieldError]) -> String {
    let mut message = String::from("validation failed:");
    for error in errors {
        message.push_str("\n  - ");
        message.push_str(&error.to_string());
    }
    message
}

#[cfg(test)]
mod tests;
