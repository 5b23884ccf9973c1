//! The cluster's own certificate authority and what it signs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

/// A certificate and its key, as PEM files.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// The halves of a key pair, as PEM files.
#[derive(Debug)]
pub(super) struct SigningKey {
    pub(super) public: PathBuf,
    pub(super) private: PathBuf,
}

/// The authority, with its files in one folder.
pub(super) struct Authority {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject("kthena-tests-ca", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer =
            CertifiedIssuer::self_signed(params, KeyPair::generate()?).context("signing the authority")?;
        let authority = Self {
            dir: dir.to_owned(),
            issuer,
        };
        write(&authority.certificate(), &authority.issuer.pem())?;
        Ok(authority)
    }

    /// The authority's certificate as a PEM file.
    pub(super) fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A server certificate for the loopback address, `localhost` and the names that pods would use.
    pub(super) fn server(&self, name: &str) -> Result<Pair> {
        let names = ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject(name, None);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, params)
    }

    /// A client certificate: `user` is the user's name, `group` the one group it is in.
    pub(super) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    /// A key pair without a certificate: service account tokens are signed with the one half and checked with the other.
    pub(super) fn signing_key(&self, name: &str) -> Result<SigningKey> {
        let key = KeyPair::generate()?;
        let files = SigningKey {
            public: self.dir.join(format!("{name}.pub")),
            private: self.dir.join(format!("{name}.key")),
        };
        write(&files.public, &key.public_key_pem())?;
        write(&files.private, &key.serialize_pem())?;
        Ok(files)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Pair> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let signed = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("signing {name}"))?;
        let pair = Pair {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(&pair.certificate, &signed.pem())?;
        write(&pair.key, &key.serialize_pem())?;
        Ok(pair)
    }
}

fn subject(common_name: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
