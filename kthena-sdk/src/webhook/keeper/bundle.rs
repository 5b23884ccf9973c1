//! The authority in a webhook configuration.

use std::fmt::Debug;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A webhook configuration of either kind.
pub(super) trait Configuration: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned {
    /// Its webhooks: name, and how each is called.
    fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)>;
}

macro_rules! configuration {
    ($object:ty) => {
        impl Configuration for $object {
            fn webhooks(&self) -> Vec<(&str, &WebhookClientConfig)> {
                let all = self.webhooks.iter().flatten();
                all.map(|it| (it.name.as_str(), &it.client_config))
                    .collect()
            }
        }
    };
}

configuration!(ValidatingWebhookConfiguration);
configuration!(MutatingWebhookConfiguration);

/// Writes the authority into a configuration, if it is there and has another one.
pub(super) async fn write<K: Configuration>(
    api: &Api<K>,
    name: &str,
    authority: &[u8],
) -> Result<(), kube::Error> {
    let Some(found) = api.get_opt(name).await? else {
        return Ok(());
    };
    let Some(patch) = patch(&found, authority) else {
        return Ok(());
    };
    let patched = api
        .patch(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    match patched {
        Ok(_) => {
            tracing::info!(kind = %K::kind(&()), name, "wrote the authority of the webhooks' certificate");
            Ok(())
        }
        // It is gone, or somebody else has written it; the next look will tell.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What changes a configuration so that all its webhooks trust this authority; `None` if they do.
fn patch<K: Configuration>(configuration: &K, authority: &[u8]) -> Option<Value> {
    let all = configuration.webhooks();
    let others = all.into_iter().filter(|(_, client)| {
        let bundle = client.ca_bundle.as_ref();
        bundle.is_none_or(|bundle| bundle.0 != authority)
    });
    // Webhooks are merged by name.
    let bundle = ByteString(authority.to_vec());
    let webhooks: Vec<Value> = others
        .map(|(name, _)| json!({ "name": name, "clientConfig": { "caBundle": bundle } }))
        .collect();
    let version = configuration.meta().resource_version.as_deref();
    (!webhooks.is_empty())
        .then(|| json!({ "metadata": { "resourceVersion": version }, "webhooks": webhooks }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_webhooks_without_the_authority_are_changed() {
        let configuration = |bundles: [Option<&str>; 2]| -> ValidatingWebhookConfiguration {
            let webhook = |name: &str, bundle: Option<&str>| {
                json!({ "name": name, "clientConfig": { "url": "https://x", "caBundle": bundle }, "sideEffects": "None",
                    "admissionReviewVersions": ["v1"] })
            };
            let webhooks = [webhook("a", bundles[0]), webhook("b", bundles[1])];
            serde_json::from_value(
                json!({ "metadata": { "name": "c", "resourceVersion": "7" }, "webhooks": webhooks }),
            )
            .unwrap()
        };
        // "ours" in base64.
        let ours = "b3Vycw==";
        let patched = |bundles| patch(&configuration(bundles), b"ours");
        assert_eq!(patched([Some(ours), Some(ours)]), None);
        let expected = |names: &[&str]| {
            let webhooks: Vec<Value> = names
                .iter()
                .map(|name| json!({ "name": name, "clientConfig": { "caBundle": ours } }))
                .collect();
            Some(json!({ "metadata": { "resourceVersion": "7" }, "webhooks": webhooks }))
        };
        assert_eq!(patched([Some(ours), None]), expected(&["b"]));
        assert_eq!(patched([Some("eA=="), Some("")]), expected(&["a", "b"]));
        assert_eq!(patch(&MutatingWebhookConfiguration::default(), b"ours"), None);
    }
}
