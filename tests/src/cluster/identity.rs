//! Who talks to the API server: a kubeconfig and clients made from it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{Audit, Dir, pki::Pair};

/// The user agent of the bed's own requests: what tests leave out when they count requests.
pub const USER_AGENT: &str = "kthena-tests";

/// A user of the cluster.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    kubeconfig: PathBuf,
    /// The cluster's folder, where the kubeconfig and the audit log are.
    dir: Arc<Dir>,
}

/// Where the API server is, and how a client knows it.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) url: String,
    pub(super) authority: PathBuf,
}

pub(super) enum Credential<'a> {
    Certificate(&'a Pair),
    Token(&'a str),
}

impl Identity {
    pub(super) fn write(
        dir: &Arc<Dir>,
        name: &str,
        endpoint: &Endpoint,
        credential: &Credential<'_>,
    ) -> Result<Self> {
        let user = match credential {
            Credential::Certificate(pair) => {
                json!({"client-certificate": &pair.certificate, "client-key": &pair.key})
            }
            Credential::Token(token) => json!({"token": token}),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "kthena-tests",
                "cluster": {"server": endpoint.url, "certificate-authority": endpoint.authority},
            }],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "kthena-tests", "context": {"cluster": "kthena-tests", "user": name}}],
            "current-context": "kthena-tests",
        });
        let kubeconfig = dir
            .0
            .join(format!("{}.kubeconfig", name.replace([':', '/'], "-")));
        std::fs::write(&kubeconfig, format!("{config:#}\n")) // JSON is YAML
            .with_context(|| format!("writing {}", kubeconfig.display()))?;
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            kubeconfig,
            dir: Arc::clone(dir),
        })))
    }

    /// The requests that the API server has answered, also when the cluster has ended already.
    pub fn audit(&self) -> Audit {
        Audit::of(&self.0.dir.0)
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The path for `KUBECONFIG`.
    pub fn kubeconfig(&self) -> &Path {
        &self.0.kubeconfig
    }

    /// A client whose connections belong to the current runtime; tests with runtimes of their own cannot share one.
    pub async fn client(&self) -> Result<Client> {
        self.client_named(USER_AGENT).await
    }

    /// A client with a user agent of its own, so that its requests can be told apart in the audit log.
    pub async fn client_named(&self, user_agent: &str) -> Result<Client> {
        // Another crate in the test may have brought a second provider, and then nothing is the default.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut config = self.config().await?;
        let value = user_agent
            .parse()
            .with_context(|| format!("{user_agent:?} is no user agent"))?;
        config.headers.push((http::header::USER_AGENT, value));
        Client::try_from(config).with_context(|| format!("making a client for {}", self.name()))
    }

    /// The connection settings, for a program under test that makes its client itself.
    pub async fn config(&self) -> Result<Config> {
        let path = self.kubeconfig();
        let file = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        config.with_context(|| format!("understanding {}", path.display()))
    }

    /// The same user, who goes through something that listens elsewhere on loopback, such as a [`crate::relay::Relay`].
    pub fn through(&self, address: SocketAddr) -> Result<Self> {
        let mut config = self.document()?;
        config["clusters"][0]["cluster"]["server"] = format!("https://{address}").into();
        let name = format!("{}.through-{}", self.kubeconfig().display(), address.port());
        let kubeconfig = PathBuf::from(name);
        std::fs::write(&kubeconfig, config.to_string())
            .with_context(|| format!("writing {}", kubeconfig.display()))?;
        Ok(Self(Arc::new(Inner {
            name: self.name().to_owned(),
            kubeconfig,
            dir: Arc::clone(&self.0.dir),
        })))
    }

    /// The kubeconfig as data, for tests that write it elsewhere.
    pub fn document(&self) -> Result<Value> {
        let text = std::fs::read_to_string(self.kubeconfig()).context("reading a kubeconfig")?;
        serde_json::from_str(&text).context("our kubeconfigs are JSON")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name()).finish()
    }
}
