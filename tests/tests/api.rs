//! `kthena-api` and a real API server are of one mind: about the definitions, about what they accept and about defaults.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use kthena_api::{admission, crd::Kind, schema};
use kthena_tests::{
    cluster::{Cluster, yaml_files},
    setting,
};
use kube::{Api, Client};
use serde_json::{Map, Value, json};

/// The objects of our kinds below a folder, for one namespace and without status, which a creation leaves out.
fn objects(folder: &Path, namespace: &str) -> Result<Vec<(Kind, Value)>> {
    let mut found = Vec::new();
    for path in yaml_files(folder)? {
        let text = fs::read_to_string(&path)?;
        for mut object in kthena_api::yaml::read(&text).with_context(|| path.display().to_string())? {
            if let Some(kind) = Kind::of(&object) {
                object["metadata"]["namespace"] = namespace.into();
                object.as_object_mut().context("an object")?.remove("status");
                found.push((kind, object));
            }
        }
    }
    Ok(found)
}

/// What the API server makes of an object, without keeping it.
async fn create(client: &Client, kind: Kind, namespace: &str, object: &Value) -> Result<Value, kube::Error> {
    let path = format!(
        "/apis/{}/namespaces/{namespace}/{}?dryRun=All&fieldValidation=Strict",
        kind.api_version(),
        kind.plural()
    );
    let request = http::Request::post(path)
        .header("Content-Type", "application/json")
        .body(object.to_string().into());
    client
        .request(request.expect("a request of constants and names"))
        .await
}

/// Asks the API server about every object; it refuses those, and only those, that are annotated so.
async fn compare(folder: &Path) -> Result<usize> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("api").await?;
    let client = cluster.client().await?;
    let objects = objects(folder, space.name())?;
    for (kind, object) in &objects {
        let what = format!("{kind:?} {}", object["metadata"]["name"]);
        let refused_by = object["metadata"]["annotations"]["refused-by"].as_str();
        // The cluster has no webhooks.
        let expected = refused_by.is_none_or(|step| step == "webhook");
        let answer = create(&client, *kind, space.name(), object).await;
        assert_eq!(answer.is_ok(), expected, "{what}: {answer:?}");
        let accepted = admission::review(object).is_some_and(|errors| errors.is_empty());
        assert_eq!(accepted, refused_by.is_none(), "{what}");
        if let Ok(stored) = answer {
            let mut ours = object.clone();
            schema::apply_defaults(*kind, &mut ours);
            let mut differences = Vec::new();
            compare_values(&stored["spec"], &ours["spec"], "spec", &mut differences);
            assert!(differences.is_empty(), "defaults of {what}: {differences:#?}");
        }
    }
    Ok(objects.len())
}

/// Where two values differ.
fn compare_values(theirs: &Value, ours: &Value, path: &str, differences: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            let names: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
            for name in names {
                let member = |of: &Map<String, Value>| of.get(name).cloned().unwrap_or_default();
                compare_values(
                    &member(theirs),
                    &member(ours),
                    &format!("{path}.{name}"),
                    differences,
                );
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                compare_values(theirs, ours, &format!("{path}[{index}]"), differences);
            }
        }
        _ if theirs == ours => {}
        _ => differences.push(format!("{path}: {theirs} there, {ours} here")),
    }
}

fn api_tests() -> PathBuf {
    setting::checkout().join("kthena-api/tests")
}

#[tokio::test]
async fn good_objects_are_accepted_with_the_same_defaults() -> Result<()> {
    assert!(compare(&api_tests().join("objects")).await? > 0);
    Ok(())
}

#[tokio::test]
async fn bad_objects_are_refused_by_both() -> Result<()> {
    assert!(compare(&api_tests().join("refused")).await? > 0);
    Ok(())
}

#[tokio::test]
async fn published_objects_are_accepted_with_the_same_defaults() -> Result<()> {
    let Some(shared) = setting::shared_dir() else {
        println!("skipped: KTHENA_SHARED is not set");
        return Ok(());
    };
    assert!(compare(&shared.join("manifests")).await? > 0);
    Ok(())
}

#[tokio::test]
async fn roles_are_shared_by_those_who_apply_them() -> Result<()> {
    let cluster = Cluster::shared().await?;
    let space = cluster.namespace("roles").await?;
    let servings: Api<kthena_api::ModelServing> = Api::namespaced(cluster.client().await?, space.name());
    let object = |roles: Value| {
        json!({
            "apiVersion": "workload.serving.volcano.sh/v1alpha1",
            "kind": "ModelServing",
            "metadata": { "name": "it" },
            "spec": { "template": { "roles": roles } },
        })
    };
    let written = object(
        json!([{ "name": "prefill", "entryTemplate": {} }, { "name": "decode", "entryTemplate": {} }]),
    );
    let scaled = object(json!([{ "name": "decode", "replicas": 5 }]));
    for (who, object) in [("user", &written), ("scaler", &scaled), ("user", &written)] {
        servings
            .patch(
                "it",
                &kube::api::PatchParams::apply(who),
                &kube::api::Patch::Apply(object),
            )
            .await?;
    }
    let roles = servings.get("it").await?.spec.template.roles;
    assert_eq!(
        roles.iter().map(|role| role.replicas).collect::<Vec<_>>(),
        [Some(1), Some(5)]
    );
    Ok(())
}
