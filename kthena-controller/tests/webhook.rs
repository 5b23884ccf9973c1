//! The program as a pod runs it: it serves webhooks until SIGTERM.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;

/// A port that nobody takes before its server does: it is below the ports of outgoing connections, and other
/// tests, which look at the same locks, leave it alone while its file is open.
fn port() -> (u16, File) {
    let locks = std::env::temp_dir().join("kthena-reserved");
    std::fs::create_dir_all(&locks).expect("a folder of locks");
    let reserve = |port: u16| {
        let lock = File::create(locks.join(format!("port-{port}"))).expect("a lock");
        let free = lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        free.then_some((port, lock))
    };
    (20_000..30_000).find_map(reserve).expect("a free port")
}

#[tokio::test]
async fn it_completes_a_policy_and_ends_when_told() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().expect("a folder");
    let (chain, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&key, signing_key.serialize_pem()).expect("written");
    std::fs::write(&chain, cert.pem()).expect("written");
    let (port, _reserved) = port();
    let mut program = Command::new(env!("CARGO_BIN_EXE_kthena-controller"))
        .arg("--master=http://127.0.0.1:1") // nobody is there
        .arg("--metrics-bind-address=0")
        .arg(format!("--port={port}"))
        .arg(format!("--tls-cert-file={}", chain.display()))
        .arg(format!("--tls-private-key-file={}", key.display()))
        .kill_on_drop(true)
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

    let id = program.id().expect("it runs").to_string();
    let told = Command::new("kill").arg(id).status().await;
    assert!(told.expect("kill").success());
    let begun = Instant::now();
    assert!(program.wait().await.expect("an exit status").success());
    // There was nothing to wait for.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
