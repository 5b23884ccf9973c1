use std::collections::BTreeMap;
use kthena_api::labels;
#[derive(Default)]
pub struct EngineSettings { pub mooncake_bootstrap_port: Option<u16>, pub sglang_bootstrap_port: Option<u16>, pub upstream_ca_secret: Option<String>, pub upstream_client_cert_secret: Option<String>, pub upstream_server_name: Option<String>, pub upstream_insecure_skip_verify: bool }
impl EngineSettings {
    pub fn resolve(a: &BTreeMap<String,String>, b: &BTreeMap<String,String>) -> Result<Self, Vec<String>> {
        let get = |k: &str| b.get(k).or_else(|| a.get(k)).cloned();
        let port = |k: &str| get(k).map(|p| p.parse::<u16>().map_err(|e| vec![e.to_string()])).transpose();
        Ok(Self { mooncake_bootstrap_port: port(labels::MOONCAKE_BOOTSTRAP_PORT)?, sglang_bootstrap_port: port(labels::SGLANG_BOOTSTRAP_PORT)?, upstream_ca_secret: get(labels::UPSTREAM_CA_SECRET), upstream_client_cert_secret: get(labels::UPSTREAM_CLIENT_CERT_SECRET), upstream_server_name: get(labels::UPSTREAM_SERVER_NAME), upstream_insecure_skip_verify: get(labels::UPSTREAM_INSECURE_SKIP_VERIFY).as_deref() == Some("true") })
    }
}
