//! TLS on both sides: HTTP/2 by ALPN, certificates that change, engines that want to be verified.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kthena_sim::{Fault, Rule};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;

use crate::bed::{Bed, CHAT, chat, endpoint, eventually, eventually_ok, route, server};
use crate::client::PATIENCE;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Certificate and key.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names)
            .expect("names")
            .signed_by(&key, &self.issuer)
            .expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

fn files(folder: &Path, (certificate, key): &(String, String)) -> (PathBuf, PathBuf) {
    let paths = (folder.join("tls.crt"), folder.join("tls.key"));
    std::fs::write(&paths.0, certificate).expect("a writable folder");
    std::fs::write(&paths.1, key).expect("a writable folder");
    paths
}

fn client(authority: &Authority) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(authority.pem.as_bytes()).expect("PEM");
    reqwest::Client::builder()
        .tls_certs_only([root])
        .timeout(PATIENCE)
        .resolve("proxy.test", ([127, 0, 0, 1], 0).into())
}

async fn over_tls(authority: &Authority, folder: &Path) -> (Bed, kthena_sim::Handle, String) {
    let (chain, key) = files(folder, &authority.issue(&["proxy.test"]));
    let certificate = kthena_sdk::process::Certificate { chain, key };
    let (bed, engine) = Bed::plain_with(|config| config.tls = Some(certificate)).await;
    let url = format!("https://proxy.test:{}{CHAT}", bed.address().port());
    (bed, engine, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_spoken_where_the_client_offers_it() {
    let (authority, folder) = (Authority::new("a"), tempfile::tempdir().expect("a folder"));
    let (_bed, engine, url) = over_tls(&authority, folder.path()).await;
    let two = client(&authority).build().expect("a client");
    let one = client(&authority).http1_only().build().expect("a client");
    for (client, version) in [(&two, http::Version::HTTP_2), (&one, http::Version::HTTP_11)] {
        for stream in [false, true] {
            let answer = client
                .post(&url)
                .json(&chat("hello", stream))
                .send()
                .await
                .expect("an answer");
            assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
            for hop in ["connection", "transfer-encoding", "keep-alive"] {
                assert!(
                    version == http::Version::HTTP_11 || !answer.headers().contains_key(hop),
                    "{hop} over HTTP/2"
                );
            }
            let text = answer.text().await.expect("a body to its end");
            assert!(!text.is_empty() && (!stream || text.ends_with("data: [DONE]\n\n")));
        }
        let sent = engine.requests(CHAT).pop().expect("a request");
        let host = sent
            .headers
            .iter()
            .find(|(name, _)| name == "host")
            .map(|(_, value)| value.clone());
        assert!(
            host.is_some_and(|host| host.starts_with("proxy.test")),
            "{:?}",
            sent.headers
        );
    }
    let refused = two
        .post(&url)
        .body("{}")
        .header("content-type", "application/json")
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status().as_u16(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_is_broken_over_http_2_too_and_a_client_that_leaves_is_noticed() {
    let (authority, folder) = (Authority::new("a"), tempfile::tempdir().expect("a folder"));
    let (bed, engine, url) = over_tls(&authority, folder.path()).await;
    let client = client(&authority).build().expect("a client");
    engine
        .faults()
        .add(Rule::new(Fault::ResetAfterEvents { events: 3 }).times(1));
    // A reset throws away what still waits to be written, which must not be the head.
    engine.faults().add(
        Rule::new(Fault::DelayEvents {
            by: Duration::from_millis(100),
        })
        .times(1),
    );
    let answer = client
        .post(&url)
        .json(&chat("hello", true))
        .send()
        .await
        .expect("a head");
    assert_eq!(answer.status().as_u16(), 200);
    assert!(answer.text().await.is_err(), "the end looks clean");

    engine
        .faults()
        .add(Rule::new(Fault::HangAfterEvents { events: 1 }).times(1));
    let mut answer = client
        .post(&url)
        .json(&chat("hello", true))
        .send()
        .await
        .expect("a head");
    assert!(answer.chunk().await.expect("a first event").is_some());
    drop(answer);
    engine
        .wait_for(PATIENCE, |stats| stats.plain.aborted + stats.plain.failed >= 2)
        .await
        .expect("an abort");
    eventually("the end", || bed.proxy.in_flight() == 0).await;
}

/// Writes to a text that a test reads.
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The warnings of this process from here on, those of other tests among them.
fn warnings() -> impl Fn() -> String {
    let text = Arc::new(Mutex::new(Vec::new()));
    let writer = text.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || Log(writer.clone()))
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("only one test looks at the log");
    move || String::from_utf8_lossy(&text.lock()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart_and_a_bad_one_is_not() {
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    let folder = tempfile::tempdir().expect("a folder");
    let (_bed, _engine, url) = over_tls(&first, folder.path()).await;
    let ask = async |authority: &Authority| {
        // A connection of its own: a certificate is looked at once for each.
        let client = client(authority).build().expect("a client");
        client
            .post(&url)
            .json(&chat("x", false))
            .send()
            .await
            .map(|answer| answer.status().as_u16())
    };
    assert_eq!(ask(&first).await.expect("trusted"), 200);
    let warnings = warnings();
    std::fs::write(folder.path().join("tls.crt"), "junk").expect("a writable folder");
    eventually("a warning", || {
        warnings().contains("the certificate stays as it is")
    })
    .await;
    assert_eq!(ask(&first).await.expect("the last good one is kept"), 200);
    files(folder.path(), &second.issue(&["proxy.test"]));
    eventually_ok("the new certificate", async || match ask(&second).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{error:?}")),
    })
    .await;
    assert!(ask(&first).await.is_err());
}

/// An engine that serves HTTPS, and wants a certificate from its clients if `clients` says whose.
async fn secure(
    folder: &Path,
    authority: &Authority,
    names: &[&str],
    clients: Option<&Authority>,
) -> kthena_sim::Handle {
    let (certificate, key) = files(folder, &authority.issue(names));
    let tls_client_ca = clients.map(|clients| {
        let path = folder.join("clients.crt");
        std::fs::write(&path, &clients.pem).expect("a writable folder");
        path
    });
    crate::bed::engine(kthena_sim::Config {
        tls_cert: Some(certificate),
        tls_key: Some(key),
        tls_client_ca,
        ..kthena_sim::Config::instant()
    })
    .await
}

fn secret(name: &str, data: serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "labels": {"networking.serving.volcano.sh/upstream-tls": "true"}},
        "stringData": data,
    })
}

fn https(engine: &kthena_sim::Handle, settings: serde_json::Value) -> serde_json::Value {
    let mut server = server(json!({
        "endpoints": [endpoint(engine)],
        "workloadPort": {"port": 8000, "protocol": "https"},
        "trafficPolicy": {"retry": {"attempts": 0}},
    }));
    let annotations: serde_json::Map<_, _> = settings
        .as_object()
        .expect("an object")
        .iter()
        .map(|(name, value)| (format!("networking.serving.volcano.sh/{name}"), value.clone()))
        .collect();
    server["metadata"]["annotations"] = annotations.into();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn engines_are_verified_as_the_annotations_say() {
    let (authority, other, folder) = (
        Authority::new("engines"),
        Authority::new("other"),
        tempfile::tempdir().expect("a folder"),
    );
    let engine = secure(folder.path(), &authority, &["engine.test"], None).await;
    let bed = Bed::start().await;
    bed.apply(&[
        route(),
        secret("ca", json!({"ca.crt": authority.pem})),
        secret("other", json!({"ca.crt": other.pem})),
    ])
    .await;
    for (settings, status) in [
        (
            json!({"upstream-ca-secret": "ca", "upstream-server-name": "engine.test"}),
            200,
        ),
        (
            json!({"upstream-ca-secret": "ca", "upstream-server-name": "wrong.test"}),
            503,
        ),
        (
            json!({"upstream-ca-secret": "other", "upstream-server-name": "engine.test"}),
            503,
        ),
        (json!({"upstream-ca-secret": "ca"}), 503),
        (json!({}), 503),
        (json!({"upstream-insecure-skip-verify": "true"}), 200),
        (
            json!({"upstream-ca-secret": "missing", "upstream-server-name": "engine.test"}),
            503,
        ),
        (
            json!({"upstream-ca-secret": "ca", "upstream-server-name": "engine.test"}),
            200,
        ),
    ] {
        bed.apply(&[https(&engine, settings.clone())]).await;
        for stream in [false, true] {
            let answer = bed.chat("x", stream).await;
            assert_eq!(answer.status, status, "{settings}: {}", answer.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_by_address_is_verified_by_its_address() {
    let (authority, folder) = (Authority::new("engines"), tempfile::tempdir().expect("a folder"));
    let engine = secure(folder.path(), &authority, &["127.0.0.1"], None).await;
    let bed = Bed::start().await;
    bed.apply(&[
        route(),
        secret("ca", json!({"ca.crt": authority.pem})),
        https(&engine, json!({"upstream-ca-secret": "ca"})),
    ])
    .await;
    assert_eq!(bed.chat("x", false).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_wants_a_certificate_gets_it() {
    let (authority, clients) = (Authority::new("engines"), Authority::new("clients"));
    let folder = tempfile::tempdir().expect("a folder");
    let engine = secure(folder.path(), &authority, &["127.0.0.1"], Some(&clients)).await;
    let bed = Bed::start().await;
    let (certificate, key) = clients.issue(&["proxy"]);
    let own = secret("own", json!({"tls.crt": certificate, "tls.key": key}));
    bed.apply(&[route(), secret("ca", json!({"ca.crt": authority.pem})), own])
        .await;
    bed.apply(&[https(&engine, json!({"upstream-ca-secret": "ca"}))])
        .await;
    assert_eq!(bed.chat("x", false).await.status, 503);
    bed.apply(&[https(
        &engine,
        json!({"upstream-ca-secret": "ca", "upstream-client-cert-secret": "own"}),
    )])
    .await;
    assert_eq!(bed.chat("x", false).await.status, 200);
}
