//! ExternalModelProvider: a model that somebody else serves.
//!
//! ```
//! use kthena_api::external_model_provider::{AuthScheme, ExternalModelProviderSpec, ProviderAuth, ProviderType};
//!
//! let provider: ExternalModelProviderSpec = serde_json::from_value(serde_json::json!({
//!     "providerType": "Anthropic",
//!     "baseURL": "https://api.example.com",
//!     "auth": { "secretRef": { "name": "credential", "key": "token" } },
//! }))?;
//! assert_eq!(provider.effective_provider_type(), &ProviderType::Anthropic);
//! assert_eq!(provider.effective_auth_scheme(), &AuthScheme::ApiKey, "as that protocol has it");
//! let ProviderAuth { secret_ref, .. } = provider.auth.unwrap();
//! assert_eq!(secret_ref.key, "token");
//! # Ok::<(), serde_json::Error>(())
//! ```

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{cel, condition, external::SecretKeySelector, string_enum::string_enum};

/// What an ExternalModelProvider asks for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "networking.serving.volcano.sh",
    version = "v1alpha1",
    kind = "ExternalModelProvider",
    plural = "externalmodelproviders",
    namespaced,
    status = "ExternalModelProviderStatus",
    derive = "PartialEq",
    doc = "An ExternalModelProvider lets ModelRoutes send requests to a model service outside the cluster."
)]
#[serde(rename_all = "camelCase")]
pub struct ExternalModelProviderSpec {
    /// The protocol of the provider; `OpenAI` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "OpenAI"))]
    pub provider_type: Option<ProviderType>,

    /// The model that requests are rewritten to. If absent or empty, requests keep their `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub model: Option<String>,

    /// Where the provider is, as an `https://` URL without user, query or fragment.
    #[serde(rename = "baseURL")]
    #[schemars(length(min = 1), regex(pattern = r"^https://.+"))]
    pub base_url: String,

    /// Accepts any certificate from the provider; `false` if absent. The connection is encrypted all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub insecure_skip_verify: Option<bool>,

    /// The credential that requests carry. None if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ProviderAuth>,

    /// Headers added to every request, by name. They are stored in the open; a credential belongs into `auth`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// A credential and how it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = [cel::CREDENTIAL_IS_NOT_OPTIONAL]))]
#[serde(rename_all = "camelCase")]
pub struct ProviderAuth {
    /// How the credential is sent. If absent, the provider type decides: `Bearer` for OpenAI, `APIKey` for Anthropic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<AuthScheme>,

    /// A key of a Secret in the same namespace. The Secret must carry the label
    /// `networking.serving.volcano.sh/external-model-provider-credential: "true"`.
    pub secret_ref: SecretKeySelector,
}

string_enum! {
    /// The protocols that providers speak.
    pub enum ProviderType {
        /// The API of OpenAI, and of the many that follow it.
        OpenAi = "OpenAI",
        /// The API of Anthropic.
        Anthropic = "Anthropic",
    }
}

string_enum! {
    /// How a credential is sent.
    pub enum AuthScheme {
        /// `Authorization: Bearer <credential>`.
        Bearer = "Bearer",
        /// `x-api-key: <credential>`.
        ApiKey = "APIKey",
    }
}

/// What was found out about an ExternalModelProvider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalModelProviderStatus {
    /// The `metadata.generation` that the status speaks about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `CredentialsResolved` tells whether the credential can be used, `Ready` whether requests can be sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "condition::atomic_list")]
    pub conditions: Vec<Condition>,
}

// === impl ExternalModelProviderSpec ===

impl ExternalModelProviderSpec {
    /// The protocol with its default; an empty one counts as absent.
    pub fn effective_provider_type(&self) -> &ProviderType {
        match &self.provider_type {
            Some(provider_type) if !provider_type.as_str().is_empty() => provider_type,
            _ => &ProviderType::OpenAi,
        }
    }

    /// How the credential is sent, with the default of the protocol; an empty scheme counts as absent.
    pub fn effective_auth_scheme(&self) -> &AuthScheme {
        match self.auth.as_ref().and_then(|auth| auth.scheme.as_ref()) {
            Some(scheme) if !scheme.as_str().is_empty() => scheme,
            _ => match self.effective_provider_type() {
                ProviderType::Anthropic => &AuthScheme::ApiKey,
                _ => &AuthScheme::Bearer,
            },
        }
    }
}
