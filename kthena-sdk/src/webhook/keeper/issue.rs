//! Making certificates, and reading what matters of them.

use k8s_openapi::jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// The name of the authority: by it one knows what Kthena has made, and may replace.
const AUTHORITY: &str = "kthena-webhook-ca";
/// How long certificates are good for.
const YEARS: i16 = 10;

/// A certificate that was made.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
    pub(super) authority: String,
}

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Whether Kthena has made it.
    pub(super) is_ours: bool,
    pub(super) names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

/// Makes an authority, whose key is forgotten at once, and a certificate for a server of these names.
pub(super) fn issue(names: Vec<String>, now: Timestamp) -> Result<Issued, rcgen::Error> {
    let today = now.to_zoned(TimeZone::UTC).date();
    // Clocks differ.
    let day = |date: Date| {
        let (year, month, day) = (date.year(), date.month(), date.day());
        date_time_ymd(year.into(), month.unsigned_abs(), day.unsigned_abs())
    };
    let from = day(today.saturating_sub(1.day()));
    let until = day(today.saturating_add(YEARS.years()));

    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(DnType::CommonName, AUTHORITY);
    (authority.not_before, authority.not_after) = (from, until);
    let authority_key = KeyPair::generate()?;
    let certificate = authority.self_signed(&authority_key)?;
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(names)?;
    server.distinguished_name = rcgen::DistinguishedName::new();
    server
        .distinguished_name
        .push(DnType::CommonName, "kthena-webhook");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    (server.not_before, server.not_after) = (from, until);
    let key = KeyPair::generate()?;
    Ok(Issued {
        chain: server.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
        authority: certificate.pem(),
    })
}

/// Reads the first certificate of a chain; `None` if it is none.
pub(super) fn read(chain: &[u8]) -> Option<Facts> {
    let pem = Pem::iter_from_buffer(chain).next()?.ok()?;
    let certificate = pem.parse_x509().ok()?;
    let issuer = certificate.issuer().iter_common_name().next();
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let names = alternatives.iter().flat_map(|it| &it.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(Facts {
        is_ours: issuer.and_then(|name| name.as_str().ok()) == Some(AUTHORITY),
        names: names.collect(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// The first certificate of several.
pub(super) fn first(certificates: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(certificates).ok()?;
    const END: &str = "-----END CERTIFICATE-----";
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let length = text[begin..].find(END)? + END.len();
    Some(format!("{}\n", &text[begin..begin + length]))
}

impl Facts {
    /// Whether less than a third of its time is left.
    pub(super) fn is_old(&self, now: Timestamp) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        self.not_after.saturating_sub(now.as_second()) < life / 3
    }
}
