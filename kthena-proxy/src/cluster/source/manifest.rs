//! Objects as they stand in files: several to a file, defaulted and validated as the API server would.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kthena_api::{ExternalModelProvider, ModelRoute, ModelServer, admission, labels};
use serde_json::Value;

use super::super::objects::{Key, Secret, key_of};

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// An object of a kind that the proxy reads.
#[derive(Debug, Clone)]
pub enum Object {
    /// A ModelRoute.
    Route(Box<ModelRoute>),
    /// A ModelServer.
    Server(Box<ModelServer>),
    /// An ExternalModelProvider.
    Provider(Box<ExternalModelProvider>),
    /// A Secret.
    Secret(Secret),
}

/// Objects by kind.
#[derive(Debug, Default)]
pub struct Sorted {
    /// ModelRoutes.
    pub routes: Vec<ModelRoute>,
    /// ModelServers.
    pub servers: Vec<ModelServer>,
    /// ExternalModelProviders.
    pub providers: Vec<ExternalModelProvider>,
    /// Secrets.
    pub secrets: Vec<Secret>,
}

impl Sorted {
    /// Adds an object to its kind.
    pub fn add(&mut self, object: Object) {
        match object {
            Object::Route(route) => self.routes.push(*route),
            Object::Server(server) => self.servers.push(*server),
            Object::Provider(provider) => self.providers.push(*provider),
            Object::Secret(secret) => self.secrets.push(secret),
        }
    }
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Route(_) => "ModelRoute",
            Self::Server(_) => "ModelServer",
            Self::Provider(_) => "ExternalModelProvider",
            Self::Secret(_) => "Secret",
        }
    }

    /// Its namespace and name.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Route(route) => key_of(&route.metadata),
            Self::Server(server) => key_of(&server.metadata),
            Self::Provider(provider) => key_of(&provider.metadata),
            Self::Secret(secret) => secret.key.clone(),
        }
    }
}

/// Reads all objects of a file. Kinds that the proxy does not use are passed over, so that a folder may hold a whole
/// deployment; anything else that is wrong refuses the file as a whole.
pub fn parse(text: &[u8]) -> Result<Vec<Object>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))?;
    let documents = kthena_api::yaml::read(text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        add(document, &mut objects).map_err(|problem| format!("document {}: {problem}", index + 1))?;
    }
    Ok(objects)
}

fn add(mut document: Value, objects: &mut Vec<Object>) -> Result<(), String> {
    if document.is_null() {
        return Ok(());
    }
    let member = |name: &str| document.get(name).and_then(Value::as_str).map(str::to_owned);
    let (Some(api_version), Some(kind)) = (member("apiVersion"), member("kind")) else {
        return Err("it has no apiVersion or no kind".to_owned());
    };
    if kind == "List" || kind.ends_with("List") && document.get("items").is_some() {
        let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) else {
            return Err(format!("the {kind} has no items"));
        };
        return items.into_iter().try_for_each(|item| add(item, objects));
    }
    let networking = format!("{}/{}", labels::NETWORKING_GROUP, labels::VERSION);
    let object = match (api_version.as_str(), kind.as_str()) {
        (version, "ModelRoute") if version == networking => Object::Route(Box::new(typed(document)?)),
        (version, "ModelServer") if version == networking => Object::Server(Box::new(typed(document)?)),
        (version, "ExternalModelProvider") if version == networking => {
            Object::Provider(Box::new(typed(document)?))
        }
        (version, kind) if version.starts_with(labels::NETWORKING_GROUP) => {
            return Err(format!("{version} {kind} is not a kind that this version knows"));
        }
        ("v1", "Secret") => Object::Secret(secret(document)?),
        _ => return Ok(()),
    };
    if object.key().1.is_empty() {
        return Err(format!("the {} has no metadata.name", object.kind()));
    }
    objects.push(object);
    Ok(())
}

/// Defaults, validates and decodes an object of ours.
fn typed<K>(mut document: Value) -> Result<K, String>
where
    K: admission::Object,
{
    namespace(&mut document);
    let what = format!(
        "{} {}",
        K::KIND.name(),
        document["metadata"]["name"].as_str().unwrap_or_default()
    );
    admission::admit(document, None).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("{what}: {}", errors.join("; "))
    })
}

fn namespace(document: &mut Value) {
    if let Some(meta) = document.get_mut("metadata").and_then(Value::as_object_mut) {
        let namespace = meta.entry("namespace").or_insert(Value::Null);
        if namespace.as_str().is_none_or(str::is_empty) {
            *namespace = DEFAULT_NAMESPACE.into();
        }
    }
}

fn secret(mut document: Value) -> Result<Secret, String> {
    namespace(&mut document);
    let secret: core::Secret =
        serde_json::from_value(document).map_err(|error| format!("Secret: {error}"))?;
    Ok(from_secret(secret))
}

/// The parts of a Secret that the proxy keeps. `stringData` goes before `data`, as it does in the API server.
#[must_use]
pub fn from_secret(secret: core::Secret) -> Secret {
    let mut data: BTreeMap<String, Vec<u8>> = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (name, value.0))
        .collect();
    data.extend(
        secret
            .string_data
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, value.into_bytes())),
    );
    Secret {
        key: key_of(&secret.metadata),
        labels: secret.metadata.labels.unwrap_or_default(),
        data,
    }
}
