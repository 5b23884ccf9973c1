//! The Kthena controller manager: what it decides is in `kthena-sdk`, and this puts it together.
//!
//! It serves the admission webhooks for workloads. Controllers follow.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{ArgAction, Parser};
use kthena_sdk::process::{Certificate, all_interfaces, terminated};
use kthena_sdk::webhook::{self, Config};

/// How long reviews in progress may take once the process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// The Kthena controller manager.
#[derive(Debug, Parser)]
#[command(name = "kthena-controller", version)]
struct Args {
    /// Serve the admission webhooks for workloads, once their certificate files exist.
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", overrides_with = "enable_webhook")]
    enable_webhook: bool,
    /// Port of the webhooks.
    #[arg(long, default_value_t = 8443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Certificate chain (PEM) of the webhooks. It is read again when it changes.
    #[arg(long, default_value = "/etc/tls/tls.crt")]
    tls_cert_file: PathBuf,
    /// Private key (PEM) of the webhooks.
    #[arg(long, default_value = "/etc/tls/tls.key")]
    tls_private_key_file: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    // Two TLS providers are compiled in, so rustls cannot choose one.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        anyhow::bail!("a TLS provider is installed already");
    }
    let args = Args::parse();
    if !args.enable_webhook {
        return terminated().await.context("cannot handle signals");
    }
    let end = async {
        if let Err(error) = terminated().await {
            tracing::error!(%error, "ending: signals cannot be handled");
        }
    };
    let config = Config {
        listen: all_interfaces(args.port).to_vec(),
        certificate: Certificate {
            chain: args.tls_cert_file,
            key: args.tls_private_key_file,
        },
        grace: GRACE,
    };
    Ok(webhook::serve(config, webhook::workload(), end).await?)
}
