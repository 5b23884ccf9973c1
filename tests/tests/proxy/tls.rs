//! Engines that speak HTTPS: what the proxy needs to know about them comes from Secrets.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kthena_api::{ModelServer, labels};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::{
    bed::Bed,
    object::{Pod, plain_server, route, split_server},
};

/// The name in the engines' certificates: their addresses are not known before they run.
const NAME: &str = "engine.test";

/// A certificate authority of a test's own, and its files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn create(bed: &Bed, name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let dir = bed.cluster.dir().join(format!("{}-{name}", bed.space.name()));
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("ca.crt"), issuer.pem())?;
        Ok(Self { issuer, dir })
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate and key.
    fn sign(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let signed = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok((signed.pem(), key.serialize_pem()))
    }

    /// An engine with a certificate of this authority. Its probe can only see that it listens.
    fn engine(&self, pod: Pod) -> Result<Pod> {
        let (certificate, key) = self.sign(NAME)?;
        let write = |name: &str, text: &str| -> Result<String> {
            let path = self.dir.join(name);
            std::fs::write(&path, text)?;
            text_of(&path)
        };
        Ok(pod
            .argument("--tls-cert", &write("engine.crt", &certificate)?)
            .argument("--tls-key", &write("engine.key", &key)?)
            .tcp_probe())
    }
}

fn text_of(path: &Path) -> Result<String> {
    Ok(path.to_str().context("a path that is text")?.to_owned())
}

fn secret(name: &str, values: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "labels": {labels::UPSTREAM_TLS: labels::TRUE}},
        "stringData": data,
    })
}

/// A ModelServer whose engines speak HTTPS.
fn https(mut server: Value, annotations: &[(&str, &str)]) -> Value {
    server["spec"]["workloadPort"]["protocol"] = "https".into();
    for (key, value) in annotations {
        server["metadata"]["annotations"][*key] = (*value).into();
    }
    server
}

/// Waits until the ModelServer says this about its Secrets.
async fn until_refs(bed: &Bed, status: &str, reason: &str) -> Result<String> {
    let is_told = |server: &ModelServer| {
        let mut conditions = server.status.iter().flat_map(|status| &status.conditions);
        conditions.any(|condition| {
            condition.type_ == "ResolvedRefs" && condition.status == status && condition.reason == reason
        })
    };
    let server: ModelServer = bed.space.until("llm", reason, is_told).await?;
    let mut conditions = server.status.iter().flat_map(|status| &status.conditions);
    let told = conditions.find(|condition| condition.type_ == "ResolvedRefs");
    Ok(told
        .map(|condition| condition.message.clone())
        .unwrap_or_default())
}

#[tokio::test]
async fn a_pair_behind_https_is_served_as_soon_as_its_authority_is_known() -> Result<()> {
    let bed = Bed::start("tls").await?;
    let authority = Authority::create(&bed, "ca")?;
    let server = https(
        split_server("llm", "llm"),
        &[
            (labels::UPSTREAM_CA_SECRET, "ca"),
            (labels::UPSTREAM_SERVER_NAME, NAME),
        ],
    );
    bed.apply(&[route("llm", bed.model(), &[("llm", 1)]), server])
        .await?;
    bed.run(authority.engine(Pod::prefill("p-0"))?).await?;
    bed.run(authority.engine(Pod::decode("d-0"))?).await?;
    let message = until_refs(&bed, "False", "InvalidSecret").await?;
    assert!(
        message.contains("ca") && message.contains(labels::UPSTREAM_TLS),
        "{message}"
    );
    assert_eq!(bed.ask("hello").await?.code()?, "no_available_pods");

    // A Secret that did not opt in is none.
    let mut hidden = secret("ca", &[("ca.crt", &authority.pem())]);
    hidden["metadata"]["labels"] = json!({labels::UPSTREAM_TLS: "no"});
    bed.apply(&[hidden]).await?;
    let good = secret("ca", &[("ca.crt", &authority.pem())]);
    bed.apply(std::slice::from_ref(&good)).await?;
    until_refs(&bed, "True", "ResolvedRefs").await?;
    bed.until_split(&["p-0"], &["d-0"]).await?;
    for stream in [false, true] {
        let answer = match stream {
            true => bed.stream("hello", 8).await?.rest().await?,
            false => bed.ask("hello").await?,
        };
        answer.said()?;
    }

    // Another authority: connections that were good are not used again, and new ones fail.
    let other = Authority::create(&bed, "other")?;
    bed.apply(&[secret("ca", &[("ca.crt", &other.pem())])]).await?;
    kthena_tests::wait::until("the refusal of the engines' certificates", || async {
        Ok((bed.ask("hello").await?.status == 503).then_some(()))
    })
    .await?;
    // Both, as while certificates are replaced.
    let both = format!("{}{}", other.pem(), authority.pem());
    bed.apply(&[secret("ca", &[("ca.crt", &both)])]).await?;
    bed.until_answered("hello").await?;
    // Nonsense is told.
    bed.apply(&[secret("ca", &[("ca.crt", "nonsense")])]).await?;
    until_refs(&bed, "False", "InvalidSecret").await?;
    bed.apply(&[good]).await?;
    bed.until_answered("hello").await?;
    Ok(())
}

#[tokio::test]
async fn an_engine_that_wants_to_know_its_clients_is_shown_a_certificate() -> Result<()> {
    let bed = Bed::start("mutual").await?;
    let authority = Authority::create(&bed, "ca")?;
    let clients = Authority::create(&bed, "clients")?;
    let trusted = text_of(&clients.dir.join("ca.crt"))?;
    let pod = authority
        .engine(Pod::plain("engine"))?
        .argument("--tls-client-ca", &trusted);
    bed.apply(&[
        route("llm", bed.model(), &[("llm", 1)]),
        secret("ca", &[("ca.crt", &authority.pem())]),
        https(
            plain_server("llm", "llm"),
            &[
                (labels::UPSTREAM_CA_SECRET, "ca"),
                (labels::UPSTREAM_SERVER_NAME, NAME),
            ],
        ),
    ])
    .await?;
    bed.run(pod).await?;
    bed.until_engines(&["engine"]).await?;
    assert_eq!(bed.ask("hello").await?.status, 503);
    let (certificate, key) = clients.sign("proxy.test")?;
    let pair = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
    let annotations = [
        (labels::UPSTREAM_CA_SECRET, "ca"),
        (labels::UPSTREAM_SERVER_NAME, NAME),
        (labels::UPSTREAM_CLIENT_CERT_SECRET, "client"),
    ];
    bed.apply(&[
        secret("client", &pair),
        https(plain_server("llm", "llm"), &annotations),
    ])
    .await?;
    bed.until_answered("hello").await?;
    Ok(())
}

#[tokio::test]
async fn checks_can_be_left_out_for_one_pod() -> Result<()> {
    let bed = Bed::start("unchecked").await?;
    let authority = Authority::create(&bed, "ca")?;
    bed.apply(&[
        route("llm", bed.model(), &[("llm", 1)]),
        https(plain_server("llm", "llm"), &[]),
    ])
    .await?;
    let pod = authority.engine(Pod::plain("engine"))?;
    bed.run(pod.clone()).await?;
    bed.until_engines(&["engine"]).await?;
    // Nobody in the system's list of authorities has signed it.
    assert_eq!(bed.ask("hello").await?.status, 503);
    bed.pods(&[pod.annotation(labels::UPSTREAM_INSECURE_SKIP_VERIFY, labels::TRUE)])
        .await?;
    bed.until_answered("hello").await?;
    Ok(())
}
