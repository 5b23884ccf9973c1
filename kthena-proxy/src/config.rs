//! Flags and environment: the only place that reads them.
//!
//! Names and defaults are those of the reference router; what is new is marked so in the help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};

use crate::telemetry::access_log::Format;

pub mod file;

/// The Kthena router: an inference gateway for OpenAI HTTP and SSE with prefill/decode disaggregation.
#[derive(Debug, Parser)]
#[command(
    name = "kthena-proxy",
    version,
    args_conflicts_with_subcommands = true,
    args_override_self = true
)]
pub struct Cli {
    /// What to do; without a command, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve.
    #[command(flatten)]
    pub args: Args,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve an example model from simulated engines inside this process.
    Quickstart(Quickstart),
}

/// Flags of `quickstart`.
#[derive(Debug, ClapArgs)]
pub struct Quickstart {
    /// Port to listen on.
    #[arg(long, default_value = "8080")]
    pub port: u16,
    /// Port of `/metrics`.
    #[arg(long, default_value_t = 9090)]
    pub metrics_port: u16,
    /// Port of the debug server, loopback only.
    #[arg(long, default_value_t = 15000)]
    pub debug_port: u16,
}

/// Flags of the router.
#[derive(Debug, Clone, ClapArgs)]
pub struct Args {
    /// Port of the inference listener, on all interfaces.
    #[arg(long, default_value = "8080")]
    pub port: String,
    /// Certificate chain (PEM) of the inference listener; needs --tls-key. It is read again when it changes.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the inference listener; needs --tls-cert.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve the validating admission webhook, once its certificate files exist.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "enable_webhook")]
    pub enable_webhook: bool,
    /// Port of the admission webhook.
    #[arg(long, default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    pub webhook_port: u16,
    /// Certificate (PEM) of the admission webhook.
    #[arg(long, default_value = "/etc/tls/tls.crt")]
    pub webhook_tls_cert_file: PathBuf,
    /// Private key (PEM) of the admission webhook.
    #[arg(long, default_value = "/etc/tls/tls.key")]
    pub webhook_tls_private_key_file: PathBuf,
    /// Secret with the webhook's certificate. This version makes none: it waits for the files.
    #[arg(long, default_value = "kthena-router-webhook-certs")]
    pub cert_secret_name: String,
    /// Service in front of the webhook, for which this version makes no certificate.
    #[arg(long, default_value = "kthena-router-webhook")]
    pub webhook_service_name: String,
    /// Serve listeners of Gateways. Not supported by this version.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "enable_gateway_api")]
    pub enable_gateway_api: bool,
    /// Serve HTTPRoutes and InferencePools. Not supported by this version.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "enable_gateway_api_inference_extension")]
    pub enable_gateway_api_inference_extension: bool,
    /// Port of the debug server, loopback only.
    #[arg(long, default_value_t = 15000, value_parser = clap::value_parser!(u16).range(1..))]
    pub debug_port: u16,
    /// Port of `/metrics`, on all interfaces.
    #[arg(long, default_value_t = 9090, value_parser = clap::value_parser!(u16).range(1..))]
    pub metrics_port: u16,
    /// Answer `/metrics` on the inference listener too.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "expose_metrics_on_router_port")]
    pub expose_metrics_on_router_port: bool,
    /// Requests a second to the API server; 0 for no limit, or for 5 where --kube-api-burst is given.
    #[arg(long, default_value_t = 0.0)]
    pub kube_api_qps: f32,
    /// Requests to the API server at once; 0 for no limit, or for 10 where --kube-api-qps is given.
    #[arg(long, default_value_t = 0)]
    pub kube_api_burst: u32,

    /// Where ModelRoutes and ModelServers come from (new).
    #[arg(long, value_enum, default_value_t = Source::Kubernetes)]
    pub resource_source: Source,
    /// Folder with the objects as YAML, for --resource-source=file (new).
    #[arg(long, required_if_eq("resource_source", "file"))]
    pub resource_dir: Option<PathBuf>,
    /// How often the folder is read again even if no change was noticed (new).
    #[arg(long, default_value = "10s", value_parser = go_duration)]
    pub resource_sync_period: Duration,
    /// Largest request body in bytes; a larger one is answered with status 413 (new).
    #[arg(long, default_value_t = 64 << 20)]
    pub max_request_body_bytes: u32,
    /// Worker threads; 0 for one a core (new).
    #[arg(long, default_value_t = 0)]
    pub workers: usize,

    /// Write an access log line for each request.
    #[arg(skip = true)]
    pub access_log_enabled: bool,
    /// How access log lines are written.
    #[arg(skip)]
    pub access_log_format: Format,
    /// `stdout`, `stderr`, or a file.
    #[arg(skip = "stdout".to_owned())]
    pub access_log_output: String,
    /// How long requests in progress may take to finish after SIGTERM.
    #[arg(skip = Duration::from_secs(300))]
    pub drain_timeout: Duration,

    /// Log verbosity as klog has it: 0 to 3 log what happened, 4 and more also why.
    #[arg(short = 'v', long = "v", default_value_t = 0, hide_short_help = true)]
    pub verbosity: u8,
    #[command(flatten)]
    klog: Klog,
}

/// Flags that deployments of the reference may pass and that have no meaning here: logs go to stderr.
#[derive(Debug, Clone, ClapArgs)]
#[command(next_help_heading = "Accepted for compatibility")]
struct Klog {
    #[arg(long, hide = true)]
    vmodule: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    logtostderr: Option<Option<String>>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true)]
    alsologtostderr: Option<Option<String>>,
    #[arg(long, hide = true)]
    alsologtostderrthreshold: Option<String>,
    #[arg(long, hide = true)]
    stderrthreshold: Option<String>,
    #[arg(long = "legacy_stderr_threshold_behavior", hide = true, num_args = 0..=1, require_equals = true)]
    legacy_stderr_threshold_behavior: Option<Option<String>>,
    #[arg(long = "log_dir", hide = true)]
    log_dir: Option<String>,
    #[arg(long = "log_file", hide = true)]
    log_file: Option<String>,
    #[arg(long = "log_file_max_size", hide = true)]
    log_file_max_size: Option<String>,
    #[arg(long = "log_backtrace_at", hide = true)]
    log_backtrace_at: Option<String>,
    #[arg(long = "one_output", hide = true, num_args = 0..=1, require_equals = true)]
    one_output: Option<Option<String>>,
    #[arg(long = "add_dir_header", hide = true, num_args = 0..=1, require_equals = true)]
    add_dir_header: Option<Option<String>>,
    #[arg(long = "skip_headers", hide = true, num_args = 0..=1, require_equals = true)]
    skip_headers: Option<Option<String>>,
    #[arg(long = "skip_log_headers", hide = true, num_args = 0..=1, require_equals = true)]
    skip_log_headers: Option<Option<String>>,
}

/// Where objects come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Source {
    /// The API server.
    Kubernetes,
    /// A folder of YAML files.
    File,
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The port is no port.
    #[error("--port {0:?} is not a port: it must be a number from 1 to 65535")]
    Port(String),
    /// A setting asks for what this version does not have. Ignoring it would serve other traffic than was meant.
    #[error("{0} is not supported by this version")]
    Unsupported(String),
}

impl Args {
    /// Reads the environment and checks what flags alone cannot.
    ///
    /// Values of the environment that cannot be read are reported and their defaults kept, as in the reference.
    pub fn finish(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        if let Some(enabled) = variable("ACCESS_LOG_ENABLED") {
            match go_bool(&enabled) {
                Some(enabled) => self.access_log_enabled = enabled,
                None => {
                    tracing::warn!(value = %enabled, "ACCESS_LOG_ENABLED is no boolean; the access log stays on");
                }
            }
        }
        match variable("ACCESS_LOG_FORMAT").as_deref() {
            None => {}
            Some("text") => self.access_log_format = Format::Text,
            Some("json") => self.access_log_format = Format::Json,
            Some(other) => tracing::warn!(
                value = other,
                "ACCESS_LOG_FORMAT is neither text nor json; text it is"
            ),
        }
        if let Some(output) = variable("ACCESS_LOG_OUTPUT").filter(|output| !output.is_empty()) {
            self.access_log_output = output;
        }
        if let Some(text) = variable("DRAIN_TIMEOUT") {
            match go_duration(&text) {
                Ok(timeout) if !timeout.is_zero() => self.drain_timeout = timeout,
                _ => tracing::warn!(value = %text, "DRAIN_TIMEOUT is no duration above zero; 5m it is"),
            }
        }
        for (name, on) in [
            ("--enable-gateway-api", self.enable_gateway_api),
            (
                "--enable-gateway-api-inference-extension",
                self.enable_gateway_api_inference_extension,
            ),
        ] {
            if on {
                return Err(Error::Unsupported(name.to_owned()));
            }
        }
        for name in ["ENABLE_FAIRNESS_SCHEDULING", "ENABLE_SESSION_BOOST"] {
            if variable(name).as_deref().and_then(go_bool) == Some(true) {
                return Err(Error::Unsupported(format!("{name}=true")));
            }
        }
        self.listen_port()?;
        Ok(self)
    }

    /// At most how many requests go to the API server in which time; `None` without a limit. A flag that is left at 0 has
    /// the default of the reference's client, 5 a second and 10 at once.
    #[must_use]
    pub fn kube_api_pace(&self) -> Option<(u64, Duration)> {
        if self.kube_api_qps <= 0.0 && self.kube_api_burst == 0 {
            return None;
        }
        let burst = match self.kube_api_burst {
            0 => 10,
            burst => burst,
        };
        let qps = if self.kube_api_qps > 0.0 {
            f64::from(self.kube_api_qps)
        } else {
            5.0
        };
        let period = Duration::try_from_secs_f64(f64::from(burst) / qps).unwrap_or(Duration::MAX);
        Some((burst.into(), period))
    }

    /// The inference port as a number.
    pub fn listen_port(&self) -> Result<u16, Error> {
        let port = self.port.parse::<u16>().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Error::Port(self.port.clone()))
    }
}

/// A variable of this process's environment.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the module that reads the environment"
)]
#[must_use]
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A duration as Go writes it, such as `5m` or `1h30m`.
fn go_duration(text: &str) -> Result<Duration, kthena_api::duration::InvalidDuration> {
    kthena_api::duration::Duration::new(text).to_std()
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str], environment: &[(&str, &str)]) -> Result<Args, String> {
        let cli = Cli::try_parse_from(std::iter::once("kthena-proxy").chain(flags.iter().copied()))
            .map_err(|error| error.to_string())?;
        let variable = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        cli.args.finish(variable).map_err(|error| error.to_string())
    }

    #[test]
    fn the_help_is_as_documented() {
        let help = <Cli as clap::CommandFactory>::command()
            .term_width(110)
            .render_long_help();
        insta::assert_snapshot!(help.to_string());
    }

    #[test]
    fn defaults_are_the_published_ones() {
        let args = args(&[], &[]).unwrap();
        assert_eq!(
            (
                args.port.as_str(),
                args.metrics_port,
                args.debug_port,
                args.webhook_port
            ),
            ("8080", 9090, 15000, 8443)
        );
        assert_eq!(args.drain_timeout, Duration::from_secs(300));
        assert!(args.access_log_enabled && args.enable_webhook && !args.expose_metrics_on_router_port);
        assert_eq!(
            (args.access_log_format, args.access_log_output.as_str()),
            (Format::Text, "stdout")
        );
    }

    #[test]
    fn flags_of_existing_deployments_are_accepted() {
        let args = args(
            &[
                "--port=8081",
                "--metrics-port",
                "9191",
                "--enable-webhook=false",
                "--enable-gateway-api=false",
                "--kube-api-qps=20",
                "--kube-api-burst=40",
                "--v=2",
                "--logtostderr=true",
                "--stderrthreshold=INFO",
                // The last one counts, as Go's flags have it.
                "--metrics-port=9292",
                "--enable-webhook",
                "--enable-webhook=false",
            ],
            &[],
        )
        .unwrap();
        assert_eq!(
            (args.port.as_str(), args.metrics_port, args.verbosity),
            ("8081", 9292, 2)
        );
        assert!(!args.enable_webhook);
    }

    #[test]
    fn the_api_server_is_spared_as_told() {
        let pace = |flags: &[&str]| args(flags, &[]).unwrap().kube_api_pace();
        let seconds = Duration::from_secs;
        assert_eq!(pace(&[]), None);
        assert_eq!(
            pace(&["--kube-api-qps=20", "--kube-api-burst=40"]),
            Some((40, seconds(2)))
        );
        assert_eq!(pace(&["--kube-api-qps=2"]), Some((10, seconds(5))));
        assert_eq!(pace(&["--kube-api-burst=50"]), Some((50, seconds(10))));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for flags in [
            &["--tls-cert=/x"][..],
            &["--tls-key=/x"],
            &["--port=0"],
            &["--port=70000"],
            &["--port=x"],
            &["--metrics-port=0"],
            &["--debug-port=70000"],
            &["--webhook-port=0"],
            &["--enable-gateway-api"],
            &["--resource-source=file"],
            &["--nope"],
        ] {
            assert!(args(flags, &[]).is_err(), "{flags:?}");
        }
        assert!(
            args(&[], &[("ENABLE_SESSION_BOOST", "true")])
                .unwrap_err()
                .contains("not supported")
        );
    }

    #[test]
    fn the_environment_is_read_and_nonsense_in_it_ignored() {
        let good = [
            ("ACCESS_LOG_ENABLED", "f"),
            ("ACCESS_LOG_FORMAT", "json"),
            ("ACCESS_LOG_OUTPUT", "/x"),
            ("DRAIN_TIMEOUT", "1m30s"),
        ];
        let read = args(&[], &good).unwrap();
        assert!(!read.access_log_enabled);
        assert_eq!(
            (read.access_log_format, read.drain_timeout),
            (Format::Json, Duration::from_secs(90))
        );
        let bad = [
            ("ACCESS_LOG_ENABLED", "yes"),
            ("ACCESS_LOG_FORMAT", "xml"),
            ("DRAIN_TIMEOUT", "-1s"),
            ("ENABLE_SESSION_BOOST", "x"),
        ];
        let kept = args(&[], &bad).unwrap();
        assert!(kept.access_log_enabled);
        assert_eq!(
            (kept.access_log_format, kept.drain_timeout),
            (Format::Text, Duration::from_secs(300))
        );
    }
}
