//! HTTPS, with and without client certificates.

use std::sync::Arc;

use kthena_sim::{Config, Engine};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Answer, COMPLETIONS, completion, raw};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

fn connector(trusted: &Authority, identity: Option<(rcgen::Certificate, KeyPair)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

async fn ask(engine: &kthena_sim::Handle, connector: &TlsConnector) -> std::io::Result<Answer> {
    let tcp = TcpStream::connect(engine.addr()).await?;
    let mut stream = connector
        .connect(ServerName::try_from("127.0.0.1").unwrap(), tcp)
        .await?;
    let request = raw(
        engine.addr(),
        "POST",
        COMPLETIONS,
        &[],
        completion("secret").to_string().as_bytes(),
    );
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(Answer::parse(&answer).unwrap())
}

#[tokio::test]
async fn https_is_served_and_client_certificates_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let (cert, key) = issue(&authority);
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("cert.pem"), cert.pem()).unwrap();
    std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(path("ca.pem"), authority.pem()).unwrap();
    let config = Config {
        tls_cert: Some(path("cert.pem")),
        tls_key: Some(path("key.pem")),
        ..Config::instant()
    };
    let open = Engine::start(config.clone()).await.unwrap();
    assert!(open.url().starts_with("https://"));
    let answer = ask(&open, &connector(&authority, None)).await.unwrap();
    assert_eq!((answer.status, answer.complete), (200, true));

    let closed = Engine::start(Config {
        tls_client_ca: Some(path("ca.pem")),
        ..config.clone()
    })
    .await
    .unwrap();
    assert!(ask(&closed, &connector(&authority, None)).await.is_err());
    let identity = issue(&authority);
    assert_eq!(
        ask(&closed, &connector(&authority, Some(identity)))
            .await
            .unwrap()
            .status,
        200
    );

    let missing = Config {
        tls_cert: Some(path("nothing.pem")),
        ..config
    };
    assert!(Engine::start(missing).await.is_err());
}
