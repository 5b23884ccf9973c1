//! The program as a pod runs it: it serves webhooks until SIGTERM.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::time::Instant;

#[tokio::test]
async fn it_completes_a_policy_and_ends_when_told() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    std::fs::write(&chain, cert.pem()).expect("written");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
    let port = free.expect("a free port").port();
    let mut program = Command::new(env!("CARGO_BIN_EXE_kthena-controller"))
        .arg(format!("--port={port}"))
        .arg(format!("--tls-cert-file={}", chain.display()))
        .arg(format!("--tls-private-key-file={}", key.display()))
        .spawn()
        .expect("the program starts");

    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(cert.pem().as_bytes()).expect("PEM")])
        .build()
        .expect("a client");
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "operation": "CREATE",
            "name": "p",
            "userInfo": {},
            "kind": { "group": "", "version": "", "kind": "" },
            "resource": { "group": "", "version": "", "resource": "" },
            "object": {
                "apiVersion": "workload.serving.volcano.sh/v1alpha1",
                "kind": "AutoscalingPolicy",
                "metadata": { "name": "p" },
                "spec": { "metrics": [{ "name": "m", "targetValue": "1" }] },
            },
        },
    });
    let url = format!("https://localhost:{port}/mutate/autoscalingpolicy");
    let begun = Instant::now();
    let answer = loop {
        let request = client.post(&url).header("content-type", "application/json");
        match request.body(review.to_string()).send().await {
            Ok(answer) => break answer,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(30), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["response"]["patchType"], "JSONPatch", "{answer}");

    let told = Command::new("kill").arg(program.id().to_string()).status();
    assert!(told.expect("kill").success());
    assert!(program.wait().expect("an exit status").success());
}
