//! What the Secret holds, and what is to be done about it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::Config;
use super::issue::{self, Facts};
use crate::process::Contents;

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";
const AUTHORITY: &str = "ca.crt";

/// A certificate that the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) contents: Contents,
    /// Who vouches for it, PEM.
    pub(super) authority: Option<Vec<u8>>,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The Secret is in order.
    Use(Held),
    /// There is no Secret, but files.
    UseFiles,
    /// A certificate is to be made.
    Issue,
}

/// What the Secret holds, if it is complete.
pub(super) fn held(secret: &Secret) -> Option<Held> {
    let data = secret.data.as_ref()?;
    let part = |key: &str| {
        let bytes = data.get(key).map(|bytes| bytes.0.clone());
        bytes.filter(|bytes| !bytes.is_empty())
    };
    Some(Held {
        contents: Contents {
            chain: part(CHAIN)?,
            key: part(KEY)?,
        },
        authority: part(AUTHORITY),
    })
}

/// What is to be done about the Secret as it is.
pub(super) fn step(secret: Option<&Secret>, has_files: bool, config: &Config, now: Timestamp) -> Step {
    let Some(secret) = secret else {
        return if has_files { Step::UseFiles } else { Step::Issue };
    };
    let Some(held) = held(secret) else {
        return Step::Issue;
    };
    let wanted = names(config).swap_remove(0);
    // What others have made is theirs to renew.
    let is_due = |facts: &Facts| facts.is_ours && (facts.is_old(now) || !facts.names.contains(&wanted));
    match issue::read(&held.contents.chain) {
        Some(facts) if is_due(&facts) => Step::Issue,
        _ => Step::Use(held),
    }
}

/// The Secret with a new certificate. The authority of the old one stays beside the new, for servers that have not changed yet.
pub(super) fn issued(old: Option<&Secret>, config: &Config, now: Timestamp) -> Result<Secret, rcgen::Error> {
    let issued = issue::issue(names(config), now)?;
    let before = old.and_then(held).and_then(|held| issue::first(&held.authority?));
    let authority = issued.authority + &before.unwrap_or_default();
    let mut secret = old.cloned().unwrap_or_else(|| Secret {
        metadata: ObjectMeta {
            name: Some(config.secret.clone()),
            namespace: Some(config.namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        ..Secret::default()
    });
    let data: &mut BTreeMap<_, _> = secret.data.get_or_insert_default();
    for (key, text) in [(CHAIN, issued.chain), (KEY, issued.key), (AUTHORITY, authority)] {
        data.insert(key.to_owned(), ByteString(text.into_bytes()));
    }
    Ok(secret)
}

/// Names of the server. The first is the one that the API server uses.
fn names(config: &Config) -> Vec<String> {
    let service = format!("{}.{}.svc", config.service, config.namespace);
    // By the last one, webhooks can be tried through a forwarded port.
    vec![
        service.clone(),
        format!("{service}.cluster.local"),
        "localhost".to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Certificate;

    fn config() -> Config {
        Config {
            namespace: "ns".into(),
            secret: "certs".into(),
            service: "hook".into(),
            validating: Vec::new(),
            mutating: Vec::new(),
            files: Certificate {
                chain: "/nowhere/tls.crt".into(),
                key: "/nowhere/tls.key".into(),
            },
        }
    }

    fn now() -> Timestamp {
        "2026-02-28T12:00:00Z".parse().unwrap()
    }

    fn made() -> Secret {
        issued(None, &config(), now()).unwrap()
    }

    fn text(secret: &Secret, key: &str) -> String {
        String::from_utf8(secret.data.as_ref().unwrap()[key].0.clone()).unwrap()
    }

    fn at(secret: &Secret, time: &str) -> Step {
        step(Some(secret), false, &config(), time.parse().unwrap())
    }

    #[test]
    fn a_certificate_is_made_where_there_is_nothing() {
        assert_eq!(step(None, false, &config(), now()), Step::Issue);
        assert_eq!(step(None, true, &config(), now()), Step::UseFiles);
        // One that was made for it to be filled is filled.
        assert_eq!(
            step(Some(&Secret::default()), false, &config(), now()),
            Step::Issue
        );
        let secret = made();
        assert_eq!(
            (secret.type_.as_deref(), secret.metadata.name.as_deref()),
            (Some("kubernetes.io/tls"), Some("certs"))
        );
        let Step::Use(held) = step(Some(&secret), true, &config(), now()) else {
            panic!("it is in order");
        };
        let facts = issue::read(&held.contents.chain).unwrap();
        assert_eq!(
            facts.names,
            ["hook.ns.svc", "hook.ns.svc.cluster.local", "localhost"]
        );
    }

    #[test]
    fn a_server_with_it_is_trusted_by_its_authority_alone() {
        use rustls::client::danger::ServerCertVerifier;
        use rustls::pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
        let (secret, other) = (made(), made());
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let leaf = der(&text(&secret, CHAIN));
        let verify = |authority: &Secret, name: &str, time: &str| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(der(&text(authority, AUTHORITY))).unwrap();
            let provider = rustls::crypto::ring::default_provider().into();
            let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(
                std::sync::Arc::new(roots),
                provider,
            );
            let seconds = time.parse::<Timestamp>().unwrap().as_second().unsigned_abs();
            let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let verifier = verifier.build().unwrap();
            verifier.verify_server_cert(&leaf, &[], &name, &[], time).is_ok()
        };
        assert!(verify(&secret, "hook.ns.svc", "2026-02-28T00:00:00Z"));
        assert!(verify(&secret, "localhost", "2036-02-27T00:00:00Z"));
        assert!(!verify(&secret, "hook.other.svc", "2026-02-28T12:00:00Z"));
        assert!(!verify(&secret, "hook.ns.svc", "2036-03-01T00:00:00Z"));
        assert!(!verify(&other, "hook.ns.svc", "2026-02-28T12:00:00Z"));
    }

    #[test]
    fn ours_is_replaced_in_good_time_and_when_the_service_is_called_otherwise() {
        let secret = made();
        assert!(matches!(at(&secret, "2032-10-01T00:00:00Z"), Step::Use(_)));
        assert_eq!(at(&secret, "2032-11-15T00:00:00Z"), Step::Issue);
        assert_eq!(at(&secret, "2040-01-01T00:00:00Z"), Step::Issue);
        let renamed = Config {
            service: "other".into(),
            ..config()
        };
        assert_eq!(step(Some(&secret), false, &renamed, now()), Step::Issue);
    }

    #[test]
    fn what_somebody_else_made_is_used_as_it_is() {
        let foreign = rcgen::generate_simple_self_signed(["elsewhere".to_owned()]).unwrap();
        let mut secret = made();
        let data = secret.data.as_mut().unwrap();
        data.insert(CHAIN.into(), ByteString(foreign.cert.pem().into_bytes()));
        assert!(matches!(at(&secret, "2100-01-01T00:00:00Z"), Step::Use(_)));
        // What cannot be read is the server's to complain about.
        secret
            .data
            .as_mut()
            .unwrap()
            .insert(CHAIN.into(), ByteString(b"nonsense".to_vec()));
        assert!(matches!(at(&secret, "2026-03-01T00:00:00Z"), Step::Use(_)));
    }

    #[test]
    fn the_old_authority_stays_for_one_turn() {
        let first = made();
        let second = issued(Some(&first), &config(), now()).unwrap();
        let third = issued(Some(&second), &config(), now()).unwrap();
        let [one, two, three] = [&first, &second, &third].map(|secret| text(secret, AUTHORITY));
        let own = |text: &str| issue::first(text.as_bytes()).unwrap();
        assert_eq!(two, own(&two) + &one);
        assert_eq!(three, own(&three) + &own(&two));
        assert_ne!(text(&first, KEY), text(&second, KEY));
    }
}
