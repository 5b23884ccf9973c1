//! One engine that requests can go to: its address, its load, its idle connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use tokio::time::Instant;

use super::tls::UpstreamTls;

/// Who an endpoint is. A pod keeps its UID for life while addresses come back for others, and with host networking several pods
/// share an address: so the UID is the identity, and the address part of it because a pod can get another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The pod's UID, or for an endpoint outside the cluster a name made of its ModelServer and place.
    pub uid: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Fingerprint of the TLS settings; none for plain HTTP.
    pub tls: Option<u64>,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A DNS name, resolved for each new connection, and a port.
    Name(Arc<str>, u16),
}

impl Address {
    /// The address of a host, given as an IP address or a DNS name.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        host.parse::<IpAddr>().map_or_else(
            |_| Self::Name(host.into(), port),
            |ip| Self::Ip(SocketAddr::new(ip, port)),
        )
    }

    /// The host alone, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match self {
            Self::Ip(address) => address.ip().to_string(),
            Self::Name(name, _) => name.to_string(),
        }
    }

    /// The host as it stands in a URL: IPv6 in brackets.
    #[must_use]
    pub fn url_host(&self) -> String {
        match self {
            Self::Ip(SocketAddr::V6(address)) => format!("[{}]", address.ip()),
            Self::Ip(address) => address.ip().to_string(),
            Self::Name(name, _) => name.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Ports of an engine besides the one it serves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ports {
    /// vLLM's own Mooncake connector: its bootstrap server.
    pub mooncake_bootstrap: Option<u16>,
    /// SGLang's bootstrap server.
    pub sglang_bootstrap: Option<u16>,
}

/// An engine. Shared by all snapshots it appears in, so that its counters outlive a change of the routes.
pub struct Endpoint {
    key: EndpointKey,
    /// `namespace/pod`.
    name: Arc<str>,
    ports: Ports,
    tls: Option<Arc<UpstreamTls>>,
    in_flight: AtomicU32,
    idle: Mutex<Vec<Idle>>,
    retired: AtomicBool,
    /// What the engine said about itself when it was asked; see `connector::mooncake`.
    engine_id: ArcSwapOption<String>,
}

struct Idle {
    stream: Stream,
    since: Instant,
}

impl Endpoint {
    /// An engine that nothing has been sent to yet.
    #[must_use]
    pub fn new(key: EndpointKey, name: Arc<str>, ports: Ports, tls: Option<Arc<UpstreamTls>>) -> Arc<Self> {
        Arc::new(Self {
            key,
            name,
            ports,
            tls,
            in_flight: AtomicU32::new(0),
            idle: Mutex::new(Vec::new()),
            retired: AtomicBool::new(false),
            engine_id: ArcSwapOption::empty(),
        })
    }

    /// Who it is.
    #[must_use]
    pub fn key(&self) -> &EndpointKey {
        &self.key
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.key.address
    }

    /// `namespace/pod`.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The pod's name alone.
    #[must_use]
    pub fn pod(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(_, pod)| pod)
    }

    /// Its other ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// How to speak TLS to it; none for plain HTTP.
    #[must_use]
    pub fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref()
    }

    /// Requests that it is working on for this proxy.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped, however the request ends.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self.clone())
    }

    /// The last idle connection, if one is young enough.
    #[must_use]
    pub fn take_idle(&self, oldest: Duration) -> Option<Stream> {
        let mut idle = self.idle.lock();
        let newest = idle.pop()?;
        if newest.since.elapsed() > oldest {
            // The stack is ordered by age: all others are older still.
            let all = std::mem::take(&mut *idle);
            drop(idle);
            drop(all);
            return None;
        }
        Some(newest.stream)
    }

    /// Keeps a connection for the next request, unless the endpoint is gone.
    pub fn give_idle(&self, stream: Stream) {
        let mut idle = self.idle.lock();
        if !self.retired.load(Ordering::Relaxed) {
            idle.push(Idle {
                stream,
                since: Instant::now(),
            });
        }
    }

    /// How many connections wait.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle.lock().len()
    }

    /// Drops idle connections that are too old or that `is_open` finds closed.
    pub fn sweep(&self, oldest: Duration, mut is_open: impl FnMut(&mut Stream) -> bool) {
        let mut idle = self.idle.lock();
        idle.retain_mut(|one| one.since.elapsed() <= oldest && is_open(&mut one.stream));
    }

    /// The engine is gone: closes its idle connections and keeps no further one. Requests in flight end as they end.
    pub fn retire(&self) {
        let mut idle = self.idle.lock();
        self.retired.store(true, Ordering::Relaxed);
        let all = std::mem::take(&mut *idle);
        drop(idle);
        drop(all);
        self.engine_id.store(None);
    }

    /// Whether it is gone.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// The engine id that was learned, if any.
    #[must_use]
    pub fn engine_id(&self) -> Option<Arc<String>> {
        self.engine_id.load_full()
    }

    /// Remembers what the engine called itself; `None` forgets it, so that it is asked again.
    pub fn set_engine_id(&self, id: Option<String>) {
        self.engine_id.store(id.map(Arc::new));
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("address", &self.key.address)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// A request in flight on an endpoint.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
