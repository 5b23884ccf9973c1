//! The rules that the API server evaluates itself, in CEL. The CRDs carry them, and validation checks the same in Rust
//! under the same message, for where there is no API server.
//!
//! ```
//! use kthena_api::cel::{CelRule, MODEL_NAME_IS_IMMUTABLE};
//!
//! let CelRule { rule, message } = MODEL_NAME_IS_IMMUTABLE;
//! assert_eq!((rule, message), ("self == oldSelf", "modelName is immutable"));
//! ```

use serde::Serialize;

/// A rule in CEL and what the API server says when it does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CelRule {
    /// The expression; `self` is the node it stands on, `oldSelf` the same node before an update.
    pub rule: &'static str,
    /// The message.
    pub message: &'static str,
}

/// On `ModelRoute.spec`. An absent field fails its half of the rule, and the other half may still hold.
pub const ROUTE_MATCHES_SOMETHING: CelRule = CelRule {
    rule: r#"self.modelName != "" || size(self.loraAdapters) > 0"#,
    message: "ModelName and LoraAdapters cannot both be empty",
};

/// On `ModelRoute.spec.modelName`; evaluated where the field is there before and after.
pub const MODEL_NAME_IS_IMMUTABLE: CelRule = CelRule {
    rule: "self == oldSelf",
    message: "modelName is immutable",
};

/// On each target of a ModelRoute.
pub const ONE_TARGET: CelRule = CelRule {
    rule: concat!(
        r#"(has(self.modelServerName) && self.modelServerName != "") != "#,
        r#"(has(self.externalModelProviderName) && self.externalModelProviderName != "")"#
    ),
    message: "exactly one of modelServerName or externalModelProviderName must be set",
};

/// On `ModelServer.spec`.
pub const ENGINES_ARE_NAMED: CelRule = CelRule {
    rule: "has(self.workloadSelector) || has(self.endpoints)",
    message: "one of workloadSelector and endpoints is required",
};

/// On `ModelServer.spec`.
pub const ENGINES_ARE_NAMED_ONCE: CelRule = CelRule {
    rule: concat!(
        "!(has(self.endpoints) && size(self.endpoints) > 0 && has(self.workloadSelector) && ",
        "has(self.workloadSelector.matchLabels) && size(self.workloadSelector.matchLabels) > 0)"
    ),
    message: "endpoints and workloadSelector.matchLabels are mutually exclusive",
};

/// On `ExternalModelProvider.spec.auth`.
pub const CREDENTIAL_IS_NOT_OPTIONAL: CelRule = CelRule {
    rule: "!has(self.secretRef.optional) || !self.secretRef.optional",
    message: "secretRef.optional must be false or unset",
};

/// On `ModelServing.spec.template`.
pub const GANG_POLICY_STAYS: CelRule = CelRule {
    rule: "!has(oldSelf.gangPolicy) || has(self.gangPolicy)",
    message: "gangPolicy is required once set",
};

/// On `ModelServing.spec.template.gangPolicy.minRoleReplicas`; evaluated where the field is there before and after.
pub const MIN_ROLE_REPLICAS_IS_IMMUTABLE: CelRule = CelRule {
    rule: "self == oldSelf",
    message: "minRoleReplicas is immutable",
};

/// On `ModelServing.spec.template.roles`.
pub const ROLE_NAMES_ARE_UNIQUE: CelRule = CelRule {
    rule: "self.all(x, self.exists_one(y, y.name == x.name))",
    message: "roles name must be unique",
};

/// On `AutoscalingPolicy.spec.disaggregatedTarget`.
pub const RATIO_NEEDS_TWO_ROLES: CelRule = CelRule {
    rule: "!has(self.ratioConstraint) || size(self.roles) >= 2",
    message: "roles must contain at least two entries when ratioConstraint is configured",
};

/// On `AutoscalingPolicy.spec.disaggregatedTarget.ratioConstraint`.
pub const RATIO_ROLES_DIFFER: CelRule = CelRule {
    rule: "self.numeratorRole != self.denominatorRole",
    message: "numeratorRole and denominatorRole must differ",
};

/// On each metric source of an AutoscalingPolicy.
pub const METRIC_SOURCE_IS_SET: CelRule = CelRule {
    rule: "has(self.pod) || has(self.prometheus)",
    message: "one metric source backend config is required",
};

/// On each metric source of an AutoscalingPolicy.
pub const METRIC_SOURCE_IS_SET_ONCE: CelRule = CelRule {
    rule: "!(has(self.pod) && has(self.prometheus))",
    message: "pod and prometheus configs are mutually exclusive",
};
