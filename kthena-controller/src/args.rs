//! Flags: the only place that reads them, and the environment.
//!
//! Names and defaults are those of Kthena's controller manager; what is new is marked so in the help.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser};
use kthena_controller::rbac::SECRET;
use kthena_sdk::process::all_interfaces;

mod klog;

use klog::Klog;

/// The Kthena controller manager.
#[derive(Debug, Clone, Parser)]
#[command(name = "kthena-controller", version, args_override_self = true)]
pub(crate) struct Args {
    /// Where the API server is and who we are: a kubeconfig file. Without it: the pod's own account, `KUBECONFIG`, or `~/.kube/config`.
    #[arg(long, value_name = "FILE", default_value = "", hide_default_value = true)]
    kubeconfig: String,
    /// URL of the API server, in place of the one found otherwise.
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    master: String,
    /// ModelServings that are worked on at a time.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,
    /// Controllers to run: names, or `*` for all, `-name` for all but one. This version has `modelserving`.
    #[arg(long, default_value = "*", allow_hyphen_values = true)]
    pub(crate) controllers: String,
    /// Of several processes with this flag, one runs the controllers; all serve the webhooks.
    #[arg(long, action = ArgAction::Set, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) leader_elect: bool,
    /// Requests a second to the API server; 0 for no limit, or for 5 where --kube-api-burst is given.
    #[arg(long, default_value_t = 0.0)]
    kube_api_qps: f32,
    /// Requests to the API server at once; 0 for no limit, or for 10 where --kube-api-qps is given.
    #[arg(long, default_value_t = 0)]
    kube_api_burst: u32,
    /// Seconds between two looks of the autoscaler, which is not part of this version.
    #[arg(long, default_value_t = 15)]
    autoscaling_sync_period_seconds: u32,
    /// Serve the admission webhooks for workloads.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub(crate) enable_webhook: bool,
    /// Port of the webhooks.
    #[arg(long, default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// Seconds that one review may take, from its first byte to the end of its answer; 0 for no limit.
    #[arg(long, default_value_t = 30)]
    webhook_timeout: u32,
    /// Certificate chain (PEM) of the webhooks, where there is no Secret. It is read again when it changes.
    #[arg(long, default_value = "/etc/tls/tls.crt")]
    pub(crate) tls_cert_file: PathBuf,
    /// Private key (PEM) of the webhooks, where there is no Secret.
    #[arg(long, default_value = "/etc/tls/tls.key")]
    pub(crate) tls_private_key_file: PathBuf,
    /// Secret with the certificate of the webhooks. It is made if neither it nor the files are there.
    #[arg(long, default_value = SECRET)]
    pub(crate) cert_secret_name: String,
    /// Service in front of the webhooks, for whose names a certificate is made.
    #[arg(long, default_value = "kthena-controller-manager-webhook")]
    pub(crate) service_name: String,
    /// Port on loopback where `/debug/modelserving/cache` shows what the controller knows; 0 for none.
    #[arg(long, default_value_t = 0)]
    pub(crate) debug_port: u16,
    /// Where `/livez`, `/readyz` and `/metrics` are answered, without TLS: `:PORT` or `IP:PORT`; 0 for nowhere (new).
    #[arg(long, default_value = ":8080", value_name = "ADDRESS", value_parser = listen)]
    pub(crate) metrics_bind_address: Listen,
    /// The namespace of the Lease and of the Secret; that of the pod's account if it is not given (new).
    #[arg(long, env = "POD_NAMESPACE", default_value = "", hide_default_value = true)]
    pod_namespace: String,

    /// Log verbosity as klog has it: 0 to 3 log what happened, 4 and more also why.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub(crate) verbosity: u8,
    #[command(flatten)]
    klog: Klog,
}

/// Where to listen: addresses to try in turn; none for nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Vec<SocketAddr>);

/// How requests to the API server are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Requests at once, after a pause.
    pub(crate) burst: u32,
}

impl Args {
    /// The flags of this process, and all of them as text. Ends the process where they cannot be used.
    pub(crate) fn read() -> (Self, String) {
        let matches = Self::command().get_matches();
        match Self::from_arg_matches(&matches) {
            Ok(args) => (args, text(&matches)),
            Err(error) => error.exit(),
        }
    }

    pub(crate) fn kubeconfig(&self) -> Option<&Path> {
        (!self.kubeconfig.is_empty()).then(|| self.kubeconfig.as_ref())
    }

    pub(crate) fn master(&self) -> Option<&str> {
        (!self.master.is_empty()).then_some(&self.master)
    }

    pub(crate) fn pod_namespace(&self) -> Option<&str> {
        (!self.pod_namespace.is_empty()).then_some(&self.pod_namespace)
    }

    pub(crate) fn webhook_timeout(&self) -> Option<Duration> {
        (self.webhook_timeout > 0).then(|| Duration::from_secs(self.webhook_timeout.into()))
    }

    /// How requests to the API server are spread; `None` without a limit. A flag that is left at 0 has the default of client-go where the
    /// other one is given.
    pub(crate) fn kube_api_pace(&self) -> Option<Pace> {
        if self.kube_api_qps <= 0.0 && self.kube_api_burst == 0 {
            return None;
        }
        let rate = if self.kube_api_qps > 0.0 {
            self.kube_api_qps.into()
        } else {
            5.0
        };
        let burst = if self.kube_api_burst > 0 {
            self.kube_api_burst
        } else {
            10
        };
        Some(Pace { rate, burst })
    }

    /// Flags that were given and have no effect here.
    pub(crate) fn without_effect(&self) -> Vec<&'static str> {
        self.klog.without_effect()
    }
}

/// All flags with their values.
fn text(matches: &ArgMatches) -> String {
    let command = Args::command();
    let values = command.get_arguments().filter_map(|flag| {
        let values = matches.get_raw(flag.get_id().as_str())?;
        let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
        Some(format!("--{}={}", flag.get_long()?, values.join(",")))
    });
    values.collect::<Vec<_>>().join(" ")
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn go_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}

fn listen(text: &str) -> Result<Listen, &'static str> {
    if matches!(text, "" | "0") {
        return Ok(Listen(Vec::new()));
    }
    let addresses = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| all_interfaces(port).to_vec()),
        None => text.parse().ok().map(|address| vec![address]),
    };
    addresses
        .map(Listen)
        .ok_or("it is neither :PORT nor IP:PORT nor 0")
}

#[cfg(test)]
mod tests;
