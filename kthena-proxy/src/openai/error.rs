//! Error bodies in the shape that the client's API uses.

use bytes::Bytes;
use serde::Serialize;

use super::Operation;

/// What an error body says.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// For people.
    pub message: &'a str,
    /// OpenAI's `type`, such as `invalid_request_error`.
    pub kind: &'a str,
    /// OpenAI's `code`, such as `model_not_found`.
    pub code: Option<&'a str>,
    /// The member of the request that is at fault.
    pub param: Option<&'a str>,
}

#[derive(Serialize)]
struct OpenAi<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Anthropic<'a> {
    r#type: &'static str,
    error: AnthropicDetail<'a>,
}

#[derive(Serialize)]
struct AnthropicDetail<'a> {
    r#type: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct ResponsesEvent<'a> {
    r#type: &'static str,
    code: Option<&'a str>,
    message: &'a str,
    param: Option<&'a str>,
}

/// The body of an answer that is an error.
///
/// OpenAI's `{"error":{message,type,param,code}}`, or Anthropic's `{"type":"error","error":{type,message}}` on `/v1/messages`.
#[must_use]
pub fn body(operation: Operation, message: Message<'_>) -> Bytes {
    let Message {
        message: text,
        kind,
        code,
        param,
    } = message;
    match operation {
        Operation::Messages => json(&Anthropic {
            r#type: "error",
            error: AnthropicDetail {
                r#type: kind,
                message: text,
            },
        }),
        _ => json(&OpenAi {
            error: Detail {
                message: text,
                r#type: kind,
                param,
                code,
            },
        }),
    }
}

/// The event that ends a stream which cannot go on.
///
/// Chat and completions streams carry the error object as data, which OpenAI's clients raise as an error; Anthropic's and the
/// Responses API have an event named `error`.
#[must_use]
pub fn event(operation: Operation, message: Message<'_>) -> Bytes {
    let (name, data) = match operation {
        Operation::Messages => ("event: error\n", body(operation, message)),
        Operation::Responses => (
            "event: error\n",
            json(&ResponsesEvent {
                r#type: "error",
                code: message.code,
                message: message.message,
                param: message.param,
            }),
        ),
        _ => ("", body(operation, message)),
    };
    let mut event = Vec::with_capacity(name.len() + data.len() + 8);
    event.extend_from_slice(name.as_bytes());
    event.extend_from_slice(b"data: ");
    event.extend_from_slice(&data);
    event.extend_from_slice(b"\n\n");
    event.into()
}

fn json(value: &impl Serialize) -> Bytes {
    // Strings and options of strings always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: Message<'_> = Message {
        message: "no \"such\" model",
        kind: "invalid_request_error",
        code: Some("model_not_found"),
        param: None,
    };

    #[test]
    fn each_api_gets_its_own_shape() {
        assert_eq!(
            body(Operation::Chat, MESSAGE),
            r#"{"error":{"message":"no \"such\" model","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#
        );
        assert_eq!(
            body(Operation::Messages, MESSAGE),
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no \"such\" model"}}"#
        );
    }

    #[test]
    fn an_event_is_one_event() {
        for operation in [Operation::Chat, Operation::Messages, Operation::Responses] {
            let event = event(operation, MESSAGE);
            assert!(event.ends_with(b"\n\n"));
            assert_eq!(memchr::memmem::find_iter(&event, b"\n\n").count(), 1);
        }
        assert!(event(Operation::Messages, MESSAGE).starts_with(b"event: error\ndata: {\"type\":\"error\""));
    }
}
