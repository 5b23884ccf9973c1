//! The official clients against a simulated engine: they install, and their scripts tell what happened.

use anyhow::Result;
use kthena_tests::{
    clients::Client,
    cluster::{Cluster, Namespace},
    kubelet::{Kubelet, RunningPod},
};
use serde_json::{Value, json};

struct Engine {
    pod: RunningPod,
    _kubelet: Kubelet,
}

impl Engine {
    async fn start(name: &str) -> Result<Self> {
        let cluster = Cluster::shared().await?;
        let space: Namespace = cluster.namespace(name).await?;
        let kubelet = Kubelet::on(cluster, &space).start().await?;
        space.apply(POD).await?;
        Ok(Self {
            pod: kubelet.until_ready(&space, "engine").await?,
            _kubelet: kubelet,
        })
    }

    fn base(&self) -> String {
        format!("{}/v1", self.pod.url())
    }
}

fn chat(content: &str, more: Value) -> Value {
    let mut arguments =
        json!({"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 8});
    for (name, value) in more.as_object().into_iter().flatten() {
        arguments[name] = value.clone();
    }
    arguments
}

#[tokio::test]
async fn both_clients_list_models_and_get_the_same_text_whole_and_in_pieces() -> Result<()> {
    let engine = Engine::start("clients").await?;
    let mut texts = Vec::new();
    for client in Client::all().await? {
        let models = client.call(&engine.base(), "models.list", json!({})).await?;
        assert_eq!(models.data()?["data"][0]["id"], "tiny", "{client:?}");

        let whole = client
            .call(
                &engine.base(),
                "chat.completions.create",
                chat("hello", json!({})),
            )
            .await?;
        assert_eq!(whole.data()?["object"], "chat.completion");
        assert!(
            whole
                .header("content-type")
                .unwrap()
                .starts_with("application/json")
        );
        let streamed = chat("hello", json!({"stream": true}));
        let streamed = client
            .call(&engine.base(), "chat.completions.create", streamed)
            .await?;
        assert!(!streamed.is_aborted() && streamed.events()?.len() > 2);
        assert_eq!(streamed.text()?, whole.text()?);
        texts.push(whole.text()?);

        let prompt = json!({"model": "tiny", "prompt": "once", "max_tokens": 4});
        let completion = client.call(&engine.base(), "completions.create", prompt).await?;
        assert!(!completion.text()?.is_empty());
    }
    assert_eq!(texts[0], texts[1]);
    Ok(())
}

#[tokio::test]
async fn both_clients_reach_the_newer_endpoints() -> Result<()> {
    let engine = Engine::start("endpoints").await?;
    for client in Client::all().await? {
        let question = json!({"model": "tiny", "input": "hello", "max_output_tokens": 8});
        let response = client.call(&engine.base(), "responses.create", question).await?;
        assert_eq!(response.data()?["object"], "response", "{client:?}");
        let question = json!({"model": "tiny", "input": "hello", "max_output_tokens": 8, "stream": true});
        let response = client.call(&engine.base(), "responses.create", question).await?;
        let kinds: Vec<_> = response
            .events()?
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            (kinds[0], kinds[kinds.len() - 1]),
            ("response.created", "response.completed"),
            "{client:?}"
        );

        let words = json!({"model": "tiny", "input": ["one", "two"]});
        let vectors = client.call(&engine.base(), "embeddings.create", words).await?;
        assert_eq!(
            vectors.data()?["data"].as_array().map(Vec::len),
            Some(2),
            "{client:?}"
        );

        let weather = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
            "properties": {"place": {"type": "string"}}}}});
        let tools = chat(
            "what is it like outside?",
            json!({"tools": [weather], "max_tokens": 64}),
        );
        let answer = client
            .call(&engine.base(), "chat.completions.create", tools)
            .await?;
        assert!(answer.data()?["choices"][0]["message"].is_object(), "{client:?}");
    }
    Ok(())
}

#[tokio::test]
async fn both_clients_name_errors_alike() -> Result<()> {
    let engine = Engine::start("errors").await?;
    for client in Client::all().await? {
        let unknown = chat("hello", json!({"model": "absent"}));
        let failure = client
            .call(&engine.base(), "chat.completions.create", unknown)
            .await?
            .failure()?;
        assert_eq!(
            (failure.class.as_str(), failure.status),
            ("NotFoundError", Some(404)),
            "{client:?}"
        );
        assert!(failure.message.contains("absent"), "{failure:?}");

        let wrong = chat("hello", json!({"max_tokens": -1}));
        let failure = client
            .call(&engine.base(), "chat.completions.create", wrong)
            .await?
            .failure()?;
        assert_eq!(
            (failure.class.as_str(), failure.status),
            ("BadRequestError", Some(400)),
            "{client:?}"
        );

        let nobody = client
            .call("http://127.0.0.1:9/v1", "models.list", json!({}))
            .await?
            .failure()?;
        assert_eq!(
            (nobody.class.as_str(), nobody.status),
            ("APIConnectionError", None),
            "{client:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn both_clients_give_up_in_the_middle_and_send_long_inputs() -> Result<()> {
    let engine = Engine::start("abort").await?;
    for client in Client::all().await? {
        let arguments = chat("hello", json!({"stream": true, "max_tokens": 10_000}));
        let request = json!({"base_url": engine.base(), "call": "chat.completions.create", "arguments": arguments,
                             "abort_after": 3});
        let answer = client.request(request).await?;
        assert!(answer.is_aborted());
        assert_eq!(answer.events()?.len(), 3);

        let long = chat(&"many words ".repeat(5_000), json!({}));
        let answer = client
            .call(&engine.base(), "chat.completions.create", long)
            .await?;
        assert!(
            answer.data()?["usage"]["prompt_tokens"].as_u64() > Some(5_000),
            "{client:?}"
        );
    }
    Ok(())
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: engine}
spec:
  containers:
  - {name: engine, image: kthena-sim, ports: [{containerPort: 8000}],
     args: [--model, tiny, --eos, never, --task, generate, --task, embed]}
";
