//! The files of a server's certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// How often the files are looked at. A Secret that is mounted changes by a swap of links, which file watches miss.
const PERIOD: Duration = Duration::from_secs(1);

/// A certificate chain and its key, both PEM files, as a mounted Secret of type `kubernetes.io/tls` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What both files hold.
pub(super) type Contents = (Vec<u8>, Vec<u8>);

impl Certificate {
    /// What the files hold, once it is something else than `seen` and both are there.
    pub(super) async fn changed(&self, seen: Option<&Contents>) -> Contents {
        loop {
            if let (Ok(chain), Ok(key)) = (read(&self.chain).await, read(&self.key).await) {
                let contents = (chain, key);
                if Some(&contents) != seen {
                    return contents;
                }
            }
            sleep(PERIOD).await;
        }
    }
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    tokio::fs::read(path).await
}
