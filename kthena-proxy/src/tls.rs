//! The certificate of the inference listener, read again when its files change.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often the files are looked at. Mounted Secrets change by a swap of links, which file watches miss.
const PERIOD: Duration = Duration::from_secs(2);

/// A certificate that is always the one in the files, as long as they are good.
pub struct ReloadingCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl ReloadingCertificate {
    /// Reads the files; an error if they are no certificate and key that belong together.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Arc<Self>> {
        let (certificate_text, key_text) = (read(&certificate)?, read(&key)?);
        let current = ArcSwap::from_pointee(parse(&certificate_text, &key_text)?);
        Ok(Arc::new(Self {
            certificate,
            key,
            current,
        }))
    }

    /// Looks after the files for as long as it is polled. Files that are no good keep the certificate as it is.
    pub async fn watch(self: Arc<Self>) {
        let mut seen = (read(&self.certificate).ok(), read(&self.key).ok());
        loop {
            tokio::time::sleep(PERIOD).await;
            let now = (read(&self.certificate).ok(), read(&self.key).ok());
            if now == seen {
                continue;
            }
            if let (Some(certificate), Some(key)) = &now {
                match parse(certificate, key) {
                    Ok(current) => {
                        self.current.store(Arc::new(current));
                        tracing::info!(file = %self.certificate.display(), "the certificate was read again");
                    }
                    Err(error) => tracing::warn!("{error:#}; the certificate stays as it is"),
                }
            }
            seen = now;
        }
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn parse(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(key).context("the private key is not PEM")?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key)
        .context("the private key is of no known kind")?;
    let certified = CertifiedKey::new(chain, key);
    certified
        .keys_match()
        .context("the private key does not belong to the certificate")?;
    Ok(certified)
}

impl ResolvesServerCert for ReloadingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for ReloadingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadingCertificate")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}
