//! Defaults that depend on more than the field they are for, as the mutating webhooks fill them in.
//!
//! The defaults of the schema come first, see [`crate::schema::apply_defaults`]. Only AutoscalingPolicy has others:
//! they choose between two sets, depending on whether a part of `spec.behavior` was given at all.

mod autoscaling_policy;

use serde::Serialize;
use serde_json::Value;

use crate::{AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing};

/// One operation of a JSON patch (RFC 6902): adds a member to an object.
///
/// ```
/// use kthena_api::mutation::Addition;
///
/// let addition = Addition { path: "/spec/weight".into(), value: 100.into() };
/// let json = r#"{"op":"add","path":"/spec/weight","value":100}"#;
/// assert_eq!(serde_json::to_value(&addition)?, serde_json::from_str::<serde_json::Value>(json)?);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// Where, as a JSON pointer.
    pub path: String,
    /// What.
    pub value: Value,
}

/// An object that a mutating webhook completes.
///
/// ```
/// use kthena_api::AutoscalingPolicy;
/// use kthena_api::mutation::Mutate;
///
/// let mut policy = AutoscalingPolicy::new("qwen", Default::default());
/// policy.complete();
/// assert!(policy.additions().is_empty());
/// ```
pub trait Mutate {
    /// What to add, as a JSON patch. Nothing if the object is complete.
    fn additions(&self) -> Vec<Addition>;

    /// Adds it in place.
    fn complete(&mut self);
}

impl Serialize for Addition {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut operation = serializer.serialize_struct("Addition", 3)?;
        operation.serialize_field("op", "add")?;
        operation.serialize_field("path", &self.path)?;
        operation.serialize_field("value", &self.value)?;
        operation.end()
    }
}

/// Kinds whose schema says all about their defaults.
macro_rules! complete_as_they_are {
    ($($kind:ty),+) => {$(
        impl Mutate for $kind {
            fn additions(&self) -> Vec<Addition> {
                Vec::new()
            }

            fn complete(&mut self) {}
        }
    )+};
}

complete_as_they_are!(
    ExternalModelProvider,
    ModelBooster,
    ModelRoute,
    ModelServer,
    ModelServing
);

impl Mutate for AutoscalingPolicy {
    fn additions(&self) -> Vec<Addition> {
        autoscaling_policy::additions(self)
    }

    fn complete(&mut self) {
        autoscaling_policy::complete(self);
    }
}
