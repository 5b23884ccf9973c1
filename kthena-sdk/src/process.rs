//! What a server in a pod needs of its surroundings: signals, addresses, certificates that change.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::signal::unix::{SignalKind, signal};

mod certificate;

pub use certificate::{Certificate, Contents};

/// Resolves on SIGTERM, which the kubelet sends, or SIGINT, which Ctrl-C sends.
///
/// # Errors
///
/// Where the process cannot handle signals.
///
/// ```no_run
/// # #[tokio::main] async fn main() -> std::io::Result<()> {
/// kthena_sdk::process::terminated().await?;
/// println!("ending");
/// # Ok(())
/// # }
/// ```
pub async fn terminated() -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Where to listen on all interfaces, to be tried in turn: IPv6, which takes IPv4 too, or IPv4 alone where there is no IPv6.
///
/// ```
/// let addresses = kthena_sdk::process::all_interfaces(8080);
/// assert_eq!(addresses.map(|address| address.to_string()), ["[::]:8080", "0.0.0.0:8080"]);
/// ```
#[must_use]
pub fn all_interfaces(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
    ]
}
