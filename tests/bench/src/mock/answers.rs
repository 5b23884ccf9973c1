//! The prepared bytes, in the shapes of vLLM 0.32.

const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 02:23:28 GMT\r\nserver: uvicorn\r\n";

/// What prefill returns: the full object of vLLM's NIXL connector, all 14 members.
pub(super) const NIXL: &str = r#"{"do_remote_prefill":true,"do_remote_decode":false,"remote_block_ids":[[11,12,13,14,15,16,17,18]],"remote_engine_id":"c4a72f30-eed1-4295-813c-927c3936ee2f","remote_request_id":"chatcmpl-9ea31432926a57a4-a8aba2ab","remote_host":"127.0.0.1","remote_port":18600,"tp_size":1,"dcp_size":1,"pp_size":1,"remote_num_tokens":256,"remote_blocks_expiry_time":null,"transfer_mode":"pull","remote_prefill_cached_tokens":0}"#;

/// Whole answers, and the pieces of a stream that takes its time.
pub(super) struct Answers {
    /// A stream in one burst.
    pub stream: Vec<u8>,
    /// The head of a stream and its first event.
    pub first: Vec<u8>,
    /// One more event.
    pub event: Vec<u8>,
    /// The last events and the end.
    pub last: Vec<u8>,
    pub json: Vec<u8>,
    pub prefill: Vec<u8>,
    models: Vec<u8>,
    metrics: Vec<u8>,
    nothing: Vec<u8>,
}

impl Answers {
    /// Streams of so many content events, besides the first, the usage and the `[DONE]` event.
    pub(super) fn new(events: usize) -> Self {
        let first = format!(
            "{HEAD}content-type: text/event-stream; charset=utf-8\r\nvary: Origin\r\ntransfer-encoding: chunked\r\n\r\n{}",
            chunk(&event(r#"{"role":"assistant","content":""}"#, "null"))
        );
        let word = |n: usize, finish: &str| chunk(&event(&format!(r#"{{"content":" word{n}"}}"#), finish));
        let usage = "data: {\"id\":\"chatcmpl-9ea31432926a57a4\",\"object\":\"chat.completion.chunk\",\"created\":1795227808,\
                     \"model\":\"base\",\"choices\":[],\"usage\":{\"prompt_tokens\":256,\"total_tokens\":320,\
                     \"completion_tokens\":64}}\n\n";
        let last = format!(
            "{}{}{}0\r\n\r\n",
            word(events, "\"stop\""),
            chunk(usage),
            chunk("data: [DONE]\n\n")
        );
        let between: String = (1..events).map(|n| word(n, "null")).collect();
        Self {
            stream: format!("{first}{between}{last}").into_bytes(),
            first: first.into_bytes(),
            event: word(0, "null").into_bytes(),
            last: last.into_bytes(),
            json: json(&completion("null")),
            prefill: json(&completion(NIXL)),
            models: json(
                r#"{"object":"list","data":[{"id":"bench","object":"model","created":1795227808,"owned_by":"vllm"}]}"#,
            ),
            metrics: body(
                "text/plain; version=0.0.4; charset=utf-8",
                "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"bench\"} 0.0\n\
                 # TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\"bench\"} 0.0\n\
                 # TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{engine=\"0\",model_name=\"bench\"} 0.0\n",
            ),
            nothing: json(r#"{"status":"ok","model_path":"bench","served_model_name":"bench"}"#),
        }
    }

    /// The answer to a request without a body: probes, model lists, scrapes.
    pub(super) fn get(&self, head: &[u8]) -> &[u8] {
        let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
        match path {
            b"/v1/models" => &self.models,
            b"/metrics" => &self.metrics,
            _ => &self.nothing,
        }
    }
}

fn chunk(event: &str) -> String {
    format!("{:x}\r\n{event}\r\n", event.len())
}

fn event(delta: &str, finish: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-9ea31432926a57a4\",\"object\":\"chat.completion.chunk\",\"created\":1795227808,\
         \"model\":\"base\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish},\
         \"token_ids\":null}}]}}\n\n"
    )
}

fn completion(kv_transfer_params: &str) -> String {
    format!(
        "{{\"id\":\"chatcmpl-94e226ecc479f0c3\",\"object\":\"chat.completion\",\"created\":1795227818,\"model\":\"base\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\",\"refusal\":null,\
         \"annotations\":null,\"audio\":null,\"function_call\":null,\"reasoning\":null}},\"logprobs\":null,\
         \"finish_reason\":\"stop\",\"stop_reason\":null,\"token_ids\":null}}],\"service_tier\":null,\
         \"system_fingerprint\":\"vllm-0.32.0-021a1a00\",\"usage\":{{\"prompt_tokens\":256,\"total_tokens\":320,\
         \"completion_tokens\":64,\"prompt_tokens_details\":null}},\"prompt_logprobs\":null,\"prompt_token_ids\":null,\
         \"kv_transfer_params\":{kv_transfer_params},\"metrics\":null}}",
        " word".repeat(64)
    )
}

fn json(document: &str) -> Vec<u8> {
    body("application/json", document)
}

fn body(media_type: &str, text: &str) -> Vec<u8> {
    format!(
        "{HEAD}content-length: {}\r\ncontent-type: {media_type}\r\nvary: Origin\r\n\r\n{text}",
        text.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_stream_has_the_events_it_was_asked_for() {
        let text = String::from_utf8(Answers::new(64).stream).unwrap();
        assert_eq!(text.matches("\"content\":\" word").count(), 64);
        assert_eq!(text.matches("data: ").count(), 64 + 3);
        assert_eq!(text.matches("\"stop\"").count(), 1);
        assert!(text.ends_with("data: [DONE]\n\n\r\n0\r\n\r\n"));
    }

    #[test]
    fn pieces_make_up_a_stream_too() {
        let answers = Answers::new(1);
        let whole = [answers.first.as_slice(), &answers.last].concat();
        assert_eq!(whole, answers.stream);
        assert!(
            answers
                .event
                .starts_with(format!("{:x}\r\n", answers.event.len() - 6).as_bytes())
        );
    }

    #[test]
    fn prefill_returns_all_fourteen_members() {
        let text = String::from_utf8(Answers::new(1).prefill).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["kv_transfer_params"].as_object().unwrap().len(), 14);
    }

    #[test]
    fn probes_are_told_by_their_path() {
        let answers = Answers::new(1);
        let has = |path: &str, what: &str| {
            let answer = answers
                .get(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())
                .to_vec();
            assert!(String::from_utf8(answer).unwrap().contains(what), "{path}");
        };
        has("/v1/models", "owned_by");
        has("/metrics", "vllm:num_requests_running");
        has("/health", "ok");
    }
}
