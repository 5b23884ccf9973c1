//! Settings of single engines that are annotations of their ModelServer.
//!
//! A pod overrides an annotation of its ModelServer with one of the same key. An engine listed in `spec.endpoints` has
//! no annotations; a label of the same key overrides there.
//!
//! | Annotation, below `networking.serving.volcano.sh/` | Value | If absent |
//! |---|---|---|
//! | `mooncake-bootstrap-port` | port of the bootstrap server of a Mooncake prefill engine | the connector decides |
//! | `sglang-bootstrap-port` | port of the bootstrap server of an SGLang prefill engine | 8998 |
//! | `kv-events-port` | port on which the engine publishes its KV cache events | no events |
//! | `upstream-ca-secret` | Secret with `ca.crt`, in the namespace of the ModelServer | the system's CAs |
//! | `upstream-client-cert-secret` | Secret with `tls.crt` and `tls.key`, same namespace | no client certificate |
//! | `upstream-server-name` | name for SNI, expected in the engine's certificate | the engine's address |
//! | `upstream-insecure-skip-verify` | `true` accepts any certificate of the engine | `false` |
//!
//! The Secrets must carry the label `networking.serving.volcano.sh/upstream-tls: "true"`.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use kthena_api::annotation::{EngineAnnotations, EngineSettings, UpstreamTls};
//! use kthena_api::field::FieldPath;
//!
//! let annotations = |text: &str| {
//!     let (key, value) = text.split_once('=').unwrap();
//!     BTreeMap::from([(key.to_owned(), value.to_owned())])
//! };
//! let key = kthena_api::labels::SGLANG_BOOTSTRAP_PORT;
//! let (server, pod) = (annotations(&format!("{key}=9000")), annotations(&format!("{key}=9001")));
//! let settings: EngineSettings = EngineSettings::resolve(&server, &pod).unwrap();
//! assert_eq!(settings.sglang_bootstrap_port, 9001, "the pod's own wins");
//! assert_eq!(settings.upstream_tls, UpstreamTls::default());
//!
//! let path = FieldPath::new("metadata").child("annotations");
//! let (own, other) = (EngineAnnotations::default(), EngineAnnotations::parse(&server, &path).unwrap());
//! assert_eq!(own.or(&other).sglang_bootstrap_port, Some(9000));
//! ```

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    field::{FieldError, FieldErrors, FieldPath},
    labels, name,
};

/// Port of an SGLang bootstrap server that nobody configured.
pub const DEFAULT_SGLANG_BOOTSTRAP_PORT: u16 = 8998;

/// The annotations of one object, as far as they are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineAnnotations {
    /// `mooncake-bootstrap-port`
    pub mooncake_bootstrap_port: Option<u16>,
    /// `sglang-bootstrap-port`
    pub sglang_bootstrap_port: Option<u16>,
    /// `kv-events-port`
    pub kv_events_port: Option<u16>,
    /// `upstream-ca-secret`
    pub upstream_ca_secret: Option<String>,
    /// `upstream-client-cert-secret`
    pub upstream_client_cert_secret: Option<String>,
    /// `upstream-server-name`
    pub upstream_server_name: Option<String>,
    /// `upstream-insecure-skip-verify`
    pub upstream_insecure_skip_verify: Option<bool>,
}

/// The settings of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EngineSettings {
    /// Port of the Mooncake bootstrap server; `None` leaves it to the connector.
    pub mooncake_bootstrap_port: Option<u16>,
    /// Port of the SGLang bootstrap server.
    pub sglang_bootstrap_port: u16,
    /// Port of the KV cache events; `None` where the engine publishes none.
    pub kv_events_port: Option<u16>,
    /// How a TLS connection to the engine is made.
    pub upstream_tls: UpstreamTls,
}

/// How a TLS connection to an engine is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// Secret with the CA; `None` for those of the system.
    pub ca_secret: Option<String>,
    /// Secret with the client certificate; `None` to present none.
    pub client_cert_secret: Option<String>,
    /// Name for SNI and verification; `None` for the engine's address.
    pub server_name: Option<String>,
    /// Whether any certificate is accepted.
    pub insecure_skip_verify: bool,
}

// === impl EngineAnnotations ===

impl EngineAnnotations {
    /// Reads the annotations, or labels, at a path. Keys that mean nothing here are passed over.
    pub fn parse(map: &BTreeMap<String, String>, path: &FieldPath) -> Result<Self, Vec<FieldError>> {
        let mut reader = Reader {
            map,
            path,
            errors: FieldErrors::new(),
        };
        let annotations = Self {
            mooncake_bootstrap_port: reader.port(labels::MOONCAKE_BOOTSTRAP_PORT),
            sglang_bootstrap_port: reader.port(labels::SGLANG_BOOTSTRAP_PORT),
            kv_events_port: reader.port(labels::KV_EVENTS_PORT),
            upstream_ca_secret: reader.secret(labels::UPSTREAM_CA_SECRET),
            upstream_client_cert_secret: reader.secret(labels::UPSTREAM_CLIENT_CERT_SECRET),
            upstream_server_name: reader.server_name(labels::UPSTREAM_SERVER_NAME),
            upstream_insecure_skip_verify: reader.flag(labels::UPSTREAM_INSECURE_SKIP_VERIFY),
        };
        match reader.errors.into_vec() {
            errors if errors.is_empty() => Ok(annotations),
            errors => Err(errors),
        }
    }

    /// These annotations, with those of another object where they are absent.
    #[must_use]
    pub fn or(self, fallback: &Self) -> Self {
        let text = |own: Option<String>, other: &Option<String>| own.or_else(|| other.clone());
        Self {
            mooncake_bootstrap_port: self.mooncake_bootstrap_port.or(fallback.mooncake_bootstrap_port),
            sglang_bootstrap_port: self.sglang_bootstrap_port.or(fallback.sglang_bootstrap_port),
            kv_events_port: self.kv_events_port.or(fallback.kv_events_port),
            upstream_ca_secret: text(self.upstream_ca_secret, &fallback.upstream_ca_secret),
            upstream_client_cert_secret: text(
                self.upstream_client_cert_secret,
                &fallback.upstream_client_cert_secret,
            ),
            upstream_server_name: text(self.upstream_server_name, &fallback.upstream_server_name),
            upstream_insecure_skip_verify: self
                .upstream_insecure_skip_verify
                .or(fallback.upstream_insecure_skip_verify),
        }
    }
}

// === impl EngineSettings ===

impl EngineSettings {
    /// The settings of an engine from the annotations of its ModelServer and those of its pod, or its labels where it
    /// is listed by address. Errors name the ModelServer's annotations as `metadata.annotations[…]`, the pod's as
    /// `pod.metadata.annotations[…]`.
    pub fn resolve(
        server: &BTreeMap<String, String>,
        pod: &BTreeMap<String, String>,
    ) -> Result<Self, Vec<FieldError>> {
        let server_path = FieldPath::new("metadata").child("annotations");
        let pod_path = FieldPath::new("pod").child("metadata").child("annotations");
        let server = EngineAnnotations::parse(server, &server_path);
        let pod = EngineAnnotations::parse(pod, &pod_path);
        match (server, pod) {
            (Ok(server), Ok(pod)) => Ok(pod.or(&server).into()),
            (server, pod) => Err([server.err(), pod.err()]
                .into_iter()
                .flatten()
                .flatten()
                .collect()),
        }
    }
}

impl From<EngineAnnotations> for EngineSettings {
    fn from(annotations: EngineAnnotations) -> Self {
        Self {
            mooncake_bootstrap_port: annotations.mooncake_bootstrap_port,
            sglang_bootstrap_port: annotations
                .sglang_bootstrap_port
                .unwrap_or(DEFAULT_SGLANG_BOOTSTRAP_PORT),
            kv_events_port: annotations.kv_events_port,
            upstream_tls: UpstreamTls {
                ca_secret: annotations.upstream_ca_secret,
                client_cert_secret: annotations.upstream_client_cert_secret,
                server_name: annotations.upstream_server_name,
                insecure_skip_verify: annotations.upstream_insecure_skip_verify.unwrap_or(false),
            },
        }
    }
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineAnnotations::default().into()
    }
}

struct Reader<'a> {
    map: &'a BTreeMap<String, String>,
    path: &'a FieldPath,
    errors: FieldErrors,
}

impl Reader<'_> {
    /// Reads one value; says what it must be where it is something else.
    fn read<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Option<T>, must_be: &str) -> Option<T> {
        let text = self.map.get(key)?;
        let value = parse(text);
        if value.is_none() {
            self.errors
                .invalid(self.path.key(key), text.as_str(), format!("must be {must_be}"));
        }
        value
    }

    fn port(&mut self, key: &str) -> Option<u16> {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let parse = |text: &str| text.parse().ok().filter(|port| *port > 0 && digits(text));
        self.read(key, parse, "a port from 1 to 65535")
    }

    fn secret(&mut self, key: &str) -> Option<String> {
        let parse = |text: &str| name::check_subdomain(text).is_ok().then(|| text.to_owned());
        self.read(key, parse, "the name of a Secret")
    }

    fn server_name(&mut self, key: &str) -> Option<String> {
        let parse = |text: &str| is_host(text).then(|| text.to_owned());
        self.read(key, parse, "a DNS name or an IP address")
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        self.read(key, |text| text.parse().ok(), "\"true\" or \"false\"")
    }
}

/// Whether this is an IP address without brackets, or a DNS name.
pub(crate) fn is_host(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    let looks_like_ipv4 = last.bytes().all(|b| b.is_ascii_digit());
    text.parse::<IpAddr>().is_ok()
        || (!looks_like_ipv4 && name::check_subdomain(&text.to_ascii_lowercase()).is_ok())
}

#[cfg(test)]
mod tests;
