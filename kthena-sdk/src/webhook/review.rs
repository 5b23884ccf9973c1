//! From one AdmissionReview to the other.

use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};

use super::{Hook, Request, Verdict};

/// Why a review cannot be answered: an HTTP status 400.
///
/// ```
/// use kthena_sdk::webhook::{Hook, Refusal, Verdict, review};
///
/// let hook = Hook::new("/validate", |_request| Verdict::Allowed);
/// assert!(matches!(review(&hook, "text/plain", b""), Err(Refusal::ContentType(_))));
/// assert!(matches!(review(&hook, "application/json", b"{}"), Err(Refusal::Body(_) | Refusal::NoRequest)));
/// ```
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The media type is not JSON.
    #[error("the content type is {0:?}, not application/json")]
    ContentType(String),
    /// The body is no AdmissionReview of version 1.
    #[error("the body is no AdmissionReview")]
    Body(#[source] serde_json::Error),
    /// There is no request in it.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// The request has no object.
    #[error("the request has no object")]
    NoObject,
}

/// Lets a hook answer an AdmissionReview (`admission.k8s.io/v1`), given as the body of an HTTP request and its content type.
/// Returns the body of the answer.
///
/// ```
/// use kthena_sdk::webhook::{Hook, Verdict, review};
/// use serde_json::{Value, json};
///
/// let hook = Hook::new("/validate", |_request| Verdict::Denied("not today".into()));
/// let question = json!({
///     "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
///     "request": {
///         "uid": "1", "operation": "CREATE", "userInfo": {},
///         "kind": { "group": "", "version": "v1", "kind": "ConfigMap" },
///         "resource": { "group": "", "version": "v1", "resource": "configmaps" },
///         "object": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } },
///     },
/// });
/// let answer = review(&hook, "application/json", question.to_string().as_bytes())?;
/// let answer: Value = serde_json::from_slice(&answer)?;
/// assert_eq!(answer["response"]["allowed"], false);
/// assert_eq!(answer["response"]["status"]["message"], "not today");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn review(hook: &Hook, content_type: &str, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::ContentType(content_type.to_owned()));
    }
    let review: AdmissionReview<DynamicObject> = serde_json::from_slice(body).map_err(Refusal::Body)?;
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|_convert| Refusal::NoRequest)?;
    let value = |object| serde_json::to_value(object).map_err(Refusal::Body);
    let object = value(request.object.as_ref().ok_or(Refusal::NoObject)?)?;
    let old_object = request.old_object.as_ref().map(value).transpose()?;
    let response = AdmissionResponse::from(&request);
    let response = match hook.decide(&Request { object, old_object }) {
        Verdict::Allowed => response,
        Verdict::Denied(message) => response.deny(message),
        Verdict::Patched(patch) => {
            let patch = serde_json::from_value(patch).map_err(Refusal::Body)?;
            match response.with_patch(patch) {
                Ok(response) => response,
                Err(error) => AdmissionResponse::from(&request).deny(error),
            }
        }
    };
    serde_json::to_vec(&response.into_review()).map_err(Refusal::Body)
}
