//! Parts of Kubernetes' own types that the kinds embed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A key of a Secret in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = ""))]
    pub name: Option<String>,

    /// Key in the Secret.
    pub key: String,

    /// Whether the Secret or the key may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

// === impl SecretKeySelector ===

impl SecretKeySelector {
    /// The name, empty where it is absent.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}
