//! A namespace with a kubelet and a proxy for one test.

use std::cell::Cell;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1;
use kthena_sim::{PhaseStats, Stats};
use kthena_tests::{
    cluster::{Cluster, Namespace},
    http::{self, Answer, Coming},
    kubelet::{Kubelet, RunningPod},
    proxy::Proxy,
    wait,
};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::object::{Pod, plain_server, route, split_server};

/// Tokens of an answer, unless a test asks for others.
pub(crate) const TOKENS: u32 = 8;

/// What one test has for itself.
pub(crate) struct Bed {
    pub(crate) proxy: Proxy,
    pub(crate) kubelet: Kubelet,
    pub(crate) space: Namespace,
    pub(crate) cluster: Cluster,
}

impl Bed {
    /// A namespace of the cluster that tests share.
    pub(crate) async fn start(name: &str) -> Result<Self> {
        Self::on(Cluster::shared().await?, name).await
    }

    /// A namespace of a cluster of the test's own.
    pub(crate) async fn on(cluster: &Cluster, name: &str) -> Result<Self> {
        let space = cluster.namespace(name).await?;
        Ok(Self {
            kubelet: Kubelet::on(cluster, &space).start().await?,
            proxy: Proxy::on(cluster, &space).await?,
            cluster: cluster.clone(),
            space,
        })
    }

    /// The model that clients ask for: no other test's.
    pub(crate) fn model(&self) -> &str {
        self.space.name()
    }

    /// A route and a ModelServer called `llm` for prefill and decode pods.
    pub(crate) async fn split(&self) -> Result<()> {
        self.apply(&[
            split_server("llm", "llm"),
            route("llm", self.model(), &[("llm", 100)]),
        ])
        .await
    }

    /// A route and a ModelServer called `llm` for pods that answer whole requests.
    pub(crate) async fn plain(&self) -> Result<()> {
        self.apply(&[
            plain_server("llm", "llm"),
            route("llm", self.model(), &[("llm", 100)]),
        ])
        .await
    }

    /// Applies objects in order, and waits until the proxy has the ModelRoutes and ModelServers among them as they are now.
    pub(crate) async fn apply(&self, objects: &[Value]) -> Result<()> {
        self.apply_in(&self.space, objects).await
    }

    /// [`Bed::apply`] for another namespace.
    pub(crate) async fn apply_in(&self, space: &Namespace, objects: &[Value]) -> Result<()> {
        for object in objects {
            space.apply(&object.to_string()).await?;
        }
        for object in objects {
            let name = object["metadata"]["name"].as_str().context("a name")?;
            let kind = match object["kind"].as_str() {
                Some("ModelRoute") => "modelroutes",
                Some("ModelServer") => "modelservers",
                _ => continue,
            };
            let has_all = |known: &Value| contains(&known["spec"], &object["spec"]);
            self.proxy.until(space, kind, name, has_all).await?;
        }
        Ok(())
    }

    /// Creates pods, or changes their labels.
    pub(crate) async fn pods(&self, pods: &[Pod]) -> Result<()> {
        for pod in pods {
            self.space.apply(&pod.yaml()).await?;
        }
        Ok(())
    }

    /// Creates a pod and waits until its engine answers.
    pub(crate) async fn run(&self, pod: Pod) -> Result<RunningPod> {
        let applied = self.space.apply(&pod.yaml()).await?;
        let name = applied[0].metadata.name.clone().context("a pod has a name")?;
        self.kubelet.until_ready(&self.space, &name).await
    }

    /// Deletes a pod and returns at once; its grace period goes on.
    pub(crate) async fn delete(&self, pod: &str) -> Result<()> {
        let pods = self.space.api::<v1::Pod>().await?;
        pods.delete(pod, &DeleteParams::default()).await?;
        Ok(())
    }

    pub(crate) async fn until_engines(&self, pods: &[&str]) -> Result<()> {
        self.proxy.until_engines(&self.space, "llm", pods).await
    }

    pub(crate) async fn until_split(&self, prefill: &[&str], decode: &[&str]) -> Result<()> {
        self.proxy.until_split(&self.space, "llm", prefill, decode).await
    }

    /// Asks for this test's model.
    pub(crate) async fn ask(&self, prompt: &str) -> Result<Answer> {
        self.ask_for(self.model(), prompt).await
    }

    /// Asks for another model.
    pub(crate) async fn ask_for(&self, model: &str, prompt: &str) -> Result<Answer> {
        http::post(&self.chat_url(), &chat(model, prompt)).await
    }

    /// Asks so many different questions, one after the other. Every answer must be good.
    pub(crate) async fn ask_many(&self, requests: u64) -> Result<()> {
        for number in 0..requests {
            self.ask(&format!("question {number}")).await?.said()?;
        }
        Ok(())
    }

    /// Begins a stream of so many tokens.
    pub(crate) async fn stream(&self, prompt: &str, tokens: u32) -> Result<Coming> {
        let mut body = chat(self.model(), prompt);
        body["stream"] = true.into();
        body["max_tokens"] = tokens.into();
        http::begin(&http::client(), &self.chat_url(), &body).await
    }

    pub(crate) fn chat_url(&self) -> String {
        format!("{}/chat/completions", self.proxy.base())
    }

    /// Asks until an answer is good, for changes whose arrival nothing else tells.
    pub(crate) async fn until_answered(&self, prompt: &str) -> Result<String> {
        wait::until("a good answer", || async {
            Ok(Some(self.ask(prompt).await?.said()?))
        })
        .await
    }
}

/// Does `work` while clients ask, who go on until they see that it is enough. An error of either ends both.
pub(crate) async fn during<T>(
    work: impl Future<Output = Result<()>>,
    clients: impl AsyncFnOnce(&Cell<bool>) -> Result<T>,
) -> Result<T> {
    let enough = Cell::new(false);
    let work = async {
        work.await?;
        enough.set(true);
        Ok(())
    };
    let (asked, ()) = tokio::try_join!(clients(&enough), work)?;
    Ok(asked)
}

/// Whether everything of `part` is in `whole`; lists must be as long.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(key, value)| whole.get(key).is_some_and(|found| contains(found, value))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        _ => whole == part,
    }
}

/// A chat request.
pub(crate) fn chat(model: &str, prompt: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": TOKENS})
}

/// What an engine has counted so far. It counts the end of a request when the answer has left, so the client may be faster.
pub(crate) async fn stats_now(pod: &RunningPod) -> Result<Stats> {
    let answer = http::get(&format!("{}/sim/stats", pod.url())).await?;
    serde_json::from_value(answer.json()?).context("the statistics of an engine")
}

/// What an engine has counted when all requests that it has got are over.
pub(crate) async fn stats(pod: &RunningPod) -> Result<Stats> {
    let what = format!("{} to be done with its requests", pod.name);
    wait::until_value(&what, || stats_now(pod), |stats| stats.in_flight() == 0).await
}

/// How many inference requests an engine has got, whatever for.
pub(crate) async fn received(pod: &RunningPod) -> Result<u64> {
    let stats = stats_now(pod).await?;
    Ok(stats.plain.received + stats.prefill.received + stats.decode.received)
}

/// The models that an engine's chat requests have named, oldest first.
pub(crate) async fn models_asked(pod: &RunningPod) -> Result<Vec<String>> {
    let url = format!("{}/sim/requests?path=/v1/chat/completions", pod.url());
    let requests: Vec<Value> = serde_json::from_value(http::get(&url).await?.json()?)?;
    let model = |request: &Value| {
        let body: Value = serde_json::from_str(request["body"].as_str().context("a body")?)?;
        Ok(body["model"].as_str().context("a model")?.to_owned())
    };
    requests.iter().map(model).collect()
}

/// So many requests were answered, every one by one prefill and one decode engine, and nothing was computed twice.
pub(crate) async fn assert_pairs(
    prefill: &[&RunningPod],
    decode: &[&RunningPod],
    requests: u64,
) -> Result<()> {
    let finished = |count| PhaseStats {
        received: count,
        finished: count,
        ..PhaseStats::default()
    };
    let mut sums = [0, 0];
    for (pods, sum, is_prefill) in [(prefill, 0, true), (decode, 1, false)] {
        for pod in pods {
            let stats = stats(pod).await?;
            let (own, other) = match is_prefill {
                true => (stats.prefill, stats.decode),
                false => (stats.decode, stats.prefill),
            };
            assert_eq!(own, finished(own.received), "{}: {stats:?}", pod.name);
            assert_eq!(
                (other, stats.plain),
                (finished(0), finished(0)),
                "{}: {stats:?}",
                pod.name
            );
            assert_eq!(stats.decode_recomputed, 0, "{}: {stats:?}", pod.name);
            assert_eq!(
                (stats.refused.total(), stats.kv.leaked),
                (0, 0),
                "{}: {stats:?}",
                pod.name
            );
            sums[sum] += own.received;
        }
    }
    assert_eq!(sums, [requests, requests], "prefill and decode requests");
    Ok(())
}
