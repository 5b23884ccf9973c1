//! Answering the API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;

use super::{Certificate, Hook, review};
use crate::process::Contents;

/// Largest review: an object of etcd's limit of 1.5 MiB, in JSON, twice.
const BODY: usize = 8 << 20;

/// Where a server's certificate comes from.
///
/// ```
/// use kthena_sdk::process::Contents;
/// use kthena_sdk::webhook::Source;
///
/// /// A certificate that never changes.
/// struct Fixed(Contents);
///
/// impl Source for Fixed {
///     async fn changed(&self, seen: Option<&Contents>) -> Contents {
///         if seen == Some(&self.0) {
///             std::future::pending::<()>().await;
///         }
///         self.0.clone()
///     }
///
///     fn describe(&self) -> String {
///         "a fixed certificate".to_owned()
///     }
/// }
/// ```
pub trait Source: Send + Sync {
    /// The certificate, once there is one and it is another one than was seen.
    fn changed(&self, seen: Option<&Contents>) -> impl Future<Output = Contents> + Send;

    /// What it is called in the log.
    fn describe(&self) -> String;

    /// The server listens, with a certificate of this source.
    fn serving(&self) {}
}

/// How webhooks are served.
#[derive(Debug)]
pub struct Config<S = Certificate> {
    /// Where to listen: the first of these that this machine has.
    pub listen: Vec<SocketAddr>,
    /// The server's certificate. Nothing listens before it is there; when it changes it is taken over.
    pub certificate: S,
    /// How long reviews in progress may take once the server is to end.
    pub grace: Duration,
    /// How long a client may take to send the head of a request, and the rest of it may take to be read and answered.
    pub timeout: Option<Duration>,
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
///
/// ```no_run
/// use std::time::Duration;
///
/// use kthena_sdk::model_serving::plugin::Registry;
/// use kthena_sdk::process::{Certificate, all_interfaces, terminated};
/// use kthena_sdk::webhook::{self, Config, Error};
///
/// # async fn example() -> Result<(), Error> {
/// let config = Config {
///     listen: all_interfaces(8443).to_vec(),
///     certificate: Certificate { chain: "/etc/tls/tls.crt".into(), key: "/etc/tls/tls.key".into() },
///     grace: Duration::from_secs(5),
///     timeout: Some(Duration::from_secs(10)),
/// };
/// let end = async { terminated().await.unwrap_or_default() };
/// webhook::serve(config, webhook::workload(Registry::built_in()), end).await
/// # }
/// ```
pub async fn serve<S: Source>(
    config: Config<S>,
    hooks: Vec<Hook>,
    end: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut end = std::pin::pin!(end);
    let (tls, seen) = tokio::select! {
        () = &mut end => return Ok(()),
        first = first(&config.certificate) => first,
    };
    let listener = bind(&config.listen).await?;
    let handle = Handle::new();
    let mut server = axum_server::from_tcp_rustls(listener, tls.clone())
        .map_err(Error::Serve)?
        .handle(handle.clone());
    if let Some(limit) = config.timeout {
        let mut http1 = server.http_builder().http1();
        http1.timer(TokioTimer::new()).header_read_timeout(limit);
    }
    config.certificate.serving();
    let server = server.serve(router(hooks, config.timeout).into_make_service());
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
async fn first(certificate: &impl Source) -> (RustlsConfig, Contents) {
    let mut seen = None;
    loop {
        let contents = certificate.changed(seen.as_ref()).await;
        match RustlsConfig::from_pem(contents.chain.clone(), contents.key.clone()).await {
            Ok(tls) => return (tls, contents),
            Err(error) => {
                tracing::warn!(%error, source = certificate.describe(), "the webhook's certificate is no good");
            }
        }
        seen = Some(contents);
    }
}

/// Follows the certificate; never returns.
async fn reload(certificate: &impl Source, tls: &RustlsConfig, mut seen: Contents) {
    loop {
        let contents = certificate.changed(Some(&seen)).await;
        match tls
            .reload_from_pem(contents.chain.clone(), contents.key.clone())
            .await
        {
            Ok(()) => {
                tracing::info!(
                    source = certificate.describe(),
                    "the webhook's certificate is a new one"
                );
            }
            Err(error) => {
                tracing::warn!(%error, source = certificate.describe(), "the webhook's certificate is no good; it stays as it is");
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

fn router(hooks: Vec<Hook>, timeout: Option<Duration>) -> Router {
    let mut router = Router::new().route("/healthz", get(|| async { "ok" }));
    for hook in hooks {
        let path = hook.path();
        router = router.route(path, any(answer).with_state(Arc::new(hook)));
    }
    let router = router.layer(DefaultBodyLimit::max(BODY));
    match timeout {
        None => router,
        Some(limit) => router.layer(from_fn(move |request: Request, next: Next| async move {
            let answer = tokio::time::timeout(limit, next.run(request)).await;
            answer.unwrap_or_else(|_elapsed| StatusCode::REQUEST_TIMEOUT.into_response())
        })),
    }
}

/// The files, which are looked at every second.
impl Source for Certificate {
    fn changed(&self, seen: Option<&Contents>) -> impl Future<Output = Contents> + Send {
        Self::changed(self, seen)
    }

    fn describe(&self) -> String {
        self.chain.display().to_string()
    }
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
