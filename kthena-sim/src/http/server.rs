//! Accepting connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::conn::{self, Life, Service, Terms};
use super::stream::Stream;

/// What all servers of an engine have in common.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) terms: Terms,
    pub(crate) tasks: TaskTracker,
}

impl Server {
    /// Binds an address, with `SO_REUSEADDR` as uvicorn does, so that a restarted engine gets its port back.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    /// Serves until the engine's life ends.
    pub(crate) fn spawn<S: Service>(&self, listener: TcpListener, tls: Option<TlsAcceptor>, service: Arc<S>) {
        let server = self.clone();
        self.tasks
            .spawn(async move { server.accept(listener, tls, service).await });
    }

    async fn accept<S: Service>(mut self, listener: TcpListener, tls: Option<TlsAcceptor>, service: Arc<S>) {
        let until = self.terms.until;
        loop {
            let accepted = tokio::select! {
                biased;
                _ = self.terms.life.wait_for(|life| *life >= until) => return,
                accepted = listener.accept() => accepted,
            };
            let tcp = match accepted {
                Ok((tcp, _)) => tcp,
                Err(error) => {
                    // Out of file descriptors, most likely: others must close theirs first.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            if service.refuses() {
                Stream::Plain(tcp).reset();
                continue;
            }
            let (tls, service, terms) = (tls.clone(), service.clone(), self.terms.clone());
            self.tasks.spawn(async move {
                if let Some(stream) = secure(tcp, tls, terms.life.clone()).await {
                    conn::serve(stream, service, terms).await;
                }
            });
        }
    }
}

async fn secure(tcp: TcpStream, tls: Option<TlsAcceptor>, mut life: watch::Receiver<Life>) -> Option<Stream> {
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "small writes may be delayed");
    }
    let Some(tls) = tls else {
        return Some(Stream::Plain(tcp));
    };
    tokio::select! {
        _ = life.wait_for(|life| *life >= Life::Draining) => None,
        accepted = tls.accept(tcp) => match accepted {
            Ok(stream) => Some(Stream::Tls(Box::new(stream))),
            Err(error) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
        },
    }
}
