//! Answering the API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::net::TcpListener;

use super::{Certificate, Hook, review};
use crate::process::Contents;

/// Largest review: an object of etcd's limit of 1.5 MiB, in JSON, twice.
const BODY: usize = 8 << 20;

/// How webhooks are served.
#[derive(Debug)]
pub struct Config {
    /// Where to listen: the first of these that this machine has.
    pub listen: Vec<SocketAddr>,
    /// The server's certificate. Nothing listens before its files are there; when they change they are read again.
    pub certificate: Certificate,
    /// How long reviews in progress may take once the server is to end.
    pub grace: Duration,
}

/// Why webhooks cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The last of the addresses.
        address: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The listener broke.
    #[error("the webhook server ended")]
    Serve(#[source] std::io::Error),
}

/// Answers reviews by these hooks, and `GET /healthz`, over TLS until `end` resolves.
///
/// The process needs a default crypto provider of rustls.
pub async fn serve(config: Config, hooks: Vec<Hook>, end: impl Future<Output = ()>) -> Result<(), Error> {
    let mut end = std::pin::pin!(end);
    let (tls, seen) = tokio::select! {
        () = &mut end => return Ok(()),
        first = first(&config.certificate) => first,
    };
    let listener = bind(&config.listen).await?;
    let handle = Handle::new();
    let server = axum_server::from_tcp_rustls(listener, tls.clone())
        .map_err(Error::Serve)?
        .handle(handle.clone())
        .serve(router(hooks).into_make_service());
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended.map_err(Error::Serve),
        () = reload(&config.certificate, &tls, seen) => {}
        () = &mut end => {}
    }
    handle.graceful_shutdown(Some(config.grace));
    server.await.map_err(Error::Serve)
}

/// The first certificate that is any good.
async fn first(certificate: &Certificate) -> (RustlsConfig, Contents) {
    let mut seen = None;
    loop {
        let contents = certificate.changed(seen.as_ref()).await;
        match RustlsConfig::from_pem(contents.chain.clone(), contents.key.clone()).await {
            Ok(tls) => return (tls, contents),
            Err(error) => {
                tracing::warn!(%error, file = %certificate.chain.display(), "the webhook's certificate is no good");
            }
        }
        seen = Some(contents);
    }
}

/// Follows the files; never returns.
async fn reload(certificate: &Certificate, tls: &RustlsConfig, mut seen: Contents) {
    loop {
        let contents = certificate.changed(Some(&seen)).await;
        match tls
            .reload_from_pem(contents.chain.clone(), contents.key.clone())
            .await
        {
            Ok(()) => {
                tracing::info!(file = %certificate.chain.display(), "the webhook's certificate was read again");
            }
            Err(error) => {
                tracing::warn!(%error, file = %certificate.chain.display(), "the webhook's certificate is no good; it stays as it is");
            }
        }
        seen = contents;
    }
}

async fn bind(addresses: &[SocketAddr]) -> Result<std::net::TcpListener, Error> {
    let listener = TcpListener::bind(addresses)
        .await
        .and_then(TcpListener::into_std)
        .map_err(|source| Error::Listen {
            address: addresses.last().map(ToString::to_string).unwrap_or_default(),
            source,
        })?;
    Ok(listener)
}

fn router(hooks: Vec<Hook>) -> Router {
    let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
    for hook in hooks {
        let path = hook.path();
        router = router.route(path, any(answer).with_state(Arc::new(hook)));
    }
    router.layer(DefaultBodyLimit::max(BODY))
}

async fn answer(State(hook): State<Arc<Hook>>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match review(&hook, content_type, &body) {
        Ok(answer) => ([(header::CONTENT_TYPE, "application/json")], answer).into_response(),
        Err(refusal) => {
            let reason =
                std::error::Error::source(&refusal).map_or_else(String::new, |source| format!(": {source}"));
            (StatusCode::BAD_REQUEST, format!("{refusal}{reason}\n")).into_response()
        }
    }
}
