//! The admission webhooks for workloads.

use std::time::Duration;

use anyhow::Result;
use kthena_sdk::kube::Client;
use kthena_sdk::model_serving::plugin::Registry;
use kthena_sdk::process::{Certificate, all_interfaces};
use kthena_sdk::webhook::keeper::{self, Keeper};
use kthena_sdk::webhook::{self, Config};

use crate::args::Args;
use crate::stop::Stopped;

/// How long reviews in progress may take once the process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// The webhook configurations that call this server, as Kthena's chart names them.
const VALIDATING: &str = "kthena-controller-manager-validating-webhook";
const MUTATING: &str = "kthena-controller-manager-mutating-webhook";

/// Serves the webhooks until the process is to end.
pub(crate) async fn serve(args: Args, client: Client, namespace: String, stopped: Stopped) -> Result<()> {
    let timeout = args.webhook_timeout();
    let place = keeper::Config {
        namespace,
        secret: args.cert_secret_name,
        service: args.service_name,
        validating: vec![VALIDATING.to_owned()],
        mutating: vec![MUTATING.to_owned()],
        files: Certificate {
            chain: args.tls_cert_file,
            key: args.tls_private_key_file,
        },
    };
    let config = Config {
        listen: all_interfaces(args.port).to_vec(),
        certificate: Keeper::new(client, place),
        grace: GRACE,
        timeout,
    };
    Ok(webhook::serve(config, webhook::workload(Registry::built_in()), stopped.wait()).await?)
}
