//! From the OpenAPI document of a kube-apiserver to schemas that a CRD may contain.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// The types that ours embed; what they refer to comes along.
const ROOTS: [&str; 2] = ["io.k8s.api.core.v1.PodSpec", "io.k8s.api.core.v1.ObjectReference"];

const REFERENCE: &str = "#/components/schemas/";

/// What the API server's own CRDs, and those of controller-gen, say about quantities.
const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// The schemas, with references among them as `$ref: <name>`, one type per line.
pub(super) fn extract(document: &Value, version: Option<&str>) -> Result<String> {
    let version = version
        .or(document["info"]["version"].as_str())
        .unwrap_or_default();
    let version = version.strip_prefix('v').unwrap_or(version);
    ensure!(
        version.starts_with(|c: char| c.is_ascii_digit()),
        "the document does not tell its version of Kubernetes; give it by --kubernetes"
    );
    let mut schemas = collect(document)?;
    adjust(&mut schemas)?;
    Ok(render(&format!("v{version}"), &schemas))
}

/// The types that ours embed and everything they refer to, by name.
fn collect(document: &Value) -> Result<BTreeMap<String, Value>> {
    let all = document["components"]["schemas"]
        .as_object()
        .context("the document has no components.schemas")?;
    let mut schemas = BTreeMap::new();
    let mut queue: Vec<String> = ROOTS.iter().map(|&root| root.to_owned()).collect();
    let mut seen: BTreeSet<String> = queue.iter().cloned().collect();
    while let Some(name) = queue.pop() {
        let schema = all
            .get(&name)
            .with_context(|| format!("the document has no {name}"))?;
        let mut references = Vec::new();
        let mut converted = convert(schema, &mut references).with_context(|| format!("converting {name}"))?;
        converted.sort_all_objects();
        let short = short(&name);
        ensure!(
            schemas.insert(short.to_owned(), converted).is_none(),
            "two types are called {short}"
        );
        queue.extend(
            references
                .into_iter()
                .filter(|reference| seen.insert(reference.clone())),
        );
    }
    Ok(schemas)
}

/// Where the CRDs that users know differ from the API server's document.
fn adjust(schemas: &mut BTreeMap<String, Value>) -> Result<()> {
    // Repeated addresses are accepted.
    let aliases = node(schemas, "PodSpec", "/properties/hostAliases")?;
    aliases.remove("x-kubernetes-list-type");
    aliases.remove("x-kubernetes-list-map-keys");
    // Two defaults come from constants, which controller-gen did not resolve.
    for property in ["/properties/cachingMode", "/properties/kind"] {
        node(schemas, "AzureDiskVolumeSource", property)?.remove("default");
    }
    // A reference by name is replaced as a whole, also where other fields stand beside the name.
    for name in [
        "ConfigMapEnvSource",
        "ConfigMapProjection",
        "ConfigMapVolumeSource",
        "SecretEnvSource",
        "SecretProjection",
    ] {
        node(schemas, name, "")?.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
    Ok(())
}

fn node<'a>(
    schemas: &'a mut BTreeMap<String, Value>,
    name: &str,
    pointer: &str,
) -> Result<&'a mut Map<String, Value>> {
    let node = schemas
        .get_mut(name)
        .and_then(|schema| schema.pointer_mut(pointer));
    node.and_then(Value::as_object_mut)
        .with_context(|| format!("there is no {name}{pointer}"))
}

fn render(version: &str, schemas: &BTreeMap<String, Value>) -> String {
    let mut text = format!("{{\n\"kubernetes\": {},\n\"schemas\": {{", json!(version));
    for (index, (name, schema)) in schemas.iter().enumerate() {
        let separator = if index == 0 { "\n" } else { ",\n" };
        text.push_str(&format!("{separator}{}: {schema}", json!(name)));
    }
    text.push_str("\n}\n}\n");
    text
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// One schema without descriptions, enumerations and the marks of other clients, and without the defaults that only
/// express Go's zero values.
fn convert(schema: &Value, references: &mut Vec<String>) -> Result<Value> {
    let schema = schema.as_object().context("a schema is not an object")?;
    if let Some(reference) = reference(schema)? {
        return Ok(well_known(reference).unwrap_or_else(|| {
            references.push(reference.to_owned());
            json!({ "$ref": short(reference) })
        }));
    }
    let required: BTreeSet<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut out = Map::new();
    for (key, value) in schema {
        match key.as_str() {
            "description"
            | "enum"
            | "x-kubernetes-unions"
            | "x-kubernetes-patch-strategy"
            | "x-kubernetes-patch-merge-key"
            | "x-kubernetes-group-version-kind" => {}
            "type"
            | "format"
            | "required"
            | "default"
            | "x-kubernetes-list-type"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type" => {
                out.insert(key.clone(), value.clone());
            }
            "items" | "additionalProperties" => {
                let mut value = convert(value, references)?;
                remove_default(&mut value);
                out.insert(key.clone(), value);
            }
            "properties" => {
                let mut properties = Map::new();
                for (name, value) in value.as_object().context("properties are not an object")? {
                    let mut converted =
                        convert(value, references).with_context(|| format!("property {name}"))?;
                    if required.contains(name.as_str()) || converted.get("default") == Some(&json!({})) {
                        remove_default(&mut converted);
                    }
                    properties.insert(name.clone(), converted);
                }
                out.insert(key.clone(), properties.into());
            }
            other => bail!("unknown keyword {other}"),
        }
    }
    Ok(out.into())
}

fn remove_default(schema: &mut Value) {
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("default");
    }
}

/// What a schema refers to: by itself, or wrapped so that it may carry a description.
fn reference(schema: &Map<String, Value>) -> Result<Option<&str>> {
    let target = match schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([only]) => only.get("$ref"),
        Some(_) => bail!("allOf with several parts"),
        None => schema.get("$ref"),
    };
    target
        .map(|target| {
            target
                .as_str()
                .and_then(|target| target.strip_prefix(REFERENCE))
                .context("a reference leads elsewhere")
        })
        .transpose()
}

/// Types whose schema in a CRD is not the one in the document.
fn well_known(name: &str) -> Option<Value> {
    match short(name) {
        "Quantity" => Some(json!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "pattern": QUANTITY_PATTERN,
            "x-kubernetes-int-or-string": true,
        })),
        "IntOrString" => Some(json!({
            "anyOf": [{ "type": "integer" }, { "type": "string" }],
            "x-kubernetes-int-or-string": true,
        })),
        "Time" => Some(json!({ "type": "string", "format": "date-time" })),
        // Of a volume claim's metadata, labels and annotations reach the claim.
        "ObjectMeta" => {
            let map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
            Some(json!({ "type": "object", "properties": { "annotations": map, "labels": map } }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "info": { "version": "v1.2.3" },
            "components": { "schemas": {
                "io.k8s.api.core.v1.PodSpec": {
                    "type": "object",
                    "description": "A long text.",
                    "required": ["containers"],
                    "properties": {
                        "containers": {
                            "type": "array",
                            "items": { "default": {}, "allOf": [{ "$ref": "#/components/schemas/io.k8s.api.core.v1.Container" }] },
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "x-kubernetes-patch-strategy": "merge",
                        },
                    },
                },
                "io.k8s.api.core.v1.Container": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {
                        "name": { "type": "string", "default": "" },
                        "protocol": { "type": "string", "default": "TCP", "enum": ["TCP"] },
                        "cpu": { "$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity" },
                    },
                },
                "io.k8s.api.core.v1.ObjectReference": { "type": "object" },
            } },
        })
    }

    #[test]
    fn real_defaults_stay_and_zero_values_go() {
        let schemas = collect(&document()).unwrap();
        assert_eq!(
            schemas["Container"],
            json!({
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": { "type": "string" },
                    "protocol": { "type": "string", "default": "TCP" },
                    "cpu": {
                        "anyOf": [{ "type": "integer" }, { "type": "string" }],
                        "pattern": QUANTITY_PATTERN,
                        "x-kubernetes-int-or-string": true,
                    },
                },
            })
        );
        assert_eq!(
            schemas["PodSpec"]["properties"],
            json!({
                "containers": {
                    "type": "array",
                    "items": { "$ref": "Container" },
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                },
            })
        );
    }

    #[test]
    fn what_is_written_is_json() {
        let text = render("v1.2.3", &collect(&document()).unwrap());
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["kubernetes"], "v1.2.3");
        assert_eq!(read["schemas"]["ObjectReference"], json!({ "type": "object" }));
    }

    #[test]
    fn a_document_without_version_needs_one_by_hand() {
        let mut document = document();
        document["info"]["version"] = "unversioned".into();
        let error = extract(&document, None).unwrap_err().to_string();
        assert!(error.contains("--kubernetes"), "{error}");
    }

    #[test]
    fn a_keyword_nobody_thought_of_is_an_error() {
        let mut document = document();
        document["components"]["schemas"]["io.k8s.api.core.v1.Container"]["oneOf"] = json!([]);
        assert!(collect(&document).is_err());
    }
}
