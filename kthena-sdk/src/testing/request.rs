//! What is asked of the API server.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::refusal::Refusal;

/// What a request does, as RBAC and audit logs call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads all objects that a selector takes.
    List,
    /// Follows objects.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes parts of an object, or makes one by server-side apply.
    Patch,
    /// Removes an object.
    Delete,
    /// Removes all objects that a selector takes.
    DeleteCollection,
}

impl Verb {
    /// As RBAC has it.
    ///
    /// ```
    /// use kthena_sdk::testing::Verb;
    ///
    /// assert_eq!(Verb::DeleteCollection.as_str(), "deletecollection");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// Whether it may change something.
    ///
    /// ```
    /// use kthena_sdk::testing::Verb;
    ///
    /// assert!(Verb::Patch.is_write());
    /// assert!(!Verb::Watch.is_write());
    /// ```
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// A request that was made of a [`FakeApi`](super::FakeApi).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use kthena_sdk::api::ModelServing;
/// use kthena_sdk::kube::Api;
/// use kthena_sdk::testing::{FakeApi, Verb};
///
/// let api = FakeApi::new();
/// let servings = Api::<ModelServing>::namespaced(api.client(), "default");
/// assert!(servings.get("llama").await.is_err());
///
/// let request = &api.requests()[0];
/// assert_eq!((request.verb, request.answer), (Verb::Get, Some(404)));
/// assert_eq!(request.to_string(), "get modelservings default/llama");
/// # });
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What it does.
    pub verb: Verb,
    /// The API group; empty for the core one.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The resource, which is the plural of the kind.
    pub resource: String,
    /// What of the object it is about, such as `status`.
    pub subresource: Option<String>,
    /// The namespace; none for kinds without, or for those of all namespaces.
    pub namespace: Option<String>,
    /// The object's name. That of an object which is made comes from the body.
    pub name: Option<String>,
    /// Parameters, such as `labelSelector`.
    pub query: BTreeMap<String, String>,
    /// How a patch is meant.
    pub content_type: String,
    /// What was sent; null for nothing.
    pub body: Value,
    /// HTTP status of the answer; none as long as there is none, or where it never arrived.
    pub answer: Option<u16>,
}

impl Request {
    /// Reads a request from its parts.
    pub(super) fn of(head: &http::request::Parts, body: &[u8]) -> Result<Self, Refusal> {
        let path = head.uri.path();
        let unknown = || Refusal::not_found(format!("nothing is served at {path}"));
        let mut parts = path.trim_matches('/').split('/');
        let (group, version) = match parts.next() {
            Some("api") => ("", parts.next().ok_or_else(unknown)?),
            Some("apis") => {
                let group = parts.next().ok_or_else(unknown)?;
                (group, parts.next().ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        let rest: Vec<&str> = parts.collect();
        let (namespace, rest) = match rest[..] {
            // A Namespace itself, or a part of it.
            ["namespaces"] | ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => {
                (None, &rest[..])
            }
            ["namespaces", namespace, ..] => (Some(namespace), &rest[2..]),
            _ => (None, &rest[..]),
        };
        let (resource, name, subresource) = match *rest {
            [resource] => (resource, None, None),
            [resource, name] => (resource, Some(name), None),
            [resource, name, subresource] => (resource, Some(name), Some(subresource)),
            _ => return Err(unknown()),
        };
        let query = head.uri.query().unwrap_or_default().as_bytes();
        let query: BTreeMap<String, String> = form_urlencoded::parse(query).into_owned().collect();
        let watches = query.get("watch").is_some_and(|it| it == "true" || it == "1");
        let verb = match (head.method.as_str(), name) {
            ("GET", Some(_)) => Verb::Get,
            ("GET", None) if watches => Verb::Watch,
            ("GET", None) => Verb::List,
            ("POST", None) => Verb::Create,
            ("PUT", Some(_)) => Verb::Update,
            ("PATCH", Some(_)) => Verb::Patch,
            ("DELETE", Some(_)) => Verb::Delete,
            ("DELETE", None) => Verb::DeleteCollection,
            _ => return Err(Refusal::method_not_allowed(&head.method)),
        };
        let body = match body {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))?,
        };
        let made = |body: &Value| Some(body["metadata"]["name"].as_str()?.to_owned());
        let content_type = head.headers.get(http::header::CONTENT_TYPE);
        Ok(Self {
            verb,
            group: group.to_owned(),
            version: version.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned).or_else(|| made(&body)),
            query,
            content_type: content_type
                .and_then(|it| it.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            body,
            answer: None,
        })
    }

    /// A parameter, where it is given and not empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Whether it was given as a trial that changes nothing.
    pub(super) fn is_dry(&self) -> bool {
        self.parameter("dryRun").is_some()
            || self.body["dryRun"].as_array().is_some_and(|all| !all.is_empty())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb.as_str(), self.resource)?;
        if let Some(subresource) = &self.subresource {
            write!(f, "/{subresource}")?;
        }
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {namespace}/{name}"),
            (Some(only), None) | (None, Some(only)) => write!(f, " {only}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, uri: &str, expected: &str) {
        let (head, ()) = http::Request::builder()
            .method(method)
            .uri(uri)
            .body(())
            .unwrap()
            .into_parts();
        let text = Request::of(&head, b"").map_or_else(|refusal| refusal.message, |it| it.to_string());
        assert_eq!(text, expected);
    }

    #[test]
    fn paths_say_what_is_asked_for() {
        check("GET", "/api/v1/pods", "list pods");
        check("GET", "/api/v1/pods?&watch=true", "watch pods");
        check("GET", "/api/v1/namespaces", "list namespaces");
        check("GET", "/api/v1/namespaces/a", "get namespaces a");
        check(
            "PATCH",
            "/api/v1/namespaces/a/status",
            "patch namespaces/status a",
        );
        check("POST", "/api/v1/namespaces/a/pods", "create pods a");
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/controllerrevisions/b",
            "delete controllerrevisions a/b",
        );
        check(
            "DELETE",
            "/apis/apps/v1/namespaces/a/controllerrevisions",
            "deletecollection controllerrevisions a",
        );
        check("PUT", "/apis/x.io/v1/things/b/status", "update things/status b");
        check("GET", "/version", "nothing is served at /version");
        check("PUT", "/api/v1/pods", "PUT is not supported here");
    }
}
