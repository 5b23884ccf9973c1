//! Checks of an ExternalModelProvider.

use super::{Validate, broken, spec};
use crate::{
    cel,
    external_model_provider::{ExternalModelProvider, ExternalModelProviderSpec, ProviderAuth},
    field::{FieldError, FieldErrors, FieldPath},
    url,
};

/// Headers that belong to the connection, or to the credential.
const RESERVED_HEADERS: [&str; 13] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "host",
    "content-length",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "trailer",
    "te",
];

impl Validate for ExternalModelProvider {
    fn check_rules(&self, _old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        if let Some(auth) = &self.spec.auth
            && auth.secret_ref.optional == Some(true)
        {
            broken(
                &mut errors,
                spec().child("auth"),
                "object",
                cel::CREDENTIAL_IS_NOT_OPTIONAL,
            );
        }
        errors.into_vec()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        let provider_type = self
            .spec
            .provider_type
            .as_ref()
            .filter(|it| !it.as_str().is_empty());
        errors.known(spec().child("providerType"), provider_type);
        check_base_url(&self.spec, &mut errors);
        for (name, value) in &self.spec.headers {
            check_header(&spec().child("headers").key(name), name, value, &mut errors);
        }
        if let Some(auth) = &self.spec.auth {
            check_auth(&spec().child("auth"), auth, &mut errors);
        }
        errors.into_vec()
    }
}

/// Checks what the data plane checks before it uses a provider: all that [`Validate::validate`] does, and two things
/// that admission lets through for the sake of objects that exist, a bare `?` or `#` behind the URL and control
/// characters in header values.
///
/// ```
/// use kthena_api::ExternalModelProvider;
/// use kthena_api::validation::check_configuration;
///
/// let provider: ExternalModelProvider = serde_json::from_value(serde_json::json!({
///     "metadata": { "name": "other" },
///     "spec": { "providerType": "openai", "baseURL": "https://api.example.com/v1?" },
/// }))?;
/// assert!(check_configuration(&provider).iter().any(|error| error.path.as_str() == "spec.baseURL"));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn check_configuration(provider: &ExternalModelProvider) -> Vec<FieldError> {
    let mut errors = FieldErrors::new();
    errors.extend(provider.validate());
    if let Ok(url) = url::parse(&provider.spec.base_url)
        && (url.query == Some("") || url.fragment == Some(""))
    {
        let detail = "must not end with '?' or '#'";
        errors.invalid(spec().child("baseURL"), provider.spec.base_url.as_str(), detail);
    }
    for (name, value) in &provider.spec.headers {
        let control = |c: char| c.is_ascii_control() && !matches!(c, '\t' | '\r' | '\n');
        if value.contains(control) {
            let path = spec().child("headers").key(name);
            errors.invalid(path, value.as_str(), "must not contain control characters");
        }
    }
    errors.into_vec()
}

fn check_base_url(spec: &ExternalModelProviderSpec, errors: &mut FieldErrors) {
    let is_set = |part: Option<&str>| part.is_some_and(|part| !part.is_empty());
    let detail = match url::parse(&spec.base_url) {
        Err(error) => format!("must be an https:// URL; this one {error}"),
        Ok(url) if !url.scheme.eq_ignore_ascii_case("https") || url.host.is_empty() => {
            "must be an https:// URL with a host".to_owned()
        }
        Ok(url) if url.user.is_some() || is_set(url.query) || is_set(url.fragment) => {
            "must not contain a user, a query or a fragment".to_owned()
        }
        Ok(_) => return,
    };
    errors.invalid(super::spec().child("baseURL"), spec.base_url.as_str(), detail);
}

fn check_header(path: &FieldPath, name: &str, value: &str, errors: &mut FieldErrors) {
    if !is_token(name) {
        errors.invalid(path.clone(), name, "is not the name of an HTTP header");
        return;
    }
    if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        errors.invalid(
            path.clone(),
            name,
            "is set by the proxy; credentials belong into auth",
        );
    }
    if value.contains(['\r', '\n']) {
        errors.invalid(path.clone(), value, "must not contain line breaks");
    }
}

/// As in RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn check_auth(path: &FieldPath, auth: &ProviderAuth, errors: &mut FieldErrors) {
    let scheme = auth.scheme.as_ref().filter(|it| !it.as_str().is_empty());
    errors.known(path.child("scheme"), scheme);
    let path = path.child("secretRef");
    if auth.secret_ref.name().is_empty() {
        errors.required(path.child("name"), "name the Secret");
    }
    if auth.secret_ref.key.is_empty() {
        errors.required(path.child("key"), "name the key in the Secret");
    }
    if auth.secret_ref.optional == Some(true) {
        errors.invalid(
            path.child("optional"),
            true,
            cel::CREDENTIAL_IS_NOT_OPTIONAL.message,
        );
    }
}

#[cfg(test)]
mod tests;
