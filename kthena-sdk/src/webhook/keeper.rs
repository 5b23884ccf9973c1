//! A certificate that webhooks keep for themselves: in a Secret, with its authority in the webhook configurations.
//!
//! The API server calls webhooks over TLS and trusts the authority that stands in their configuration. A [`Keeper`] sees to both: it takes the
//! certificate of a Secret, makes one where there is none (unless its files are there, which somebody else looks after), replaces its own in good
//! time, and writes the authority where it is missing. Several processes may do this at once; they agree through the Secret.
//!
//! ```no_run
//! use kthena_sdk::model_serving::plugin::Registry;
//! use kthena_sdk::webhook::{self, Config};
//! use kthena_sdk::webhook::keeper::{self, Keeper};
//! # use kthena_sdk::process::{Certificate, all_interfaces, terminated};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = kthena_sdk::kube::Client::try_default().await?;
//! let place = keeper::Config {
//!     namespace: client.default_namespace().to_owned(),
//!     secret: "my-webhook-certs".to_owned(),
//!     service: "my-webhook".to_owned(),
//!     validating: vec!["my-webhook".to_owned()],
//!     mutating: Vec::new(),
//!     files: Certificate { chain: "/etc/tls/tls.crt".into(), key: "/etc/tls/tls.key".into() },
//! };
//! let config = Config {
//!     listen: all_interfaces(8443).to_vec(),
//!     certificate: Keeper::new(client, place),
//!     grace: std::time::Duration::from_secs(5),
//!     timeout: None,
//! };
//! let end = async { terminated().await.unwrap_or_default() };
//! webhook::serve(config, webhook::workload(Registry::built_in()), end).await?;
//! # Ok(())
//! # }
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{sleep, timeout};

mod bundle;
mod issue;
mod secret;

use secret::{Held, Step};

use super::server::Source;
use crate::process::{Certificate, Contents};
use crate::rbac::{Rights, Rule, Verb};

/// How often the Secret and the configurations are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// The pause after something went wrong.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How often one tries to write the Secret while others do, too.
const ATTEMPTS: usize = 5;

/// Where the certificate is, and who is to trust it.
#[derive(Debug, Clone)]
pub struct Config {
    /// Namespace of the Secret and of the Service.
    pub namespace: String,
    /// The Secret, of type `kubernetes.io/tls`, with `ca.crt` besides.
    pub secret: String,
    /// The Service in front of the webhooks, for whose names a certificate is made.
    pub service: String,
    /// ValidatingWebhookConfigurations of these webhooks. They need not be there.
    pub validating: Vec<String>,
    /// MutatingWebhookConfigurations of these webhooks. They need not be there.
    pub mutating: Vec<String>,
    /// Used where there is no Secret; nothing is made then.
    pub files: Certificate,
}

/// Keeps the certificate. As a [`Source`] of a server's certificate it does its work whenever it is asked for a change, which the server always does.
pub struct Keeper {
    client: Client,
    config: Config,
    /// Whether the files are served.
    on_files: AtomicBool,
}

/// What a look has shown.
enum Look {
    /// This is to be served.
    Held(Held),
    /// The files are to be served.
    Files,
    /// It cannot be told now.
    Unknown,
}

/// Why the certificate could not be looked after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Secret could not be read.
    #[error("cannot read the Secret {0}")]
    Read(String, #[source] Box<kube::Error>),
    /// The Secret could not be written.
    #[error("cannot write the Secret {0}")]
    Write(String, #[source] Box<kube::Error>),
    /// Others write the Secret all the time.
    #[error("the Secret {0} keeps changing")]
    Contended(String),
    /// No certificate could be made.
    #[error("cannot make a certificate")]
    Issue(#[source] rcgen::Error),
    /// The authority could not be written into a webhook configuration.
    #[error("cannot look after the webhook configuration {0}")]
    Configuration(String, #[source] Box<kube::Error>),
    /// The API server does not answer.
    #[error("the API server has not answered for {0:?}")]
    Silent(Duration),
}

impl Keeper {
    /// Keeps a certificate. The account needs the [`rights`].
    #[must_use]
    pub fn new(client: Client, config: Config) -> Self {
        Self {
            client,
            config,
            on_files: AtomicBool::new(false),
        }
    }

    /// What the Secret holds, made if need be; `None` where the files are used instead.
    async fn settle(&self) -> Result<Option<Held>, Error> {
        let name = &self.config.secret;
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.config.namespace);
        let read = |source| Error::Read(name.clone(), Box::new(source));
        for _ in 0..ATTEMPTS {
            let found = api.get_opt(name).await.map_err(read)?;
            let has_files = found.is_none() && self.config.files.read().await.is_ok();
            let wanted = match secret::step(found.as_ref(), has_files, &self.config, Timestamp::now()) {
                Step::Use(held) => return Ok(Some(held)),
                Step::UseFiles => return Ok(None),
                Step::Issue => {
                    secret::issued(found.as_ref(), &self.config, Timestamp::now()).map_err(Error::Issue)?
                }
            };
            let post = PostParams::default();
            let written = match &found {
                None => api.create(&post, &wanted).await,
                Some(_) => api.replace(name, &post, &wanted).await,
            };
            match written {
                Ok(written) => {
                    tracing::info!(secret = name, "made a certificate for the webhooks");
                    if let Some(held) = secret::held(&written) {
                        return Ok(Some(held));
                    }
                }
                // Another process was faster; its certificate is as good.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(source) => {
                    let error = Error::Write(name.clone(), Box::new(source));
                    // What is there does for a while.
                    let Some(held) = found.as_ref().and_then(secret::held) else {
                        return Err(error);
                    };
                    tracing::warn!(%error, cause = cause(&error), "the webhook's certificate is not replaced");
                    return Ok(Some(held));
                }
            }
        }
        Err(Error::Contended(name.clone()))
    }

    /// Writes the authority into the configurations that are there and have another one.
    async fn trust(&self, authority: &[u8]) -> Result<(), Error> {
        let api = Api::<ValidatingWebhookConfiguration>::all(self.client.clone());
        for name in &self.config.validating {
            bundle::write(&api, name, authority).await.map_err(failed(name))?;
        }
        let api = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        for name in &self.config.mutating {
            bundle::write(&api, name, authority).await.map_err(failed(name))?;
        }
        Ok(())
    }

    /// Looks once, and does what is to be done.
    async fn look(&self, is_first: bool) -> Look {
        let held = match limited(self.settle()).await {
            Ok(Some(held)) => held,
            Ok(None) => return Look::Files,
            Err(error) => {
                complain(&error);
                return Look::Unknown;
            }
        };
        if let Some(authority) = &held.authority
            && let Err(error) = limited(self.trust(authority)).await
        {
            complain(&error);
            // A certificate that nobody trusts yet would break what works.
            if !is_first {
                return Look::Unknown;
            }
        }
        Look::Held(held)
    }

    /// The files, once they are something else than what was seen, but not for longer than this.
    async fn files(&self, seen: Option<&Contents>, limit: Duration) -> Option<Contents> {
        let changed = timeout(limit, self.config.files.changed(seen)).await.ok();
        if changed.is_some() {
            self.on_files.store(true, Ordering::Relaxed);
        }
        changed
    }
}

impl Source for Keeper {
    async fn changed(&self, seen: Option<&Contents>) -> Contents {
        loop {
            match self.look(seen.is_none()).await {
                Look::Held(held) => {
                    self.on_files.store(false, Ordering::Relaxed);
                    if Some(&held.contents) != seen {
                        return held.contents;
                    }
                    sleep(PERIOD).await;
                }
                Look::Files => {
                    if let Some(contents) = self.files(seen, PERIOD).await {
                        return contents;
                    }
                }
                Look::Unknown if seen.is_none() || self.on_files.load(Ordering::Relaxed) => {
                    if let Some(contents) = self.files(seen, PAUSE).await {
                        return contents;
                    }
                }
                Look::Unknown => sleep(PAUSE).await,
            }
        }
    }

    fn describe(&self) -> String {
        format!("Secret {}/{}", self.config.namespace, self.config.secret)
    }
}

/// What keeping a certificate takes: for the Secret in its namespace, and for the configurations.
///
/// ```
/// use kthena_sdk::rbac::Verb;
/// use kthena_sdk::webhook::keeper;
///
/// let rights = keeper::rights("my-webhook-certs", ["my-webhook"], []);
/// assert!(rights.allow_own("", "secrets", Verb::Update, Some("my-webhook-certs")));
/// let configurations = "validatingwebhookconfigurations";
/// assert!(rights.allow_everywhere("admissionregistration.k8s.io", configurations, Verb::Patch, Some("my-webhook")));
/// ```
pub fn rights<S: Into<String>>(
    secret: &str,
    validating: impl IntoIterator<Item = S>,
    mutating: impl IntoIterator<Item = S>,
) -> Rights {
    let trust = [Verb::Get, Verb::Patch];
    let keep = [Verb::Create, Verb::Get, Verb::Update];
    Rights::own([Rule::of::<Secret>(keep).named([secret])]).and(Rights::everywhere([
        Rule::of::<ValidatingWebhookConfiguration>(trust).named(validating),
        Rule::of::<MutatingWebhookConfiguration>(trust).named(mutating),
    ]))
}

fn failed(name: &str) -> impl FnOnce(kube::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Configuration(name, Box::new(source))
}

async fn limited<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match timeout(LIMIT, request).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(Error::Silent(LIMIT)),
    }
}

fn complain(error: &Error) {
    tracing::warn!(%error, cause = cause(error), "the webhook's certificate is not looked after");
}

fn cause(error: &Error) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests;
