//! What a client's script tells.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The end of one call.
#[derive(Debug, Clone)]
pub struct Answer(Map<String, Value>);

/// What the client threw.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The exception's class, as in `NotFoundError`; the same in both languages.
    pub class: String,
    pub status: Option<u16>,
    pub message: String,
    /// The `error` member of the answer's body, as the client read it.
    pub body: Value,
    pub headers: Value,
}

impl Answer {
    pub(super) fn parse(output: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(output);
        serde_json::from_str(&text)
            .map(Self)
            .with_context(|| format!("the client printed {text:?}"))
    }

    /// The answer of a call without a stream.
    pub fn data(&self) -> Result<&Value> {
        self.get("data")
    }

    /// The events of a stream that ended well, or was given up by the client.
    pub fn events(&self) -> Result<&[Value]> {
        Ok(self.get("events")?.as_array().context("events are a list")?)
    }

    /// The events that came, even if the stream broke afterwards.
    pub fn events_so_far(&self) -> &[Value] {
        self.0
            .get("events")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    }

    /// Whether the client gave the stream up, as it was told.
    pub fn is_aborted(&self) -> bool {
        self.0.get("aborted") == Some(&Value::Bool(true))
    }

    /// A header of the answer; names are lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.get("headers")?.get(name)?.as_str()
    }

    /// The text of a chat or completion, whether streamed or not.
    pub fn text(&self) -> Result<String> {
        let piece = |choice: &Value| {
            let content = [
                &choice["message"]["content"],
                &choice["delta"]["content"],
                &choice["text"],
            ];
            content
                .iter()
                .find_map(|text| text.as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let first = |answer: &Value| piece(&answer["choices"][0]);
        match self.0.contains_key("events") {
            true => Ok(self.events()?.iter().map(first).collect()),
            false => Ok(first(self.data()?)),
        }
    }

    /// What the client threw.
    pub fn failure(&self) -> Result<Failure> {
        let Some(error) = self.0.get("error") else {
            bail!("the call succeeded: {}", self.shown())
        };
        let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        Ok(Failure {
            class: text("class"),
            status: error["status"].as_u64().and_then(|status| status.try_into().ok()),
            message: text("message"),
            body: error["body"].clone(),
            headers: error["headers"].clone(),
        })
    }

    fn get(&self, member: &str) -> Result<&Value> {
        if let Some(error) = self.0.get("error") {
            bail!("the client threw {error}");
        }
        self.0
            .get(member)
            .with_context(|| format!("no {member} in {}", self.shown()))
    }

    fn shown(&self) -> String {
        Value::Object(self.0.clone())
            .to_string()
            .chars()
            .take(2000)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn text_is_found_in_streams_and_whole_answers() {
        for (output, expected) in [
            (r#"{"data":{"choices":[{"message":{"content":"a b"}}]}}"#, "a b"),
            (r#"{"data":{"choices":[{"text":"c"}]}}"#, "c"),
            (
                r#"{"events":[{"choices":[{"delta":{"content":"d"}}]},{"choices":[{"delta":{}}]},{"choices":[]}]}"#,
                "d",
            ),
        ] {
            assert_eq!(
                Answer::parse(output.as_bytes()).unwrap().text().unwrap(),
                expected
            );
        }
    }

    #[test]
    fn an_error_does_not_pass_for_an_answer() {
        let output = r#"{"events":[{}],"error":{"class":"APIError","status":null,"message":"lost","body":null,"headers":{}}}"#;
        let answer = Answer::parse(output.as_bytes()).unwrap();
        assert!(answer.events().unwrap_err().to_string().contains("lost"));
        assert_eq!(answer.events_so_far().len(), 1);
        assert_eq!(answer.failure().unwrap().class, "APIError");
    }
}
