//! The webhook server over real sockets.
#![cfg(feature = "webhook")]

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use kthena_sdk::webhook::{self, Certificate, Config};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::sync::oneshot;

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

/// A certificate for `localhost`, written as a Secret would be mounted.
fn write(folder: &Path) -> reqwest::Certificate {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join("tls.key"), signing_key.serialize_pem()).expect("written");
    std::fs::write(folder.join("tls.crt"), cert.pem()).expect("written");
    reqwest::Certificate::from_pem(cert.pem().as_bytes()).expect("PEM")
}

fn client(trusted: reqwest::Certificate) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([trusted])
        .pool_max_idle_per_host(0)
        .build()
        .expect("a client")
}

/// Asks until an answer comes: the server starts, or changes its certificate, in its own time.
async fn healthy(client: &reqwest::Client, url: &str) {
    let ask = async {
        loop {
            if let Ok(answer) = client.get(format!("{url}/healthz")).send().await {
                assert_eq!(answer.text().await.expect("text"), "ok");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ask)
        .await
        .expect("it answers");
}

#[tokio::test]
async fn it_answers_reviews_once_its_certificate_is_there_and_follows_it() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let folder = tempfile::tempdir().expect("a folder");
    let (port, _reserved) = port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = Config {
        listen: vec![address],
        certificate: Certificate {
            chain: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        },
        grace: Duration::from_secs(5),
        timeout: Some(Duration::from_secs(30)),
    };
    let (end, ended) = oneshot::channel::<()>();
    let server = tokio::spawn(webhook::serve(config, webhook::networking(), async {
        ended.await.ok();
    }));
    let url = format!("https://localhost:{}", address.port());

    let first = client(write(folder.path()));
    healthy(&first, &url).await;

    let nobody = json!({ "group": "", "version": "", "kind": "" });
    let review = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "operation": "CREATE",
            "name": "r",
            "userInfo": {},
            "kind": nobody,
            "resource": { "group": "", "version": "", "resource": "" },
            "object": {
                "apiVersion": "networking.serving.volcano.sh/v1alpha1",
                "kind": "ModelRoute",
                "metadata": { "name": "r" },
                "spec": { "modelName": "", "rules": [] },
            },
        },
    });
    let post = |path: &str, body: String| {
        let request = first.post(format!("{url}{path}"));
        let request = request.header("content-type", "application/json").body(body);
        async { request.send().await.expect("an answer") }
    };
    let answer: Value = post("/validate/modelroute", review.to_string())
        .await
        .json()
        .await
        .expect("JSON");
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    assert_eq!(post("/validate/nothing", review.to_string()).await.status(), 404);
    assert_eq!(post("/validate/modelroute", "{".to_owned()).await.status(), 400);

    let second = client(write(folder.path()));
    healthy(&second, &url).await;
    let old = first.get(format!("{url}/healthz")).send().await;
    assert!(old.is_err(), "the old certificate is gone");

    end.send(()).expect("it runs");
    server.await.expect("no panic").expect("a clean end");
    assert!(second.get(format!("{url}/healthz")).send().await.is_err());
}
