//! Checks of a ModelRoute.

use super::{Validate, broken, spec};
use crate::{
    cel,
    field::{FieldError, FieldErrors, FieldPath},
    model_route::{ModelMatch, ModelRoute, RouteRule, StringMatch, TargetModel},
    pattern,
};

impl Validate for ModelRoute {
    fn check_rules(&self, old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        if !matches_something(self) {
            broken(&mut errors, spec(), "object", cel::ROUTE_MATCHES_SOMETHING);
        }
        let names = (
            self.spec.model_name.as_ref(),
            old.and_then(|old| old.spec.model_name.as_ref()),
        );
        if let (Some(new), Some(old)) = names
            && new != old
        {
            errors.invalid(
                spec().child("modelName"),
                new.as_str(),
                cel::MODEL_NAME_IS_IMMUTABLE.message,
            );
        }
        for (rule, path) in rules(self) {
            for (index, target) in rule.target_models.iter().enumerate() {
                if target.target().is_none() {
                    let path = path.child("targetModels").index(index);
                    broken(&mut errors, path, "object", cel::ONE_TARGET);
                }
            }
        }
        errors.into_vec()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        if !matches_something(self) {
            errors.required(
                spec(),
                "modelName or loraAdapters must say which requests are meant",
            );
        }
        for (index, adapter) in self.spec.lora_adapters.iter().enumerate() {
            if adapter.is_empty() {
                errors.invalid(
                    spec().child("loraAdapters").index(index),
                    "",
                    "lora adapter name cannot be an empty string",
                );
            }
        }
        for (rule, path) in rules(self) {
            let path_of_targets = path.child("targetModels");
            if rule.target_models.is_empty() {
                errors.required(path_of_targets, "a rule needs a target");
                continue;
            }
            for (index, target) in rule.target_models.iter().enumerate() {
                check_target(&path_of_targets.index(index), target, self, &mut errors);
            }
            if rule
                .target_models
                .iter()
                .all(|target| target.effective_weight() == 0)
            {
                errors.invalid(
                    path_of_targets,
                    0,
                    "at least one target must have a weight above zero",
                );
            }
            if let Some(condition) = &rule.model_match {
                check_model_match(&path.child("modelMatch"), condition, &mut errors);
            }
        }
        let unit = self
            .spec
            .rate_limit
            .as_ref()
            .and_then(|limit| limit.unit.as_ref());
        errors.known(spec().child("rateLimit").child("unit"), unit);
        errors.into_vec()
    }
}

fn matches_something(route: &ModelRoute) -> bool {
    route
        .spec
        .model_name
        .as_ref()
        .is_some_and(|name| !name.is_empty())
        || !route.spec.lora_adapters.is_empty()
}

fn rules(route: &ModelRoute) -> impl Iterator<Item = (&RouteRule, FieldPath)> {
    let path = spec().child("rules");
    route
        .spec
        .rules
        .iter()
        .enumerate()
        .map(move |(index, rule)| (rule, path.index(index)))
}

fn check_target(path: &FieldPath, target: &TargetModel, route: &ModelRoute, errors: &mut FieldErrors) {
    let server = target.model_server_name.as_deref().unwrap_or_default();
    let provider = target.external_model_provider_name.as_deref().unwrap_or_default();
    if target.target().is_none() {
        let value = format!("{server}/{provider}");
        errors.invalid(path.clone(), value, cel::ONE_TARGET.message);
    }
    if !provider.is_empty() && !route.spec.lora_adapters.is_empty() {
        errors.invalid(
            path.child("externalModelProviderName"),
            provider,
            "an external provider has no LoRA adapters; use a route without loraAdapters",
        );
    }
}

pub(super) fn check_model_match(path: &FieldPath, condition: &ModelMatch, errors: &mut FieldErrors) {
    for (name, header) in &condition.headers {
        check_regex(&path.child("headers").key(name), header, errors);
    }
    if let Some(uri) = &condition.uri {
        check_regex(&path.child("uri"), uri, errors);
    }
}

fn check_regex(path: &FieldPath, condition: &StringMatch, errors: &mut FieldErrors) {
    if let Some(regex) = &condition.regex
        && let Err(error) = pattern::compile(regex)
    {
        errors.invalid(path.child("regex"), regex.as_str(), error.to_string());
    }
}

#[cfg(test)]
mod tests;
