use super::*;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let settings = EngineSettings::resolve(&map(&[("other", "x")]), &map(&[])).unwrap();
    assert_eq!(settings, EngineSettings::default());
    assert_eq!(settings.sglang_bootstrap_port, 8998);
    assert_eq!(settings.mooncake_bootstrap_port, None);
    assert!(!settings.upstream_tls.insecure_skip_verify);
}

#[test]
fn the_pod_overrides_its_model_server_key_by_key() {
    let server = map(&[
        (labels::MOONCAKE_BOOTSTRAP_PORT, "1001"),
        (labels::SGLANG_BOOTSTRAP_PORT, "1002"),
        (labels::KV_EVENTS_PORT, "1003"),
        (labels::UPSTREAM_CA_SECRET, "ca"),
        (labels::UPSTREAM_CLIENT_CERT_SECRET, "client"),
        (labels::UPSTREAM_SERVER_NAME, "engine.example.com"),
        (labels::UPSTREAM_INSECURE_SKIP_VERIFY, "true"),
    ]);
    let pod = map(&[
        (labels::KV_EVENTS_PORT, "2003"),
        (labels::UPSTREAM_SERVER_NAME, "::1"),
        (labels::UPSTREAM_INSECURE_SKIP_VERIFY, "false"),
    ]);
    let settings = EngineSettings::resolve(&server, &pod).unwrap();
    assert_eq!(settings.mooncake_bootstrap_port, Some(1001));
    assert_eq!(settings.sglang_bootstrap_port, 1002);
    assert_eq!(settings.kv_events_port, Some(2003));
    assert_eq!(
        settings.upstream_tls,
        UpstreamTls {
            ca_secret: Some("ca".into()),
            client_cert_secret: Some("client".into()),
            server_name: Some("::1".into()),
            insecure_skip_verify: false,
        }
    );
}

#[test]
fn every_bad_value_is_reported_with_the_object_it_is_on() {
    let server = map(&[
        (labels::MOONCAKE_BOOTSTRAP_PORT, "0"),
        (labels::SGLANG_BOOTSTRAP_PORT, "+1"),
        (labels::KV_EVENTS_PORT, "65536"),
        (labels::UPSTREAM_CA_SECRET, "Secret"),
        (labels::UPSTREAM_CLIENT_CERT_SECRET, ""),
        (labels::UPSTREAM_SERVER_NAME, "1.2.3"),
        (labels::UPSTREAM_INSECURE_SKIP_VERIFY, "yes"),
    ]);
    let pod = map(&[(labels::KV_EVENTS_PORT, "port")]);
    let errors = EngineSettings::resolve(&server, &pod).unwrap_err();
    assert_eq!(errors.len(), 8);
    assert_eq!(
        errors[7].to_string(),
        "pod.metadata.annotations[networking.serving.volcano.sh/kv-events-port]: Invalid value: \"port\": \
         must be a port from 1 to 65535"
    );
}
