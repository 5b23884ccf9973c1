//! The headless Service of a role's instance, through which its pods find the entry pod.
//!
//! ```
//! use kthena_sdk::api::ModelServing;
//! use kthena_sdk::api::model_serving::Role;
//! use kthena_sdk::model_serving::service::{is_wanted, service};
//!
//! assert!(!is_wanted(&Role::default()), "a pod alone needs no address");
//! let serving = ModelServing::new("llama", Default::default());
//! assert_eq!(service(&serving, 0, "decode", 0).metadata.name.as_deref(), Some("llama-0-decode-0-0"));
//! ```

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kthena_api::ModelServing;
use kthena_api::labels;
use kthena_api::model_serving::Role;
use kthena_api::name::Serving;

use super::metadata;
use crate::owner;

/// Whether instances of the role have a Service: where there may be workers.
pub fn is_wanted(role: &Role) -> bool {
    role.worker_template.is_some()
}

/// The Service of an instance: without ports and addresses of its own, it resolves to the entry pod as soon as that has an
/// address.
pub fn service(serving: &ModelServing, group: u32, role: &str, instance: u32) -> Service {
    let name = serving.metadata.name.as_deref().unwrap_or_default();
    let labels = metadata::of_instance(serving, group, role, instance);
    let mut selector = labels.clone();
    selector.remove(labels::MODEL_SERVING_NAME);
    selector.insert(labels::ENTRY.into(), labels::TRUE.into());
    Service {
        metadata: ObjectMeta {
            name: Some(Serving(name).service(group, role, instance)),
            namespace: serving.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![owner::reference(serving)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_selects_the_entry_pod_of_its_instance() {
        let serving = json!({ "metadata": { "name": "s", "namespace": "ns", "uid": "u" }, "spec": { "template": { "roles": [] } } });
        let serving: ModelServing = serde_json::from_value(serving).unwrap();
        let place = |more: &str, value: &str| {
            json!({
                "modelserving.volcano.sh/group-name": "s-1",
                "modelserving.volcano.sh/role": "prefill",
                "modelserving.volcano.sh/role-id": "prefill-2",
                more: value,
            })
        };
        assert_eq!(
            json!(service(&serving, 1, "prefill", 2)),
            json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": "s-1-prefill-2-0",
                    "namespace": "ns",
                    "labels": place("modelserving.volcano.sh/name", "s"),
                    "ownerReferences": [{ "apiVersion": "workload.serving.volcano.sh/v1alpha1", "kind": "ModelServing", "name": "s",
                        "uid": "u", "controller": true, "blockOwnerDeletion": true }],
                },
                "spec": {
                    "clusterIP": "None",
                    "publishNotReadyAddresses": true,
                    "selector": place("modelserving.volcano.sh/entry", "true"),
                },
            })
        );
    }
}
