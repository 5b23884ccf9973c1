use super::*;

/// Every metric once, as a Prometheus server would read it.
fn page() -> String {
    let metrics = Metrics::default();
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let destination = Destination {
        route: "ns/route".into(),
        backend_type: "model_server",
        backend_name: "ns/server".into(),
        upstream_model: "base".into(),
    };
    let model: Label = "m".into();
    let mut phases = Phases::default();
    phases.prefill(Instant::now(), true);
    phases.decode(Instant::now(), false);
    let _held = (metrics.downstream(&model), metrics.upstream(&destination));
    metrics.config_error("file");
    metrics.config_broken("file", 1);
    metrics.finish(&Finished {
        model: &model,
        path: "/v1/chat/completions",
        status: 200,
        error_type: "successful_request",
        destination: &destination,
        duration: Duration::from_millis(3),
        first_byte: Some(Duration::from_millis(2)),
        input_tokens: 7,
        output_tokens: 5,
        retries: 1,
        phases: &phases,
        alone: Some("batch"),
    });
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    page
}

#[test]
fn names_and_labels_are_the_published_ones() {
    // Buckets and values apart: those of durations differ from run to run.
    let mut series: Vec<String> = page()
        .lines()
        .filter(|line| !line.starts_with('#') && !line.contains("_bucket{") && !line.contains("_sum{"))
        .map(str::to_owned)
        .collect();
    series.sort_unstable();
    insta::assert_snapshot!(series.join("\n"));
}

#[test]
fn durations_have_the_published_buckets() {
    let page = page();
    let bounds: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("kthena_router_request_duration_seconds_bucket"))
        .filter_map(|line| line.split("le=\"").nth(1)?.split('"').next())
        .collect();
    assert_eq!(
        bounds,
        [
            "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "30.0",
            "60.0", "+Inf"
        ]
    );
}
