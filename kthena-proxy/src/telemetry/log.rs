//! The process's own log, on stderr.

use tracing_subscriber::EnvFilter;

/// Starts logging. `RUST_LOG` decides if it is set, else the verbosity as klog has it.
pub fn init(verbosity: u8) {
    let level = match verbosity {
        0..=3 => "info",
        4..=5 => "debug",
        _ => "trace",
    };
    // Pingora reports each client that goes away as an error; the access log has those.
    let default = format!(
        "warn,kthena_proxy={level},kthena_sdk={level},kthena_sim=info,pingora_core=error,pingora_proxy=error"
    );
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new(default));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
