//! The proxy as the API server's admission webhook.

use anyhow::Result;
use k8s_openapi::ByteString;
use kthena_api::ModelRoute;
use kthena_tests::{cluster::Cluster, proxy::Proxy, reserve::Port, wait};
use kube::api::PostParams;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::object::route;

/// The registration, for one namespace: others go on without.
fn registration(namespace: &str, url: &str, authority: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("kthena-router-{namespace}")},
        "webhooks": [{
            "name": "validate-modelroute.volcano.sh",
            "clientConfig": {
                "url": format!("{url}/validate/modelroute"),
                "caBundle": ByteString(authority.as_bytes().to_vec()),
            },
            "rules": [{
                "apiGroups": ["networking.serving.volcano.sh"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["modelroutes"],
                "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

#[tokio::test]
async fn the_api_server_asks_it_and_tells_the_user_what_is_wrong() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("webhook").await?;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let folder = tempfile::tempdir()?;
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let port = Port::reserve()?;
    let account = Proxy::account(cluster, &space).await?;
    let mut proxy = Proxy::builder(&account)
        .argument("--enable-webhook")
        .argument(format!("--webhook-port={}", port.number()))
        .argument(format!("--webhook-tls-cert-file={}", chain.display()))
        .argument(format!("--webhook-tls-private-key-file={}", key.display()))
        .start()
        .await?;
    proxy.until_ready().await?;
    // As a Secret's volume would appear after the first start.
    std::fs::write(&key, signing_key.serialize_pem())?;
    std::fs::write(&chain, cert.pem())?;
    let url = format!("https://127.0.0.1:{}", port.number());
    cluster
        .apply(&registration(space.name(), &url, &cert.pem()).to_string())
        .await?;

    let routes = space.api::<ModelRoute>().await?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let mut wrong = route("wrong", "", &[("llm", 100)]);
    wrong["spec"]["loraAdapters"] = json!([""]);
    let wrong: ModelRoute = serde_json::from_value(wrong)?;
    let refusal = wait::until("the webhook to be asked", || async {
        let refused = routes
            .create(&dry, &wrong)
            .await
            .expect_err("it fails, one way or the other");
        let message = refused.to_string();
        Ok((!message.contains("failed calling webhook") && message.contains("webhook")).then_some(message))
    })
    .await?;
    assert!(
        refusal.contains("lora adapter name cannot be an empty string"),
        "{refusal}"
    );
    assert!(refusal.contains("spec.loraAdapters[0]"), "{refusal}");

    let good: ModelRoute = serde_json::from_value(route("good", space.name(), &[("llm", 100)]))?;
    routes.create(&PostParams::default(), &good).await?;
    Ok(())
}
