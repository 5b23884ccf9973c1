//! What a proxy says that it knows: its debug pages.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Proxy;
use crate::{cluster::Namespace, http, wait};

impl Proxy {
    /// An object as the proxy knows it; `kind` is a plural, as in `modelservers`. Null if it does not know it.
    pub async fn object(&self, space: &Namespace, kind: &str, name: &str) -> Result<Value> {
        let url = format!(
            "{}/debug/config_dump/namespaces/{}/{kind}/{name}",
            self.at(2),
            space.name()
        );
        let answer = http::get(&url).await?;
        match answer.status {
            404 => Ok(Value::Null),
            status => {
                ensure!(status == 200, "{url}: {status} {}", answer.text());
                answer.json()
            }
        }
    }

    /// Waits until the proxy knows the object as `accept` wants it.
    pub async fn until(
        &self,
        space: &Namespace,
        kind: &str,
        name: &str,
        accept: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let look = || self.object(space, kind, name);
        let what = format!("the proxy's view of {kind} {}/{name}", space.name());
        wait::until_value(&what, look, accept).await
    }

    /// Waits until the engines of a ModelServer are these pods, in any order.
    pub async fn until_engines(&self, space: &Namespace, server: &str, pods: &[&str]) -> Result<()> {
        let wanted = sorted(pods.iter().map(|pod| format!("{}/{pod}", space.name())));
        let accept = |object: &Value| names(&object["associatedPods"]) == wanted;
        self.until(space, "modelservers", server, accept).await?;
        Ok(())
    }

    /// Waits until the prefill and decode engines of a ModelServer are these pods, in any order.
    pub async fn until_split(
        &self,
        space: &Namespace,
        server: &str,
        prefill: &[&str],
        decode: &[&str],
    ) -> Result<()> {
        let own = |pods: &[&str]| sorted(pods.iter().map(|pod| format!("{}/{pod}", space.name())));
        let wanted = (own(prefill), own(decode));
        let accept = |object: &Value| (names(&object["prefillPods"]), names(&object["decodePods"])) == wanted;
        self.until(space, "modelservers", server, accept).await?;
        Ok(())
    }

    /// One engine of a ModelServer: its address, its requests in flight and its idle connections.
    pub async fn engine(&self, space: &Namespace, server: &str, pod: &str) -> Result<Value> {
        let object = self.object(space, "modelservers", server).await?;
        let name = format!("{}/{pod}", space.name());
        let engines = object["endpoints"].as_array().cloned().unwrap_or_default();
        engines
            .into_iter()
            .find(|engine| engine["name"] == name)
            .with_context(|| format!("{name} is no engine of {object}"))
    }

    /// The names of all models that `GET /v1/models` lists.
    pub async fn models(&self) -> Result<Vec<String>> {
        let list = http::get(&format!("{}/models", self.base())).await?.json()?;
        let models = list["data"].as_array().context("a list of models")?.iter();
        Ok(models
            .filter_map(|model| model["id"].as_str().map(str::to_owned))
            .collect())
    }
}

fn names(list: &Value) -> Vec<String> {
    let names = list.as_array().into_iter().flatten();
    sorted(names.filter_map(|name| name.as_str().map(str::to_owned)))
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}
