//! The admission webhooks for workloads.

use std::time::Duration;

use anyhow::Result;
use kthena_controller::rbac::{MUTATING, VALIDATING};
use kthena_sdk::kube::Client;
use kthena_sdk::model_serving::plugin::Registry;
use kthena_sdk::process::{Certificate, Contents, all_interfaces};
use kthena_sdk::webhook::keeper::{self, Keeper};
use kthena_sdk::webhook::{self, Config, Source};

use crate::args::Args;
use crate::stop::Stopped;
use crate::telemetry::Readiness;

/// How long reviews in progress may take once the process is to end.
const GRACE: Duration = Duration::from_secs(5);

/// A keeper that tells when its certificate is served.
struct Telling {
    keeper: Keeper,
    readiness: Readiness,
}

impl Source for Telling {
    fn changed(&self, seen: Option<&Contents>) -> impl Future<Output = Contents> + Send {
        self.keeper.changed(seen)
    }

    fn describe(&self) -> String {
        self.keeper.describe()
    }

    fn serving(&self) {
        self.readiness.webhooks_serve();
    }
}

/// Serves the webhooks until the process is to end.
pub(crate) async fn serve(
    args: Args,
    client: Client,
    namespace: String,
    readiness: Readiness,
    stopped: Stopped,
) -> Result<()> {
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
        certificate: Telling {
            keeper: Keeper::new(client, place),
            readiness,
        },
        grace: GRACE,
        timeout,
    };
    Ok(webhook::serve(config, webhook::workload(Registry::built_in()), stopped.wait()).await?)
}
