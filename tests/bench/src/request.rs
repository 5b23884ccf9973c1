//! Chat requests as bytes, and what makes the mock engine hold or drip a stream.

use std::net::SocketAddr;
use std::sync::Arc;

/// The value of `user` that makes the mock engine send one event and then wait until the client leaves.
pub(crate) const HOLD: &str = "bench-hold";
/// Begins the value of `user` that makes the mock engine send so many events, a tenth of a second apart.
pub(crate) const DRIP: &str = "bench-drip-";

/// A chat request.
#[derive(Debug, Clone)]
pub(crate) struct Chat<'a> {
    pub model: &'a str,
    /// Bytes of the prompt.
    pub prompt: usize,
    pub answer: Answer,
    pub user: Option<&'a str>,
}

/// How the answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Json,
    Stream,
}

impl Answer {
    /// What stands at the end of a complete answer's body.
    pub(crate) fn end(self) -> &'static [u8] {
        match self {
            Self::Json => b"}",
            Self::Stream => b"data: [DONE]",
        }
    }
}

impl Chat<'_> {
    /// Head and body, as the official clients send them.
    pub(crate) fn bytes(&self, target: SocketAddr) -> Arc<[u8]> {
        let body = self.body();
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: {target}\r\nUser-Agent: bench\r\nAccept: */*\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer sk-none\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
        .into()
    }

    fn body(&self) -> String {
        let stream = self.answer == Answer::Stream;
        let user = self
            .user
            .map_or_else(String::new, |user| format!("\"user\":\"{user}\","));
        format!(
            "{{\"model\":\"{}\",\"stream\":{stream},\"max_tokens\":64,\"temperature\":0.7,{user}\"messages\":[{{\"role\":\
             \"system\",\"content\":\"You are terse.\"}},{{\"role\":\"user\",\"content\":\"{}\"}}]}}",
            self.model,
            prompt(self.prompt)
        )
    }
}

/// Words, and a line break (escaped, as JSON has it) now and then, as prompts have them.
fn prompt(bytes: usize) -> String {
    let words = "lorem ipsum dolor sit amet consetetur sadipscing elitr sed diam nonumy eirmod tempor invidunt ut labore.\\n";
    let mut prompt = words.repeat(bytes / words.len() + 1);
    prompt.truncate(bytes);
    if prompt.ends_with('\\') {
        prompt.pop();
        prompt.push('.');
    }
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parsed(chat: &Chat<'_>) -> (String, Value) {
        let bytes = chat.bytes(SocketAddr::from(([127, 0, 0, 1], 80)));
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    fn chat(prompt: usize, answer: Answer, user: Option<&str>) -> Chat<'_> {
        Chat {
            model: "m",
            prompt,
            answer,
            user,
        }
    }

    #[test]
    fn every_prompt_size_gives_a_document() {
        for size in (0..250).chain([1024, 220_000]) {
            let (_, body) = parsed(&chat(size, Answer::Json, None));
            let text = body["messages"][1]["content"].as_str().unwrap();
            assert!(
                text.len() <= size && size <= text.len() + size / 50 + 1,
                "{size}: {}",
                text.len()
            );
        }
    }

    #[test]
    fn the_request_says_how_to_answer() {
        let (head, body) = parsed(&chat(10, Answer::Stream, Some(HOLD)));
        assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"));
        assert_eq!(
            (&body["stream"], &body["user"]),
            (&Value::Bool(true), &HOLD.into())
        );
        let (_, body) = parsed(&chat(10, Answer::Json, None));
        assert_eq!(
            (&body["stream"], &body["user"]),
            (&Value::Bool(false), &Value::Null)
        );
    }
}
