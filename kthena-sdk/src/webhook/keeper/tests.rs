use std::sync::Arc;

use k8s_openapi::ByteString;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

/// An API server that has one Secret, or none, and no webhook configurations.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    secret: Option<Value>,
    version: u64,
    writes: usize,
    /// What it refuses.
    refuses: &'static [&'static str],
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, answer) = server.answer(&head, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, tower::BoxError>(http::Response::builder().status(code).body(answer)?)
            }
        });
        Client::new(service, "ns")
    }

    fn answer(&self, head: &http::request::Parts, body: &[u8]) -> (u16, Value) {
        let mut state = self.0.lock();
        let method = head.method.as_str();
        if state.refuses.contains(&method) {
            return refusal(403, "Forbidden");
        }
        if head.uri.path().contains("webhookconfigurations") {
            return refusal(404, "NotFound");
        }
        let version = |secret: &Value| secret["metadata"]["resourceVersion"].clone();
        let new: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, state.secret.clone()) {
            ("GET", Some(secret)) => (200, secret),
            ("POST", None) => (201, state.store(new)),
            ("PUT", Some(secret)) if version(&secret) == version(&new) => (200, state.store(new)),
            ("POST" | "PUT", Some(_)) => refusal(409, "Conflict"),
            _ => refusal(404, "NotFound"),
        }
    }

    fn keeper(&self, files: &std::path::Path) -> Keeper {
        Keeper::new(self.client(), config(files))
    }

    fn part(&self, key: &str) -> Vec<u8> {
        let secret = self.0.lock().secret.clone().expect("a Secret");
        let bytes: ByteString = serde_json::from_value(secret["data"][key].clone()).expect("bytes");
        bytes.0
    }
}

impl State {
    fn store(&mut self, mut secret: Value) -> Value {
        self.version += 1;
        self.writes += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret.clone());
        secret
    }
}

fn refusal(code: u16, reason: &str) -> (u16, Value) {
    let status =
        json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason });
    (code, status)
}

fn config(files: &std::path::Path) -> Config {
    Config {
        namespace: "ns".into(),
        secret: "certs".into(),
        service: "hook".into(),
        validating: vec!["hooks".into()],
        mutating: Vec::new(),
        files: Certificate {
            chain: files.join("tls.crt"),
            key: files.join("tls.key"),
        },
    }
}

/// A Secret with a certificate that was made at this time.
fn made(time: &str) -> Value {
    let nowhere = config("/nowhere".as_ref());
    let secret = secret::issued(None, &nowhere, time.parse().expect("a time")).expect("a certificate");
    serde_json::to_value(secret).expect("JSON")
}

fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["tls.crt", "tls.key"] {
        std::fs::write(folder.path().join(name), "of a file").expect("written");
    }
    folder
}

#[tokio::test(start_paused = true)]
async fn several_agree_on_what_the_first_has_made() {
    let server = Server::default();
    let (one, other) = (
        server.keeper("/nowhere".as_ref()),
        server.keeper("/nowhere".as_ref()),
    );
    let (first, second) = tokio::join!(one.changed(None), other.changed(None));
    assert!(first == second && first.key == server.part("tls.key"));
    assert_eq!(server.0.lock().writes, 1);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_changes_is_served_within_a_minute() {
    let server = Server::default();
    let keeper = server.keeper("/nowhere".as_ref());
    let first = keeper.changed(None).await;
    let begun = Instant::now();
    let change = async {
        sleep(Duration::from_secs(600)).await;
        server.0.lock().store(made(&Timestamp::now().to_string()));
        begun.elapsed()
    };
    let (second, changed) = tokio::join!(keeper.changed(Some(&first)), change);
    assert!(second != first && second.key == server.part("tls.key"));
    assert!(begun.elapsed() - changed <= PERIOD, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_old_certificate_is_replaced_and_served_on_where_that_is_forbidden() {
    for (refuses, replaced) in [(&[][..], true), (&["PUT"], false)] {
        let server = Server::default();
        server.0.lock().store(made("2017-01-01T00:00:00Z"));
        server.0.lock().refuses = refuses;
        let before = server.part("tls.key");
        let served = server.keeper("/nowhere".as_ref()).changed(None).await;
        assert_eq!(served.key, server.part("tls.key"));
        assert_eq!(server.part("tls.key") != before, replaced);
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_served_without_a_secret_and_until_one_can_be_read() {
    let folder = files();
    for refuses in [&[][..], &["GET"]] {
        let server = Server::default();
        server.0.lock().refuses = refuses;
        let keeper = server.keeper(folder.path());
        let first = keeper.changed(None).await;
        assert_eq!(first.key, b"of a file");
        assert_eq!(server.0.lock().writes, 0, "nothing is made");
        server.0.lock().refuses = &[];
        server.0.lock().store(made(&Timestamp::now().to_string()));
        assert_eq!(keeper.changed(Some(&first)).await.key, server.part("tls.key"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_disturbance_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::default();
    let keeper = server.keeper(folder.path());
    let first = keeper.changed(None).await;
    // Files that come up later are no reason to leave the Secret.
    for name in ["tls.crt", "tls.key"] {
        std::fs::write(folder.path().join(name), "of a file").expect("written");
    }
    server.0.lock().refuses = &["GET"];
    let change = timeout(Duration::from_secs(3600), keeper.changed(Some(&first)));
    assert!(change.await.is_err());
}
