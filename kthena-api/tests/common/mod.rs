//! What the tests of this folder share.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use kthena_api::{
    AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing, crd::Kind,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// A folder of this crate.
pub(crate) fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The project's material that is not part of the repository, where `KTHENA_SHARED` says that it is at hand. CI sets it.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("KTHENA_SHARED") else {
        println!("skipped: KTHENA_SHARED is not set");
        return None;
    };
    Some(PathBuf::from(root).join(path))
}

/// All YAML files below a folder, in order.
pub(crate) fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("a folder can be read").path()) {
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The documents of a YAML text, as `kthena_api::yaml` reads them; that is behind a feature.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let documents = serde_saphyr::from_multiple_with_options(text, options);
    let mut documents: Vec<Value> = documents.unwrap_or_else(|error| panic!("{error}\n{text}"));
    documents.retain(|document| !document.is_null());
    documents
        .iter_mut()
        .for_each(kthena_api::schema::integral_numbers);
    documents
}

/// The documents of a file.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    documents(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Decodes and encodes an object as its type.
pub(crate) fn through_type(kind: Kind, object: &Value) -> Result<Value, serde_json::Error> {
    fn through<K: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, serde_json::Error> {
        serde_json::to_value(serde_json::from_value::<K>(object.clone())?)
    }
    match kind {
        Kind::ModelServing => through::<ModelServing>(object),
        Kind::ModelBooster => through::<ModelBooster>(object),
        Kind::AutoscalingPolicy => through::<AutoscalingPolicy>(object),
        Kind::ModelRoute => through::<ModelRoute>(object),
        Kind::ModelServer => through::<ModelServer>(object),
        Kind::ExternalModelProvider => through::<ExternalModelProvider>(object),
    }
}

/// Removes empty lists and maps, which mean the same as absent ones.
pub(crate) fn without_empty(value: &Value, schema: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let of_member = |name: &str| {
                let named = schema
                    .get("properties")
                    .and_then(|properties| properties.get(name));
                named
                    .or_else(|| schema.get("additionalProperties"))
                    .unwrap_or(&Value::Null)
            };
            let is_empty = |value: &Value, schema: &Value| match value {
                Value::Array(items) => items.is_empty(),
                Value::Object(members) => members.is_empty() && schema.get("additionalProperties").is_some(),
                _ => false,
            };
            let members = members
                .iter()
                .filter(|(name, member)| !is_empty(member, of_member(name)))
                .map(|(name, member)| (name.clone(), without_empty(member, of_member(name))));
            Value::Object(members.collect())
        }
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or(&Value::Null);
            items.iter().map(|item| without_empty(item, schema)).collect()
        }
        other => other.clone(),
    }
}
