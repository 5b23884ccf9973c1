//! Conditions of a status: making them, and telling on what those of another object say.
//!
//! ```
//! use kthena_sdk::condition::{self, FALSE, TRUE};
//!
//! let now = "2026-01-01T00:00:00Z".parse()?;
//! let mut conditions = Vec::new();
//! condition::set(&mut conditions, condition::new("Ready", FALSE, "Starting", "0 of 2 replicas", Some(1), now));
//! assert!(!condition::is_true(&conditions, "Ready"));
//! let is_news = condition::set(&mut conditions, condition::new("Ready", TRUE, "Running", "", Some(1), now));
//! assert!(is_news && condition::is_true(&conditions, "Ready"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
pub use kthena_api::condition::{FALSE, TRUE, UNKNOWN, find, is_true, map_list, set};

/// Reason of a condition that another object has not reported yet.
pub const NOT_REPORTED: &str = "NotReported";

/// A condition as of now, which speaks about this generation of its object.
///
/// ```
/// use kthena_sdk::condition::{self, TRUE};
///
/// let ready = condition::new("Ready", TRUE, "Running", "", Some(3), "2026-01-01T00:00:00Z".parse()?);
/// assert_eq!((ready.type_.as_str(), ready.observed_generation), ("Ready", Some(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn new(
    type_: impl Into<String>,
    status: &str,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: generation,
        last_transition_time: Time(now),
    }
}

/// What another object's conditions say about a type, as a condition of one's own object: of this type and about this generation.
/// `Unknown` where the other one says nothing, or only about an earlier generation of its own.
///
/// ```
/// use kthena_sdk::condition::{self, TRUE, UNKNOWN};
///
/// let now = "2026-01-01T00:00:00Z".parse()?;
/// let theirs = [condition::new("Available", TRUE, "AllGroupsReady", "", Some(7), now)];
/// let ours = condition::told("Ready", (&theirs, Some(7)), "Available", Some(2), now);
/// assert_eq!((ours.type_.as_str(), ours.status.as_str(), ours.observed_generation), ("Ready", TRUE, Some(2)));
///
/// let ours = condition::told("Ready", (&theirs, Some(8)), "Available", Some(2), now);
/// assert_eq!(ours.status, UNKNOWN, "it has not looked at the latest change yet");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn told(
    type_: impl Into<String>,
    (theirs, their_generation): (&[Condition], Option<i64>),
    their_type: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let found = find(theirs, their_type);
    let found =
        found.filter(|it| it.observed_generation.is_none() || it.observed_generation >= their_generation);
    match found {
        Some(found) => new(
            type_,
            &found.status,
            &found.reason,
            found.message.clone(),
            generation,
            now,
        ),
        None => new(
            type_,
            UNKNOWN,
            NOT_REPORTED,
            format!("{their_type} is not reported yet"),
            generation,
            now,
        ),
    }
}
