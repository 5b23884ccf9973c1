//! Applying manifests of any kind, as `kubectl apply --server-side` does.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{DynamicObject, GroupVersionKind, Patch, PatchParams},
    discovery::{ApiResource, Scope, pinned_kind},
    runtime::{conditions, wait::await_condition},
};
use serde_json::Value;

const FIELD_MANAGER: &str = "kthena-tests";

/// The documents of a YAML text as kubectl reads it; empty ones are left out, `List`s are opened.
pub fn documents(yaml: &str) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    for mut document in kthena_api::yaml::read(yaml).context("reading YAML")? {
        let is_list = document["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"));
        match document.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => found.extend(items),
            Some(items) => {
                document["items"] = items;
                found.push(document);
            }
            None => found.push(document),
        }
    }
    Ok(found)
}

/// Applies all documents in order. Objects without a namespace go to `namespace`; after a CRD, its kind can be used at once.
pub(super) async fn apply(
    client: &Client,
    namespace: &str,
    documents: Vec<Value>,
) -> Result<Vec<DynamicObject>> {
    let mut known: Vec<(GroupVersionKind, ApiResource, Scope)> = Vec::new();
    let mut applied = Vec::new();
    for document in documents {
        let mut object: DynamicObject =
            serde_json::from_value(document).context("a manifest needs apiVersion, kind and metadata")?;
        let types = object
            .types
            .clone()
            .context("a manifest needs apiVersion and kind")?;
        let name = object
            .metadata
            .name
            .clone()
            .with_context(|| format!("a {} without a name", types.kind))?;
        let gvk = GroupVersionKind::try_from(&types).context("understanding apiVersion")?;
        let (resource, scope) = match known.iter().find(|(kind, ..)| *kind == gvk) {
            Some((_, resource, scope)) => (resource.clone(), scope.clone()),
            None => {
                let (resource, capabilities) = pinned_kind(client, &gvk).await.with_context(|| {
                    format!("the cluster does not know {} {}", types.api_version, types.kind)
                })?;
                known.push((gvk, resource.clone(), capabilities.scope.clone()));
                (resource, capabilities.scope)
            }
        };
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client.clone(), &resource),
            Scope::Namespaced => {
                let namespace = object
                    .metadata
                    .namespace
                    .get_or_insert_with(|| namespace.to_owned());
                Api::namespaced_with(client.clone(), namespace, &resource)
            }
        };
        object.metadata.managed_fields = None;
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let result = api.patch(&name, &parameters, &Patch::Apply(&object)).await;
        applied.push(result.with_context(|| format!("applying {} {name}", types.kind))?);
        if types.kind == "CustomResourceDefinition" {
            established(client, &name).await?;
        }
    }
    Ok(applied)
}

/// All YAML files below a folder, in order of their names.
pub fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(yaml_files(&path)?);
        } else if is_yaml(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn is_yaml(file: &Path) -> bool {
    file.extension().is_some_and(|end| end == "yaml" || end == "yml")
}

/// The documents of a file, or of all YAML files of a folder in order of their names.
pub fn documents_at(path: &Path) -> Result<Vec<Value>> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| format!("listing {}", path.display()))?;
        let mut files = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?;
        files.retain(|file| is_yaml(file));
        files.sort();
        let all = files
            .iter()
            .map(|file| documents_at(file))
            .collect::<Result<Vec<_>>>()?;
        return Ok(all.concat());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    documents(&text).with_context(|| format!("in {}", path.display()))
}

async fn established(client: &Client, name: &str) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    let limit = Duration::from_secs(20);
    match tokio::time::timeout(
        limit,
        await_condition(crds, name, conditions::is_crd_established()),
    )
    .await
    {
        Ok(result) => result
            .map(drop)
            .with_context(|| format!("waiting for the kind of {name}")),
        Err(_) => bail!("the API server did not establish {name} within {limit:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn lists_are_opened_and_empty_documents_left_out() {
        let yaml = "
---
# nothing but a comment
---
kind: ConfigMap
metadata: {name: a}
items: [kept]
---
kind: List
items:
- {kind: Secret, metadata: {name: b}}
- {kind: Pod, metadata: {name: c}}
";
        let found = documents(yaml).unwrap();
        let kinds: Vec<_> = found
            .iter()
            .map(|document| document["kind"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["ConfigMap", "Secret", "Pod"]);
        assert_eq!(found[0]["items"][0], "kept");
    }
}
