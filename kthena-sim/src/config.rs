//! What one simulated engine is like. The same type serves tests, the quickstart and the binary's flags.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) mod duration;
mod tls;

pub use tls::TlsError;
pub(crate) use tls::acceptor;

/// One engine's configuration.
///
/// `Config::default()` is a plain vLLM engine on a free loopback port; tests usually begin with
/// [`Config::instant`], which takes no time to compute.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Address to serve on. Port 0 picks a free one.
    #[arg(long, env = "KTHENA_SIM_LISTEN", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// A second address that serves only the `/sim` endpoints and is exempt from faults.
    #[arg(long)]
    pub admin: Option<SocketAddr>,
    /// Which engine to imitate.
    #[arg(long, value_enum, default_value_t)]
    pub kind: Kind,
    /// The engine's part in prefill/decode disaggregation.
    #[arg(long, value_enum, default_value_t)]
    pub role: Role,
    /// How KV blocks travel between engines.
    #[arg(long, value_enum, default_value_t)]
    pub connector: Connector,
    /// Served model names; the first is the one in answers, the others are aliases.
    #[arg(long, default_values_t = [String::from("sim")])]
    pub model: Vec<String>,
    /// What the weights are: engines with the same root say the same. Default: the first model name.
    #[arg(long)]
    pub model_root: Option<String>,
    /// LoRA adapters loaded at the start.
    #[arg(long)]
    pub lora: Vec<String>,
    /// LoRA adapters that may run at the same time; only reported.
    #[arg(long, default_value_t = 1)]
    pub max_loras: usize,
    /// Which endpoints the model is for.
    #[arg(long, value_enum, default_values_t = [Task::Generate])]
    pub task: Vec<Task>,
    /// Longest prompt and answer together, in tokens.
    #[arg(long, default_value_t = 32_768)]
    pub max_model_len: u32,
    /// Sequences computed at the same time; more of them wait.
    #[arg(long, default_value_t = 256)]
    pub max_num_seqs: usize,
    /// Tokens in a KV block.
    #[arg(long, default_value_t = 16)]
    pub block_size: u32,
    /// KV blocks of the engine.
    #[arg(long, default_value_t = 16_384)]
    pub num_blocks: u32,
    /// Whether prompts reuse the blocks of earlier prompts with the same beginning.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub prefix_caching: bool,
    /// Prompt tokens computed in a second by one sequence; 0 takes no time.
    #[arg(long, default_value_t = 20_000.0)]
    pub prefill_tokens_per_second: f64,
    /// Tokens generated in a second by one sequence; 0 takes no time.
    #[arg(long, default_value_t = 100.0)]
    pub decode_tokens_per_second: f64,
    /// KV tokens a hand-over moves in a second; 0 takes no time.
    #[arg(long, default_value_t = 0.0)]
    pub transfer_tokens_per_second: f64,
    /// Fixed time of every request before it is scheduled.
    #[arg(long, value_parser = duration::parse, default_value = "0s")]
    #[serde(with = "duration")]
    pub overhead: Duration,
    /// How far computing times stray, as a fraction: 0.2 is up to a fifth faster or slower.
    #[arg(long, default_value_t = 0.0)]
    pub jitter: f64,
    /// Tokens that a stream puts in one event.
    #[arg(long, default_value_t = 1)]
    pub tokens_per_event: u32,
    /// When answers end by themselves: shortest and longest natural answer in tokens, as `32..128`, or
    /// `never`.
    #[arg(long, default_value = "32..128")]
    pub eos: Eos,
    /// Whether usage tells how many prompt tokens came from a cache (`--enable-prompt-tokens-details`).
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    pub prompt_tokens_details: bool,
    /// Host that hand-over parameters name; may be one that nobody can reach, such as `0.0.0.0`. Default:
    /// the address of `listen`.
    #[arg(long)]
    pub side_channel_host: Option<String>,
    /// Port that decode engines read KV blocks from (NIXL, vLLM-Ascend's Mooncake). 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    pub side_channel_port: u16,
    /// Port of the bootstrap server (vLLM's Mooncake, SGLang). 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    pub bootstrap_port: u16,
    /// How long a prefill engine keeps blocks that no decode engine has read.
    #[arg(long, value_parser = duration::parse, default_value = "30s")]
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How long a decode engine tries to reach a prefill engine before it fails the request.
    #[arg(long, value_parser = duration::parse, default_value = "5s")]
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// How long the two sides of a hand-over wait for each other (Mooncake, SGLang).
    #[arg(long, value_parser = duration::parse, default_value = "300s")]
    #[serde(with = "duration")]
    pub transfer_timeout: Duration,
    /// The shared KV store (LMCache): a name, which engines in one process share, or `tcp://host:port`, where an
    /// engine of another process serves its store.
    #[arg(long, default_value = "default")]
    pub store: String,
    /// Address to serve the shared KV store on, for engines of other processes.
    #[arg(long)]
    pub store_listen: Option<SocketAddr>,
    /// How long a dying engine still answers 503 before its port closes.
    #[arg(long, value_parser = duration::parse, default_value = "500ms")]
    #[serde(with = "duration")]
    pub death: Duration,
    /// How long an idle connection stays open.
    #[arg(long, value_parser = duration::parse, default_value = "5s")]
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// Requests remembered for each path.
    #[arg(long, default_value_t = 1000)]
    pub record: usize,
    /// Engine version to report.
    #[arg(long, default_value = "0.32.0")]
    pub engine_version: String,
    /// Certificate chain (PEM); with it the engine serves HTTPS.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Certificates (PEM) of which one must have signed the client's.
    #[arg(long, requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

/// The engine that is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// vLLM.
    #[default]
    Vllm,
    /// vLLM with the Ascend plugin; differs from vLLM in its Mooncake connector.
    VllmAscend,
    /// SGLang.
    Sglang,
}

/// The part an engine plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Prefill and decode in one engine.
    #[default]
    Plain,
    /// Computes prompts and hands their KV blocks over.
    Prefill,
    /// Takes KV blocks and generates.
    Decode,
}

/// The way KV blocks travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connector {
    /// They do not.
    #[default]
    None,
    /// vLLM's NixlConnector: prefill answers with parameters, decode reads from prefill's side channel.
    Nixl,
    /// vLLM's MooncakeConnector: the router invents a transfer id, both sides meet at the bootstrap server.
    Mooncake,
    /// vLLM-Ascend's Mooncake connector: prefill answers with parameters, as with NIXL.
    MooncakeAscend,
    /// SGLang's bootstrap: both sides get the same room and are in flight at once.
    Sglang,
    /// A store that both engines use; nothing travels in the requests.
    #[value(alias = "shared-store")]
    Lmcache,
}

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Text: completions, chat, responses, messages.
    Generate,
    /// Embeddings.
    Embed,
    /// Scores and reranking.
    Score,
}

/// When answers end by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Eos {
    /// Only limits end them.
    Never,
    /// After a number of tokens that the prompt decides.
    Within {
        /// The shortest natural answer.
        least: u32,
        /// The longest natural answer.
        most: u32,
    },
}

/// Text that is no [`Eos`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither `never` nor a range like `32..128`")]
pub struct ParseEosError(String);

// === impl Config ===

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin: None,
            kind: Kind::default(),
            role: Role::default(),
            connector: Connector::default(),
            model: vec![String::from("sim")],
            model_root: None,
            lora: Vec::new(),
            max_loras: 1,
            task: vec![Task::Generate],
            max_model_len: 32_768,
            max_num_seqs: 256,
            block_size: 16,
            num_blocks: 16_384,
            prefix_caching: true,
            prefill_tokens_per_second: 20_000.0,
            decode_tokens_per_second: 100.0,
            transfer_tokens_per_second: 0.0,
            overhead: Duration::ZERO,
            jitter: 0.0,
            tokens_per_event: 1,
            eos: Eos::Within { least: 32, most: 128 },
            prompt_tokens_details: true,
            side_channel_host: None,
            side_channel_port: 0,
            bootstrap_port: 0,
            lease: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            transfer_timeout: Duration::from_secs(300),
            store: String::from("default"),
            store_listen: None,
            death: Duration::from_millis(500),
            keep_alive: Duration::from_secs(5),
            record: 1000,
            engine_version: String::from("0.32.0"),
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
        }
    }
}

impl Config {
    /// An engine that computes in no time.
    pub fn instant() -> Self {
        Self {
            prefill_tokens_per_second: 0.0,
            decode_tokens_per_second: 0.0,
            ..Self::default()
        }
    }

    /// The engine in a part of a hand-over, with the kind that the connector belongs to.
    pub fn paired(self, role: Role, connector: Connector) -> Self {
        let kind = match connector {
            Connector::Sglang => Kind::Sglang,
            Connector::MooncakeAscend => Kind::VllmAscend,
            Connector::None | Connector::Nixl | Connector::Mooncake | Connector::Lmcache => self.kind,
        };
        Self {
            role,
            connector,
            kind,
            ..self
        }
    }

    /// The name in answers.
    pub(crate) fn model_name(&self) -> &str {
        self.model.first().map_or("sim", String::as_str)
    }

    /// What decides the weights.
    pub(crate) fn root(&self) -> &str {
        self.model_root.as_deref().unwrap_or_else(|| self.model_name())
    }
}

// === impl Eos ===

impl std::str::FromStr for Eos {
    type Err = ParseEosError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let bad = || ParseEosError(text.to_owned());
        let (least, most) = text.split_once("..").ok_or_else(bad)?;
        let number = |s: &str| s.trim_start_matches('=').parse::<u32>().ok();
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least <= most => Ok(Self::Within { least, most }),
            _ => Err(bad()),
        }
    }
}

impl TryFrom<String> for Eos {
    type Error = ParseEosError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::fmt::Display for Eos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Within { least, most } => write!(f, "{least}..{most}"),
        }
    }
}

impl From<Eos> for String {
    fn from(eos: Eos) -> Self {
        eos.to_string()
    }
}

impl Role {
    /// The name in statistics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}
