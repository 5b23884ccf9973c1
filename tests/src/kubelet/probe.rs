//! The readiness probe: one GET, or a connection where the engine speaks TLS.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use k8s_openapi::{
    api::core::v1::{Container, Probe as Declared},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
};

const PATIENCE: Duration = Duration::from_secs(1);
/// How often an engine is probed until it first answers.
const EAGER: Duration = Duration::from_millis(40);

/// How to ask an engine whether it is ready.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    port: u16,
    /// `None` is satisfied by a connection.
    path: Option<String>,
    pub(super) failure_threshold: u32,
}

impl Probe {
    /// What the container declares, with `GET /health` for what it leaves open. Periods are the bed's own: tests are in
    /// a hurry.
    pub(super) fn of(container: &Container, engine_port: u16) -> Self {
        let declared = container.readiness_probe.clone().unwrap_or_default();
        let Declared {
            http_get,
            tcp_socket,
            failure_threshold,
            ..
        } = declared;
        let named = |port: &IntOrString| match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let port = container
                    .ports
                    .iter()
                    .flatten()
                    .find(|port| port.name.as_ref() == Some(name));
                port.and_then(|port| port.container_port.try_into().ok())
            }
        };
        let path = match (&http_get, &tcp_socket) {
            (Some(get), _) if get.scheme.as_deref() == Some("HTTPS") => None,
            (Some(get), _) => Some(get.path.clone().unwrap_or_else(|| "/".to_owned())),
            (None, Some(_)) => None,
            (None, None) => Some("/health".to_owned()),
        };
        let port = http_get
            .map(|get| get.port)
            .or(tcp_socket.map(|socket| socket.port));
        Self {
            port: port.as_ref().and_then(named).unwrap_or(engine_port),
            path,
            failure_threshold: failure_threshold
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(3)
                .max(1),
        }
    }

    /// `GET /health`
    pub(super) fn health(port: u16) -> Self {
        Self {
            port,
            path: Some("/health".to_owned()),
            failure_threshold: 1,
        }
    }

    pub(super) async fn passes(&self, address: Ipv4Addr) -> bool {
        let at = SocketAddr::new(IpAddr::V4(address), self.port);
        let answer = async {
            match &self.path {
                None => TcpStream::connect(at).await.is_ok(),
                Some(path) => get(at, path)
                    .await
                    .is_ok_and(|status| (200..400).contains(&status)),
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(false)
    }
}

/// The status of a GET.
async fn get(at: SocketAddr, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect(at).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {at}\r\nUser-Agent: kube-probe/1.34\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = [0; 12]; // "HTTP/1.1 200"
    stream.read_exact(&mut line).await?;
    Ok(std::str::from_utf8(&line[9..])?.parse()?)
}

/// A task that keeps asking.
pub(super) struct Prober {
    task: JoinHandle<()>,
    pub(super) passes: watch::Receiver<bool>,
}

impl Prober {
    pub(super) fn start(probe: Probe, address: Ipv4Addr, every: Duration) -> Self {
        let (report, passes) = watch::channel(false);
        let ask = async move {
            let mut failures = 0;
            loop {
                if probe.passes(address).await {
                    failures = 0;
                    report.send_replace(true);
                } else {
                    failures += 1;
                    if failures >= probe.failure_threshold {
                        report.send_replace(false);
                    }
                }
                let pause = if *report.borrow() { every } else { EAGER };
                tokio::time::sleep(pause).await;
            }
        };
        Self {
            task: tokio::spawn(ask),
            passes,
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    fn probe(container: Value) -> Probe {
        Probe::of(&serde_json::from_value(container).unwrap(), 8000)
    }

    #[test]
    fn what_a_container_leaves_open_is_asked_at_health() {
        let default = probe(json!({"name": "e"}));
        assert_eq!(
            default,
            Probe {
                port: 8000,
                path: Some("/health".into()),
                failure_threshold: 3
            }
        );
        let declared = json!({"name": "e", "ports": [{"name": "http", "containerPort": 9000}],
            "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "failureThreshold": 1}});
        assert_eq!(
            probe(declared),
            Probe {
                port: 9000,
                path: Some("/ready".into()),
                failure_threshold: 1
            }
        );
        let tls = json!({"name": "e", "readinessProbe": {"httpGet": {"port": 8443, "scheme": "HTTPS"}}});
        assert_eq!(
            probe(tls),
            Probe {
                port: 8443,
                path: None,
                failure_threshold: 3
            }
        );
    }

    #[tokio::test]
    async fn the_status_decides() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 503 Nope\r\n\r\n", false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let probe = Probe {
                port,
                path: Some("/health".into()),
                failure_threshold: 1,
            };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream
            };
            let (passes, _stream) = tokio::join!(probe.passes(Ipv4Addr::LOCALHOST), serve);
            assert_eq!(passes, expected, "{answer}");
        }
    }
}
