//! The official OpenAI clients: what users of the proxy call it with.
//!
//! `tests/clients/README.md` describes the request and the answer of the two scripts; they are the same for both
//! languages, so a test says what should happen and runs it with [`Client::all`].
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use kthena_tests::clients::Client;
//! use serde_json::json;
//!
//! for client in Client::all().await? {
//!     let answer = client.call("http://127.0.0.1:8080/v1", "models.list", json!({})).await?;
//!     assert_eq!(answer.data()?["data"][0]["id"], "tiny");
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod install;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub use self::answer::{Answer, Failure};
use crate::setting;

/// The language of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
}

/// An installed client.
#[derive(Debug, Clone)]
pub struct Client {
    language: Language,
    /// `python` of the virtual environment, or `node`.
    program: PathBuf,
    packages: PathBuf,
}

impl Language {
    pub const ALL: [Self; 2] = [Self::Python, Self::JavaScript];

    fn folder(self) -> PathBuf {
        let name = match self {
            Self::Python => "python",
            Self::JavaScript => "js",
        };
        setting::checkout().join("tests/clients").join(name)
    }

    fn script(self) -> PathBuf {
        self.folder().join(match self {
            Self::Python => "call.py",
            Self::JavaScript => "call.mjs",
        })
    }
}

impl Client {
    /// The client as pinned in the checkout; installed first if the cache does not have it.
    pub fn install(language: Language) -> Result<Self> {
        let (program, packages) = match language {
            Language::Python => install::python(&language.folder())?,
            Language::JavaScript => install::javascript(&language.folder())?,
        };
        Ok(Self {
            language,
            program,
            packages,
        })
    }

    /// One client for each of [`Language::ALL`], as [`Client::install`] makes it.
    pub fn install_all() -> Result<Vec<Self>> {
        Language::ALL.into_iter().map(Self::install).collect()
    }

    /// [`Client::install_all`] without blocking the runtime.
    #[cfg(feature = "cluster")]
    pub async fn all() -> Result<Vec<Self>> {
        let install = tokio::task::spawn_blocking(Self::install_all);
        install.await.context("the installation has panicked")?
    }

    pub fn language(&self) -> Language {
        self.language
    }

    /// A command that runs a script of the user's own with this client, for documented programs.
    pub fn command(&self, script: &Path) -> Command {
        let mut command = Command::new(&self.program);
        // Node looks for packages beside the script, unless it is a CommonJS one; then it looks here as well.
        command
            .arg(script)
            .env("KTHENA_CLIENT_PACKAGES", &self.packages)
            .env("NODE_PATH", self.packages.join("node_modules"));
        command
    }

    /// Makes the call that `request` describes, and waits for its end.
    pub fn call_blocking(&self, request: &Value) -> Result<Answer> {
        let mut child = self
            .command(&self.language.script())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let mut input = child.stdin.take().expect("the input is a pipe");
        input
            .write_all(request.to_string().as_bytes())
            .context("handing the request over")?;
        drop(input);
        let output = child.wait_with_output().context("waiting for the client")?;
        ensure!(
            output.status.success(),
            "the {:?} client failed ({}): {}",
            self.language,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Answer::parse(&output.stdout)
    }

    /// One call with default options, without blocking the runtime.
    #[cfg(feature = "cluster")]
    pub async fn call(&self, base_url: &str, call: &str, arguments: Value) -> Result<Answer> {
        self.request(serde_json::json!({"base_url": base_url, "call": call, "arguments": arguments}))
            .await
    }

    /// One call with everything that the script understands, without blocking the runtime.
    #[cfg(feature = "cluster")]
    pub async fn request(&self, request: Value) -> Result<Answer> {
        let client = self.clone();
        let call = tokio::task::spawn_blocking(move || client.call_blocking(&request));
        call.await.context("the call has panicked")?
    }
}
