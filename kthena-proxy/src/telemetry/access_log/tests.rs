use super::*;

fn entry<'a>() -> Entry<'a> {
    Entry {
        timestamp: "2026-03-01T09:00:00.5Z".into(),
        method: "POST",
        path: "/v1/chat/completions",
        protocol: "HTTP/1.1",
        status_code: 200,
        error: None,
        model_name: "chat",
        model_route: Some("prod/chat"),
        model_server: Some("prod/qwen"),
        selected_pod: Some("qwen-7c9-abc"),
        prefill_pod: None,
        request_id: "3f0c8d0e-0001-4a11-9b7e-5b1f0f6f2a11",
        backend_type: Some("model_server"),
        backend_name: Some("prod/qwen"),
        upstream_model: Some("Qwen/Qwen3-8B"),
        upstream_status_code: Some(200),
        upstream_attempts: 1,
        decode_alone: None,
        input_tokens: 212,
        output_tokens: 87,
        duration_total: 1840,
        duration_request_processing: 1,
        duration_upstream_processing: 1838,
        duration_response_processing: 0,
    }
}

fn line(entry: &Entry<'_>, format: Format) -> String {
    let mut out = Vec::new();
    entry.write(format, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn text_has_the_published_layout() {
    assert_eq!(
        line(&entry(), Format::Text),
        "[2026-03-01T09:00:00.5Z] \"POST /v1/chat/completions HTTP/1.1\" 200 model_name=chat model_route=prod/chat \
         model_server=prod/qwen selected_pod=qwen-7c9-abc request_id=3f0c8d0e-0001-4a11-9b7e-5b1f0f6f2a11 \
         backend_type=model_server backend_name=prod/qwen upstream_model=Qwen/Qwen3-8B upstream_status_code=200 \
         upstream_attempts=1 tokens=212/87 timings=1840ms(1+1838+0)\n"
    );
}

#[test]
fn an_early_error_says_only_what_is_known() {
    let entry = Entry {
        status_code: 429,
        error: Some(Error {
            r#type: "input_rate_limit",
            message: "input token rate limit exceeded",
        }),
        model_route: None,
        model_server: None,
        selected_pod: None,
        backend_type: None,
        backend_name: None,
        upstream_model: None,
        upstream_status_code: None,
        upstream_attempts: 0,
        input_tokens: 900,
        output_tokens: 0,
        duration_total: 0,
        duration_request_processing: 0,
        duration_upstream_processing: 0,
        ..entry()
    };
    assert_eq!(
        line(&entry, Format::Text),
        "[2026-03-01T09:00:00.5Z] \"POST /v1/chat/completions HTTP/1.1\" 429 error=input_rate_limit:input token rate limit \
         exceeded model_name=chat request_id=3f0c8d0e-0001-4a11-9b7e-5b1f0f6f2a11 tokens=900/0 timings=0ms(0+0+0)\n"
    );
}

#[test]
fn a_client_cannot_forge_lines() {
    let entry = Entry {
        model_name: "x\n[2026] forged",
        ..entry()
    };
    assert_eq!(line(&entry, Format::Text).lines().count(), 1);
    assert_eq!(line(&entry, Format::Json).lines().count(), 1);
}

#[test]
fn json_keeps_the_order_of_its_members() {
    let text = line(
        &Entry {
            prefill_pod: Some("p"),
            decode_alone: Some("batch"),
            ..entry()
        },
        Format::Json,
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["duration_total"], 1840);
    assert!(value.get("error").is_none());
    let order = [
        "timestamp",
        "method",
        "path",
        "protocol",
        "status_code",
        "model_name",
        "model_route",
        "selected_pod",
        "input_tokens",
    ];
    let places: Vec<_> = order
        .iter()
        .map(|name| text.find(&format!("\"{name}\":")).unwrap())
        .collect();
    assert!(places.is_sorted());
}

#[test]
fn lines_reach_the_target_in_order() {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let shared = Shared::default();
    let sink = Sink::start(Box::new(shared.clone()), Format::Json).unwrap();
    for n in 0..100 {
        sink.log(&Entry {
            upstream_attempts: n + 1,
            ..entry()
        });
    }
    let complete = || shared.0.lock().iter().filter(|byte| **byte == b'\n').count() == 100;
    while !complete() {
        std::thread::yield_now();
    }
    let text = String::from_utf8(shared.0.lock().clone()).unwrap();
    let attempts: Vec<u64> = text
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["upstream_attempts"]
                .as_u64()
                .unwrap()
        })
        .collect();
    assert_eq!(attempts, (1..=100).collect::<Vec<_>>());
}
