//! The CustomResourceDefinitions, as the charts install them.
//!
//! ```
//! use kthena_api::crd::{self, Kind};
//!
//! let kind = Kind::of(&serde_json::json!({
//!     "apiVersion": "networking.serving.volcano.sh/v1alpha1", "kind": "ModelRoute",
//! })).unwrap();
//! assert_eq!(kind, Kind::ModelRoute);
//! assert_eq!(format!("{}.{}", kind.plural(), kind.group()), kind.definition()["metadata"]["name"]);
//! assert_eq!((kind.name(), kind.api_version().as_str()), ("ModelRoute", "networking.serving.volcano.sh/v1alpha1"));
//! assert_eq!(kind.schema()["type"], "object");
//! assert_eq!(crd::all().len(), Kind::ALL.len());
//! ```

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{CustomResourceExt, Resource};
use serde_json::{Map, Value, json};

use crate::{AutoscalingPolicy, ExternalModelProvider, ModelBooster, ModelRoute, ModelServer, ModelServing};

/// One of the six kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A ModelServing.
    ModelServing,
    /// A ModelBooster.
    ModelBooster,
    /// An AutoscalingPolicy.
    AutoscalingPolicy,
    /// A ModelRoute.
    ModelRoute,
    /// A ModelServer.
    ModelServer,
    /// An ExternalModelProvider.
    ExternalModelProvider,
}

static DEFINITIONS: LazyLock<[Value; 6]> = LazyLock::new(|| Kind::ALL.map(definition));

// === impl Kind ===

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::ModelServing,
        Self::ModelBooster,
        Self::AutoscalingPolicy,
        Self::ModelRoute,
        Self::ModelServer,
        Self::ExternalModelProvider,
    ];

    /// The kind that an object says it is of, where it is one of ours.
    pub fn of(object: &Value) -> Option<Self> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let (api_version, kind) = (text("apiVersion")?, text("kind")?);
        Self::ALL
            .into_iter()
            .find(|it| it.name() == kind && it.api_version() == api_version)
    }

    /// Its name, such as `ModelRoute`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ModelServing => "ModelServing",
            Self::ModelBooster => "ModelBooster",
            Self::AutoscalingPolicy => "AutoscalingPolicy",
            Self::ModelRoute => "ModelRoute",
            Self::ModelServer => "ModelServer",
            Self::ExternalModelProvider => "ExternalModelProvider",
        }
    }

    /// Its API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::ModelServing | Self::ModelBooster | Self::AutoscalingPolicy => {
                crate::labels::WORKLOAD_GROUP
            }
            Self::ModelRoute | Self::ModelServer | Self::ExternalModelProvider => {
                crate::labels::NETWORKING_GROUP
            }
        }
    }

    /// Its group and version, as `apiVersion` has them.
    pub fn api_version(self) -> String {
        format!("{}/{}", self.group(), crate::labels::VERSION)
    }

    /// Its plural, as in URLs and RBAC rules.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ModelServing => "modelservings",
            Self::ModelBooster => "modelboosters",
            Self::AutoscalingPolicy => "autoscalingpolicies",
            Self::ModelRoute => "modelroutes",
            Self::ModelServer => "modelservers",
            Self::ExternalModelProvider => "externalmodelproviders",
        }
    }

    /// Its CustomResourceDefinition as JSON.
    pub fn definition(self) -> &'static Value {
        &DEFINITIONS[self as usize]
    }

    /// The schema of its objects.
    pub fn schema(self) -> &'static Value {
        &self.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }
}

/// Every CustomResourceDefinition.
pub fn all() -> Vec<CustomResourceDefinition> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            serde_json::from_value(kind.definition().clone())
                .expect("made from a definition by removing parts")
        })
        .collect()
}

fn definition(kind: Kind) -> Value {
    match kind {
        Kind::ModelServing => published::<ModelServing>(),
        Kind::ModelBooster => published::<ModelBooster>(),
        Kind::AutoscalingPolicy => published::<AutoscalingPolicy>(),
        Kind::ModelRoute => published::<ModelRoute>(),
        Kind::ModelServer => published::<ModelServer>(),
        Kind::ExternalModelProvider => published::<ExternalModelProvider>(),
    }
}

/// The derived definition in the form that users of the published one rely on.
fn published<K: CustomResourceExt + Resource<DynamicType = ()>>() -> Value {
    let mut definition = serde_json::to_value(K::crd()).expect("a definition is JSON");
    definition["spec"]["names"]["listKind"] = format!("{}List", K::kind(&())).into();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    normalize(schema);
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
    }
    let properties = &mut schema["properties"];
    properties["apiVersion"] = json!({
        "type": "string",
        "description": "Group and version of the kind.",
    });
    properties["kind"] = json!({ "type": "string", "description": "Name of the kind." });
    properties["metadata"] = json!({ "type": "object" });
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema.take();
    definition.sort_all_objects();
    definition
}

/// Optional fields are absent or have a value; they are never null. Bounds of integers are integers.
fn normalize(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("nullable");
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            unwrap_optional(object);
            if object.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
                object.insert(
                    "anyOf".to_owned(),
                    json!([{ "type": "integer" }, { "type": "string" }]),
                );
            }
            if let Some(Value::String(description)) = object.get_mut("description") {
                *description = paragraphs(description);
            }
            for (key, value) in object.iter_mut() {
                if let ("minimum" | "maximum", Some(bound)) = (key.as_str(), value.as_f64())
                    && bound.fract() == 0.0
                {
                    *value = Value::from(bound as i64);
                }
                normalize(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

/// Joins the lines of each paragraph, which were broken for the source file and not for `kubectl explain`.
fn paragraphs(description: &str) -> String {
    let paragraphs: Vec<_> = description
        .split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect();
    paragraphs.join("\n\n")
}

/// `anyOf: [<schema>, null]` becomes the schema.
fn unwrap_optional(object: &mut Map<String, Value>) {
    let Some(Value::Array(options)) = object.get("anyOf") else {
        return;
    };
    let is_null = |option: &Value| option.get("enum") == Some(&json!([null]));
    if let [Value::Object(inner), other] = options.as_slice()
        && is_null(other)
    {
        let inner = inner.clone();
        object.remove("anyOf");
        for (key, value) in inner {
            object.entry(key).or_insert(value);
        }
    }
}
