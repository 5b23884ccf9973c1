//! Client connections, each in a task that is no larger than it has to be.
//!
//! Pingora serves a connection in the task that it began in, which has room for a TLS handshake and an HTTP/2 server: some
//! 14 KiB that every open stream would pay for. Here what comes after the handshake moves to a task of its own.

use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;

/// How long a connection may be idle between two requests, in seconds, as Pingora has it.
const KEEP_ALIVE: u64 = 60;

/// Serves connections with an HTTP application.
pub(crate) struct Connections<A>(pub(crate) Arc<A>);

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Connections<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let (app, shutdown) = (self.0.clone(), shutdown.clone());
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            tokio::spawn(async move { app.process_new(stream, &shutdown).await });
        } else {
            tokio::spawn(http1(app, stream, shutdown));
        }
        None
    }

    async fn cleanup(&self) {
        ServerApp::cleanup(self.0.as_ref()).await;
    }
}

/// One request after the other.
async fn http1<A: HttpServerApp + Send + Sync + 'static>(
    app: Arc<A>,
    stream: Stream,
    shutdown: ShutdownWatch,
) {
    let mut served = app.process_new_http(first(stream, &shutdown), &shutdown).await;
    while let Some((stream, settings)) = served.map(ReusedHttpStream::consume) {
        served = app.process_new_http(next(stream, settings), &shutdown).await;
    }
}

// These are functions because a task has room for whatever it borrows, even after that has moved on.

fn first(stream: Stream, shutdown: &ShutdownWatch) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    session.set_keepalive(Some(KEEP_ALIVE).filter(|_| !*shutdown.borrow()));
    session
}

fn next(stream: Stream, settings: Option<HttpPersistentSettings>) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    if let Some(settings) = settings {
        settings.apply_to_session(&mut session);
    }
    session
}
