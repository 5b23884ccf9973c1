//! The controller as the API server's admission webhook, with a certificate that it looks after itself.

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kthena_api::{AutoscalingPolicy, ModelServing};
use kthena_tests::{
    cluster::{Cluster, Identity, Namespace},
    controller::Controller,
    reserve::Port,
    wait,
};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const SECRET: &str = "kthena-controller-manager-webhook-certs";
const VALIDATING: &str = "kthena-controller-manager-validating-webhook";
const MUTATING: &str = "kthena-controller-manager-mutating-webhook";

fn registration(kind: &str, name: &str, url: &str, resource: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": name },
        "webhooks": [{
            "name": format!("{resource}.volcano.sh"),
            "clientConfig": { "url": url },
            "rules": [{
                "apiGroups": ["workload.serving.volcano.sh"],
                "apiVersions": ["v1alpha1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [resource],
                "scope": "Namespaced",
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

async fn server(account: &Identity, space: &Namespace, name: &str, port: &Port) -> Result<Controller> {
    let flags = [
        format!("--port={}", port.number()),
        format!("--pod-namespace={}", space.name()),
        "--tls-cert-file=/nowhere/tls.crt".to_owned(),
        "--leader-elect".to_owned(),
    ];
    Controller::with(account, name, &flags.each_ref().map(String::as_str)).await
}

fn serving(name: &str, least: i32) -> Result<ModelServing> {
    let template = json!({ "spec": { "containers": [{ "name": "engine", "image": "i" }] } });
    Ok(serde_json::from_value(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "ModelServing",
        "metadata": { "name": name },
        "spec": { "schedulerName": "default-scheduler", "template": {
            "gangPolicy": { "minRoleReplicas": { "decode": least } },
            "roles": [{ "name": "decode", "entryTemplate": template }],
        } },
    }))?)
}

#[tokio::test]
async fn the_api_server_comes_to_trust_the_webhooks() -> Result<()> {
    let cluster = Cluster::builder().start().await?;
    let space = cluster.namespace("kthena").await?;
    let account = Controller::account(&cluster, &space).await?;
    let ports = [Port::reserve()?, Port::reserve()?];
    let url = |path: &str| format!("https://localhost:{}{path}", ports[0].number());
    let path = "/validate-workload-ai-v1alpha1-modelserving";
    let validating = registration(
        "ValidatingWebhookConfiguration",
        VALIDATING,
        &url(path),
        "modelservings",
    );
    let path = "/mutate/autoscalingpolicy";
    let mutating = registration(
        "MutatingWebhookConfiguration",
        MUTATING,
        &url(path),
        "autoscalingpolicies",
    );
    cluster.apply(&validating.to_string()).await?;
    cluster.apply(&mutating.to_string()).await?;

    // Two at once agree on one certificate; also the one that does not lead serves.
    let servers = [
        server(&account, &space, "one", &ports[0]).await?,
        server(&account, &space, "other", &ports[1]).await?,
    ];
    let tails = || servers.each_ref().map(Controller::tail).join("\n");
    let secret: Secret = space
        .until(SECRET, "the certificate", |_| true)
        .await
        .with_context(tails)?;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/tls"));
    let ByteString(authority) = secret.data.context("data")?["ca.crt"].clone();
    for port in &ports {
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&authority)?])
            .no_proxy()
            .build()?;
        let url = format!("https://localhost:{}/healthz", port.number());
        let healthy = || async { Ok(client.get(&url).send().await?.text().await?) };
        wait::until_value("health over TLS", healthy, |text| text == "ok")
            .await
            .with_context(tails)?;
    }
    let client = cluster.client().await?;
    let bundles = || async {
        let validating = Api::<ValidatingWebhookConfiguration>::all(client.clone());
        let mutating = Api::<MutatingWebhookConfiguration>::all(client.clone());
        let validating = validating.get(VALIDATING).await?.webhooks.unwrap_or_default();
        let mutating = mutating.get(MUTATING).await?.webhooks.unwrap_or_default();
        let all = validating.into_iter().map(|it| it.client_config);
        let all = all.chain(mutating.into_iter().map(|it| it.client_config));
        Ok(all
            .map(|it| it.ca_bundle.unwrap_or_default().0)
            .collect::<Vec<_>>())
    };
    let trusted = |bundles: &Vec<Vec<u8>>| bundles.len() == 2 && bundles.iter().all(|it| *it == authority);
    wait::until_value("both bundles", bundles, trusted)
        .await
        .with_context(tails)?;

    // The API server notices a new bundle in its own time.
    let api = space.api::<ModelServing>().await?;
    let dry = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let (bad, good) = (serving("bad", 5)?, serving("good", 1)?);
    let refusal = wait::until("the webhook to be asked", || async {
        let refused = api
            .create(&dry, &bad)
            .await
            .expect_err("it fails, one way or the other");
        let message = refused.to_string();
        Ok((!message.contains("failed calling webhook")).then_some(message))
    });
    let refusal = refusal.await.with_context(tails)?;
    assert!(
        refusal.contains("spec.template.gangPolicy.minRoleReplicas"),
        "{refusal}"
    );
    api.create(&PostParams::default(), &good).await?;
    let policy: AutoscalingPolicy = serde_json::from_value(json!({
        "apiVersion": "workload.serving.volcano.sh/v1alpha1",
        "kind": "AutoscalingPolicy",
        "metadata": { "name": "p" },
        "spec": { "metrics": [{ "name": "m", "targetValue": "1" }] },
    }))?;
    let policies = space.api::<AutoscalingPolicy>().await?;
    let completed = wait::until("the other webhook to be asked", || async {
        Ok(Some(policies.create(&dry, &policy).await?))
    });
    let completed = serde_json::to_value(completed.await.with_context(tails)?)?;
    assert!(
        completed["spec"]["behavior"]["scaleDown"].is_object(),
        "{completed}"
    );
    Ok(())
}
