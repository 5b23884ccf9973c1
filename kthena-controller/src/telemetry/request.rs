//! What a request to the API server is about, as RBAC and audit logs call it.

use std::fmt::Write;

use http::{Method, Uri};

/// A verb, and a resource with its subresource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) verb: &'static str,
    pub(super) resource: String,
}

impl Subject {
    /// Reads a request line.
    pub(super) fn of(method: &Method, uri: &Uri) -> Self {
        let mut parts = uri.path().split('/').filter(|part| !part.is_empty()).peekable();
        let place = match parts.next() {
            Some("api") => parts.next(),
            Some("apis") => parts.next().and_then(|_group| parts.next()),
            _ => None,
        };
        let mut resource = place.and_then(|_version| parts.next());
        let mut name = parts.next();
        // Namespaces are objects themselves, and stand before others.
        if resource == Some("namespaces") && parts.peek().is_some_and(|next| !is_of_namespace(next)) {
            resource = parts.next();
            name = parts.next();
        }
        let Some(resource) = resource else {
            return Self {
                verb: verb(method, uri, true),
                resource: "other".to_owned(),
            };
        };
        let mut resource = resource.to_owned();
        if let Some(subresource) = parts.next() {
            // Writing to a string does not fail.
            let _written = write!(resource, "/{subresource}");
        }
        Self {
            verb: verb(method, uri, name.is_some()),
            resource,
        }
    }
}

fn is_of_namespace(part: &str) -> bool {
    matches!(part, "status" | "finalize")
}

fn verb(method: &Method, uri: &Uri, is_one: bool) -> &'static str {
    let is_watch = |query: &str| {
        query
            .split('&')
            .any(|it| matches!(it, "watch=true" | "watch=1" | "watch"))
    };
    match method.as_str() {
        "GET" | "HEAD" if uri.query().is_some_and(is_watch) => "watch",
        "GET" | "HEAD" if is_one => "get",
        "GET" | "HEAD" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if is_one => "delete",
        "DELETE" => "deletecollection",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_called_what_rbac_calls_them() {
        for (method, uri, verb, resource) in [
            ("GET", "/api/v1/pods?labelSelector=a", "list", "pods"),
            (
                "GET",
                "/api/v1/pods?&watch=true&resourceVersion=1",
                "watch",
                "pods",
            ),
            ("POST", "/api/v1/namespaces/ns/pods?", "create", "pods"),
            (
                "DELETE",
                "/api/v1/namespaces/ns/pods?labelSelector=a",
                "deletecollection",
                "pods",
            ),
            ("DELETE", "/api/v1/namespaces/ns/pods/p", "delete", "pods"),
            ("GET", "/api/v1/namespaces/ns/secrets/s", "get", "secrets"),
            ("GET", "/api/v1/namespaces", "list", "namespaces"),
            ("GET", "/api/v1/namespaces/ns", "get", "namespaces"),
            (
                "PUT",
                "/api/v1/namespaces/ns/status",
                "update",
                "namespaces/status",
            ),
            (
                "PUT",
                "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l",
                "update",
                "leases",
            ),
            (
                "PATCH",
                "/apis/workload.serving.volcano.sh/v1alpha1/namespaces/ns/modelservings/m/status?force=true",
                "patch",
                "modelservings/status",
            ),
            (
                "GET",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?&fieldSelector=metadata.name%3Dx",
                "list",
                "customresourcedefinitions",
            ),
            ("GET", "/version", "get", "other"),
            ("GET", "/apis/apps", "get", "other"),
            ("OPTIONS", "/", "other", "other"),
        ] {
            let subject = Subject::of(&method.parse().unwrap(), &uri.parse().unwrap());
            assert_eq!(
                (subject.verb, subject.resource.as_str()),
                (verb, resource),
                "{method} {uri}"
            );
        }
    }
}
