//! The files of a server's certificate, and their changes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

/// How often the files are looked at. A Secret that is mounted changes by a swap of links, which file watches miss.
const PERIOD: Duration = Duration::from_secs(1);

/// A certificate chain and its key, both PEM files, as a mounted Secret of type `kubernetes.io/tls` has them.
///
/// ```no_run
/// use kthena_sdk::process::{Certificate, Contents};
///
/// # async fn example() -> std::io::Result<()> {
/// let certificate = Certificate { chain: "/etc/tls/tls.crt".into(), key: "/etc/tls/tls.key".into() };
/// let now: Contents = certificate.read().await?;
/// let next = certificate.changed(Some(&now)).await;
/// assert_ne!(next, now);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What both files hold.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    /// The chain, PEM.
    pub chain: Vec<u8>,
    /// The private key, PEM.
    pub key: Vec<u8>,
}

/// Without the key, and without what nobody can read.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Certificate {
    /// What the files hold now.
    ///
    /// # Errors
    ///
    /// Where one of them cannot be read; the error names it.
    pub async fn read(&self) -> std::io::Result<Contents> {
        Ok(Contents {
            chain: read(&self.chain).await?,
            key: read(&self.key).await?,
        })
    }

    /// What the files hold, once it is something else than `seen` and both are there. The files are looked at every second.
    pub async fn changed(&self, seen: Option<&Contents>) -> Contents {
        loop {
            match self.read().await {
                Ok(contents) if Some(&contents) != seen => return contents,
                _ => sleep(PERIOD).await,
            }
        }
    }
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    tokio::fs::read(path).await.map_err(|error| {
        std::io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
    })
}
