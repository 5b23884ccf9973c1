//! The official OpenAI clients: what their users get through the proxy is what they get from a plain engine.

use anyhow::{Context, Result, bail, ensure};
use kthena_tests::clients::{Answer, Client, Language};
use serde_json::{Value, json};

use crate::{compare, matrix::Bed, question::LEFT};

/// Makes all calls with both clients; returns a line for each.
pub(crate) async fn run(bed: &Bed<'_>) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for language in Language::ALL {
        let client = tokio::task::spawn_blocking(move || Client::install(language)).await??;
        for (call, arguments) in calls(language) {
            let about = format!(
                "{language:?}: {call}{}",
                if arguments["stream"] == true {
                    ", streamed"
                } else {
                    ""
                }
            );
            let compared = compared(&client, bed, call, &arguments).await;
            lines.push(format!(
                "  {:<60} {}",
                about,
                compared.with_context(|| format!("{about} {arguments}"))?
            ));
        }
        gives_up(&client, bed)
            .await
            .with_context(|| format!("{language:?} gives up"))?;
        lines.push(format!(
            "  {:<60} both engines are idle",
            format!("{language:?}: gives a stream up")
        ));
    }
    Ok(lines)
}

/// What is asked; each language asks something else, so that no engine has computed it before.
fn calls(language: Language) -> Vec<(&'static str, Value)> {
    let text = |what: &str| {
        format!(
            "{language:?} asks for {what}. {}",
            "Grant the License to any work, please. ".repeat(8)
        )
    };
    let chat = |what: &str, model: &str| {
        let messages = json!([{"role": "user", "content": text(what)}]);
        json!({"model": model, "messages": messages, "max_tokens": 12, "temperature": 0})
    };
    let completion =
        json!({"model": "tiny", "prompt": text("a completion"), "max_tokens": 12, "temperature": 0});
    let response =
        json!({"model": "tiny", "input": text("a response"), "max_output_tokens": 12, "temperature": 0});
    let mut streamed = [
        chat("a streamed chat", "tiny"),
        completion.clone(),
        response.clone(),
    ];
    streamed.iter_mut().for_each(|body| body["stream"] = true.into());
    streamed[0]["stream_options"] = json!({"include_usage": true});
    streamed[1]["prompt"] = text("a streamed completion").into();
    streamed[2]["input"] = text("a streamed response").into();
    let [chat_streamed, completion_streamed, response_streamed] = streamed;
    let mut wrong = chat("too much heat", "tiny");
    wrong["temperature"] = 9.into();
    vec![
        ("chat.completions.create", chat("a chat", "tiny")),
        ("chat.completions.create", chat_streamed),
        ("completions.create", completion),
        ("completions.create", completion_streamed),
        ("responses.create", response),
        ("responses.create", response_streamed),
        ("chat.completions.create", wrong),
        ("chat.completions.create", chat("an unknown model", "absent")),
    ]
}

async fn compared(client: &Client, bed: &Bed<'_>, call: &str, arguments: &Value) -> Result<String> {
    let plain = client
        .call(
            &format!("http://{}/v1", bed.plain.address()),
            call,
            arguments.clone(),
        )
        .await?;
    let before = bed.pair.decode.metrics().await?;
    let proxied = client.call(&bed.proxy.base(), call, arguments.clone()).await?;
    if let Ok(failure) = plain.failure() {
        let same = proxied.failure()?;
        ensure!(
            (&failure.class, failure.status) == (&same.class, same.status),
            "the plain engine's error is {failure:?}, the proxy's {same:?}"
        );
        return Ok(format!(
            "both throw {} {:?}",
            same.class,
            same.status.unwrap_or_default()
        ));
    }
    let agreement = match plain.data() {
        Ok(data) => compare::values(data, proxied.data()?, &[]).map(|()| "equal".to_owned()),
        Err(_) => compare::streams(events(&plain)?, events(&proxied)?, &[])
            .map(|_| format!("{} events", proxied.events_so_far().len())),
    };
    match agreement {
        Ok(agreement) => Ok(format!(
            "{agreement}, {} tokens handed over",
            bed.handed_over(&before).await?
        )),
        Err(difference) => bail!("plain | proxied: {difference}"),
    }
}

/// As they are in the stream.
fn events(answer: &Answer) -> Result<Vec<Value>> {
    let events = answer.events()?.iter();
    Ok(events
        .map(|data| json!({"event": data["type"], "data": data}))
        .collect())
}

/// A client that closes its stream is heard by both engines.
async fn gives_up(client: &Client, bed: &Bed<'_>) -> Result<()> {
    let language = client.language();
    let mut arguments = json!({
        "model": "tiny", "messages": [{"role": "user", "content": format!("{language:?} goes")}], "stream": true,
        "max_tokens": 1500, "temperature": 0,
    });
    match language {
        Language::Python => arguments["extra_body"] = json!({"ignore_eos": true}),
        // That client sends what it does not know as it is.
        Language::JavaScript => arguments["ignore_eos"] = true.into(),
    }
    let question = json!({
        "base_url": bed.proxy.base(), "call": "chat.completions.create", "arguments": arguments, "abort_after": 3,
        "options": {"headers": {"X-Request-Id": format!("{LEFT}{language:?}")}},
    });
    let answer = client.request(question).await?;
    ensure!(answer.is_aborted(), "the stream ended by itself: {answer:?}");
    bed.pair.until_idle().await
}
