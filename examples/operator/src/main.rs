//! The operator as a process: of several, one leads and works, the others stand by.

use anyhow::{Result, bail};
use chat_operator::controller;
use kthena_sdk::kube::Client;
use kthena_sdk::leader::{Candidate, Config, identity};
use kthena_sdk::process::terminated;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().init();
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        bail!("a TLS provider is installed already");
    }
    let client = Client::try_default().await?;
    let config = Config::new(client.default_namespace(), controller::NAME, identity());
    let candidate = Candidate::new(client.clone(), config);
    let mut leader = tokio::select! {
        leader = candidate.lead() => leader,
        ended = terminated() => return Ok(ended?),
    };
    let ended = tokio::select! {
        lost = leader.lost() => return Err(lost.into()),
        () = controller::run(client) => Ok(()),
        ended = terminated() => ended,
    };
    // Nothing is under way any more, so the next one may begin at once.
    leader.release().await?;
    Ok(ended?)
}
