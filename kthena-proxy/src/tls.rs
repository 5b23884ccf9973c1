//! The certificate of the inference listener, read again when its files change.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use kthena_sdk::process::{Certificate, Contents};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate that is always the one in the files, as long as they are good.
pub struct ReloadingCertificate {
    files: Certificate,
    first: Contents,
    current: ArcSwap<CertifiedKey>,
}

impl ReloadingCertificate {
    /// Reads the files; an error if they are no certificate and key that belong together.
    pub async fn load(files: Certificate) -> Result<Arc<Self>> {
        let first = files.read().await?;
        let current = ArcSwap::from_pointee(parse(&first)?);
        Ok(Arc::new(Self {
            files,
            first,
            current,
        }))
    }

    /// Follows the files for as long as it is polled. Files that are no good keep the certificate as it is.
    pub async fn follow(self: Arc<Self>) {
        let mut seen = self.first.clone();
        loop {
            seen = self.files.changed(Some(&seen)).await;
            match parse(&seen) {
                Ok(current) => {
                    self.current.store(Arc::new(current));
                    tracing::info!(file = %self.files.chain.display(), "the certificate was read again");
                }
                Err(error) => tracing::warn!("{error:#}; the certificate stays as it is"),
            }
        }
    }
}

fn parse(contents: &Contents) -> Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(&contents.chain)
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate is not PEM")?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key).context("the private key is not PEM")?;
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
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}
