//! How to speak TLS to an engine.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use pingora_core::protocols::tls::CaType;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no PEM, or none of the wanted kind.
    #[error("{what} is not PEM")]
    Pem {
        /// Which of the Secret's keys.
        what: &'static str,
        /// What the parser said.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// There is no certificate in it.
    #[error("{what} holds no certificate")]
    Empty {
        /// Which of the Secret's keys.
        what: &'static str,
    },
    /// A certificate does not parse.
    #[error("{what} holds something that is no X.509 certificate")]
    Certificate {
        /// Which of the Secret's keys.
        what: &'static str,
    },
}

/// TLS settings of an endpoint.
#[derive(Debug, Clone)]
pub struct UpstreamTls {
    /// Certificates that engines' certificates must descend from; none: those of the system.
    pub ca: Option<Arc<CaType>>,
    /// What the proxy presents.
    pub client: Option<Arc<CertKey>>,
    /// Name to ask for (SNI) and to expect in the certificate; empty: the address itself.
    pub server_name: String,
    /// Whether the certificate is checked at all.
    pub verify: Verify,
    fingerprint: u64,
}

/// Whether an engine's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verify {
    /// It must be valid for the name and descend from the CA.
    Full,
    /// Anything is accepted.
    Skip,
}

/// The material that settings are made of: PEM texts.
#[derive(Debug, Clone, Default, Hash, PartialEq, Eq)]
pub struct Material {
    /// `ca.crt`.
    pub ca: Option<Vec<u8>>,
    /// `tls.crt` and `tls.key`.
    pub client: Option<(Vec<u8>, Vec<u8>)>,
}

impl UpstreamTls {
    /// Settings from PEM texts.
    pub fn new(material: &Material, server_name: &str, verify: Verify) -> Result<Self, Error> {
        let ca = match &material.ca {
            Some(pem) => Some(
                certificates(pem, "ca.crt")?
                    .into_iter()
                    .map(wrap)
                    .collect::<Vec<_>>()
                    .into(),
            ),
            None => None,
        };
        let client = match &material.client {
            Some((certificate, key)) => {
                let chain = certificates(certificate, "tls.crt")?;
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| Error::Pem {
                    what: "tls.key",
                    source,
                })?;
                Some(Arc::new(CertKey::new(chain, key.secret_der().to_vec())))
            }
            None => None,
        };
        let mut hasher = DefaultHasher::new();
        (material, server_name, verify).hash(&mut hasher);
        Ok(Self {
            ca,
            client,
            server_name: server_name.to_owned(),
            verify,
            fingerprint: hasher.finish(),
        })
    }

    /// A number that differs when the settings do: connections made with others are not used.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

fn wrap(der: Vec<u8>) -> WrappedX509 {
    WrappedX509::new(der, parse_x509)
}

/// The DER of all certificates of a PEM text, each known to parse: pingora takes that for granted.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<Vec<u8>>, Error> {
    let ders = CertificateDer::pem_slice_iter(pem)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| Error::Pem { what, source })?;
    if ders.is_empty() {
        return Err(Error::Empty { what });
    }
    if ders
        .iter()
        .any(|der| x509_parser::parse_x509_certificate(der).is_err())
    {
        return Err(Error::Certificate { what });
    }
    Ok(ders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed() -> (Vec<u8>, Vec<u8>) {
        let made = rcgen::generate_simple_self_signed(["engine.test".to_owned()]).unwrap();
        (
            made.cert.pem().into_bytes(),
            made.signing_key.serialize_pem().into_bytes(),
        )
    }

    #[test]
    fn good_material_is_taken_and_tells_settings_apart() {
        let (certificate, key) = self_signed();
        let material = Material {
            ca: Some(certificate.clone()),
            client: Some((certificate, key)),
        };
        let a = UpstreamTls::new(&material, "a", Verify::Full).unwrap();
        let b = UpstreamTls::new(&material, "b", Verify::Full).unwrap();
        assert!(a.ca.is_some() && a.client.is_some());
        assert_ne!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn bad_material_is_an_error_not_a_panic() {
        let (certificate, key) = self_signed();
        let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        for (ca, client) in [
            (Some(b"junk".to_vec()), None),
            (Some(junk.clone()), None),
            (None, Some((certificate, b"junk".to_vec()))),
            (None, Some((junk, key.clone()))),
            (None, Some((Vec::new(), key))),
        ] {
            assert!(UpstreamTls::new(&Material { ca, client }, "", Verify::Full).is_err());
        }
    }
}
