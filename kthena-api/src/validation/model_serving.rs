//! Checks of a ModelServing.

use super::{Validate, broken, spec};
use crate::{
    cel,
    field::{FieldError, FieldErrors, FieldPath},
    int_or_string::{IntOrString, Round},
    labels,
    model_serving::{
        ModelServing, ModelServingSpec, PodTemplate, RecoveryPolicy, Role, RollingUpdateConfiguration,
        RolloutStrategyType,
    },
    name::{self, Serving},
};

impl Validate for ModelServing {
    fn check_rules(&self, old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        let path = spec().child("template");
        let template = &self.spec.template;
        if let Some(old) = old.and_then(|old| old.spec.template.gang_policy.as_ref()) {
            let new = template.gang_policy.as_ref();
            if new.is_none() {
                broken(&mut errors, path.clone(), "object", cel::GANG_POLICY_STAYS);
            }
            let replicas = (
                old.min_role_replicas.as_ref(),
                new.and_then(|new| new.min_role_replicas.as_ref()),
            );
            if let (Some(old), Some(new)) = replicas
                && old != new
            {
                let path = path.child("gangPolicy").child("minRoleReplicas");
                broken(&mut errors, path, "object", cel::MIN_ROLE_REPLICAS_IS_IMMUTABLE);
            }
        }
        let names = || template.roles.iter().map(|role| role.name.as_str());
        if names().any(|name| names().filter(|other| *other == name).count() > 1) {
            broken(
                &mut errors,
                path.child("roles"),
                "array",
                cel::ROLE_NAMES_ARE_UNIQUE,
            );
        }
        errors.into_vec()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        check_name_length(self, &mut errors);
        check_annotations(self, &mut errors);
        check_role_names(&self.spec, &mut errors);
        check_images(&self.spec, &mut errors);
        check_replicas(&self.spec, &mut errors);
        check_group_rollout(&self.spec, &mut errors);
        check_role_rollout(&self.spec, &mut errors);
        check_gang_policy(&self.spec, &mut errors);
        check_workers(&self.spec, &mut errors);
        check_recovery(&self.spec, &mut errors);
        check_known_values(&self.spec, &mut errors);
        errors.into_vec()
    }
}

fn role_path(index: usize) -> FieldPath {
    spec().child("template").child("roles").index(index)
}

fn roles(spec: &ModelServingSpec) -> impl Iterator<Item = (FieldPath, &Role)> {
    spec.template
        .roles
        .iter()
        .enumerate()
        .map(|(index, role)| (role_path(index), role))
}

/// Pods, and Services called like them, must find room for their ordinals within 63 characters.
fn check_name_length(serving: &ModelServing, errors: &mut FieldErrors) {
    let metadata = &serving.metadata;
    let generated = || {
        metadata
            .generate_name
            .as_ref()
            .map(|prefix| format!("{prefix}xxxxx"))
    };
    let name = metadata.name.clone().or_else(generated).unwrap_or_default();
    for role in &serving.spec.template.roles {
        let longest = Serving(&name).longest(
            serving.spec.effective_replicas(),
            &role.name,
            role.effective_replicas(),
            role.effective_worker_replicas(),
        );
        if let Err(error) = name::check_letter_label(&longest) {
            let detail = format!("the name of a pod, such as {longest:?}, {error}");
            errors.invalid(FieldPath::new("metadata").child("name"), name.as_str(), detail);
        }
    }
}

fn check_annotations(serving: &ModelServing, errors: &mut FieldErrors) {
    let annotations = serving.metadata.annotations.as_ref();
    let budget = annotations.and_then(|all| all.get(labels::POD_DISRUPTION_BUDGET));
    if let Some(budget) = budget.filter(|budget| !["true", "false"].contains(&budget.as_str())) {
        let path = FieldPath::new("metadata").child("annotations");
        let path = path.key(labels::POD_DISRUPTION_BUDGET);
        errors.push(FieldError::unsupported(path, budget.as_str(), &["true", "false"]));
    }
}

fn check_role_names(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    for (path, role) in roles(spec) {
        if let Err(error) = name::check_label(&role.name) {
            errors.invalid(path.child("name"), role.name.as_str(), error.to_string());
        }
    }
}

fn check_images(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let mut check = |path: FieldPath, template: &PodTemplate| {
        let path = path.child("spec").child("containers");
        for (index, image) in template.images().enumerate() {
            let image = image.unwrap_or_default();
            if !image.is_empty() && (image.trim().is_empty() || image.contains(' ')) {
                errors.invalid(path.index(index).child("image"), image, "must not contain spaces");
            }
        }
    };
    for (path, role) in roles(spec) {
        check(path.child("entryTemplate"), &role.entry_template);
        if let Some(template) = &role.worker_template {
            check(path.child("workerTemplate"), template);
        }
    }
}

fn check_replicas(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let mut check = |path: FieldPath, replicas: Option<i32>| {
        if replicas.is_none_or(|replicas| replicas < 0) {
            errors.invalid(path, replicas, "must be a number of zero or more");
        }
    };
    check(super::spec().child("replicas"), spec.replicas);
    for (path, role) in roles(spec) {
        check(path.child("replicas"), role.replicas);
    }
    if spec.template.roles.is_empty() {
        let path = super::spec().child("template").child("roles");
        errors.invalid(path, serde_json::json!([]), "must have at least one role");
    }
}

fn check_group_rollout(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let Some(configuration) = spec
        .rollout_strategy
        .as_ref()
        .and_then(|strategy| strategy.rolling_update_configuration.as_ref())
    else {
        return;
    };
    let path = super::spec()
        .child("rolloutStrategy")
        .child("rollingUpdateConfiguration");
    if spec.effective_rollout_type() == &RolloutStrategyType::RoleRollingUpdate {
        errors.forbidden(
            path,
            "with RoleRollingUpdate, set maxUnavailable and partition on the roles",
        );
        return;
    }
    let RollingUpdateConfiguration {
        max_unavailable,
        max_surge,
        partition,
    } = configuration;
    let unavailable_path = path.child("maxUnavailable");
    if let Some(value) = max_unavailable {
        check_count(&unavailable_path, value, errors);
    }
    if let Some(value) = partition {
        check_count(&path.child("partition"), value, errors);
    }
    let replicas = i64::from(spec.effective_replicas());
    let mut surges = false;
    if let Some(value) = max_surge {
        check_count(&path.child("maxSurge"), value, errors);
        surges = value.resolve(replicas, Round::Up).is_ok_and(|count| count > 0);
    }
    if let Some(value) = max_unavailable {
        match value.resolve(replicas, Round::Down) {
            Err(error) => errors.invalid(unavailable_path, value.to_string(), error.to_string()),
            Ok(0) if !surges => {
                errors.invalid(
                    path,
                    "",
                    "maxUnavailable or maxSurge must come to at least 1, or nothing is ever replaced",
                );
            }
            Ok(_) => {}
        }
    }
}

fn check_role_rollout(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let by_role = spec.effective_rollout_type() == &RolloutStrategyType::RoleRollingUpdate;
    for (path, role) in roles(spec) {
        if let Some(partition) = &role.partition {
            let path = path.child("partition");
            check_count(&path, partition, errors);
            if !by_role {
                errors.forbidden(path, "takes effect with RoleRollingUpdate only");
            }
        }
        if by_role && let Some(value) = &role.max_unavailable {
            check_role_unavailable(
                &path.child("maxUnavailable"),
                value,
                role.effective_replicas(),
                errors,
            );
        }
    }
}

fn check_role_unavailable(path: &FieldPath, value: &IntOrString, replicas: i32, errors: &mut FieldErrors) {
    check_count(path, value, errors);
    let detail = match value.resolve(replicas.into(), Round::Down) {
        Err(error) => error.to_string(),
        Ok(0) => "must come to at least 1, or nothing is ever replaced".to_owned(),
        Ok(count) if count > replicas.into() => format!("must not exceed the role's {replicas} replicas"),
        Ok(_) => return,
    };
    errors.invalid(path.clone(), json(value), detail);
}

/// A number of zero and more, or a percentage up to 100.
fn check_count(path: &FieldPath, value: &IntOrString, errors: &mut FieldErrors) {
    let detail = match (value, value.percent()) {
        (_, Err(error)) => error.to_string(),
        (_, Ok(Some(percent))) if percent > 100 => "must not exceed 100%".to_owned(),
        (IntOrString::Int(count), _) if *count < 0 => "must not be negative".to_owned(),
        (IntOrString::Int(count), _) if i32::try_from(*count).is_err() => {
            "must be an integer of 32 bits".to_owned()
        }
        _ => return,
    };
    errors.invalid(path.clone(), json(value), detail);
}

fn json(value: &IntOrString) -> serde_json::Value {
    match value {
        IntOrString::Int(count) => (*count).into(),
        IntOrString::String(text) => text.as_str().into(),
    }
}

fn check_gang_policy(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let policy = spec.template.gang_policy.as_ref();
    let path = super::spec()
        .child("template")
        .child("gangPolicy")
        .child("minRoleReplicas");
    for (name, &least) in policy
        .and_then(|policy| policy.min_role_replicas.as_ref())
        .into_iter()
        .flatten()
    {
        let path = path.key(name);
        match spec.template.roles.iter().find(|role| role.name == *name) {
            None => errors.invalid(path, name.as_str(), "there is no such role"),
            Some(role) if least > role.effective_replicas() => {
                let detail = format!(
                    "must not exceed the role's {} replicas",
                    role.effective_replicas()
                );
                errors.invalid(path, least, detail);
            }
            Some(_) if least < 0 => errors.invalid(path, least, "must not be negative"),
            Some(_) => {}
        }
    }
}

fn check_workers(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    for (path, role) in roles(spec) {
        let workers = role.effective_worker_replicas();
        if workers < 0 {
            errors.invalid(path.child("workerReplicas"), workers, "must not be negative");
        }
        if workers > 0 && role.worker_template.is_none() {
            errors.required(path.child("workerTemplate"), "worker pods need a template");
        }
    }
}

fn check_recovery(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let by_role = spec.effective_rollout_type() == &RolloutStrategyType::RoleRollingUpdate;
    if by_role && spec.effective_recovery_policy() == &RecoveryPolicy::ServingGroupRecreate {
        errors.invalid(
            super::spec().child("rolloutStrategy").child("type"),
            spec.effective_rollout_type().as_str(),
            "replacing single roles does not go with recoveryPolicy ServingGroupRecreate",
        );
    }
}

fn check_known_values(spec: &ModelServingSpec, errors: &mut FieldErrors) {
    let path = super::spec();
    let non_empty = spec
        .recovery_policy
        .as_ref()
        .filter(|policy| !policy.as_str().is_empty());
    errors.known(path.child("recoveryPolicy"), non_empty);
    let type_ = spec
        .rollout_strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_ref());
    let non_empty = type_.filter(|type_| !type_.as_str().is_empty());
    errors.known(path.child("rolloutStrategy").child("type"), non_empty);
    for (index, plugin) in spec.plugins.iter().enumerate() {
        errors.known(
            path.child("plugins").index(index).child("type"),
            plugin.type_.as_ref(),
        );
        let target = plugin.scope.as_ref().and_then(|scope| scope.target.as_ref());
        errors.known(
            path.child("plugins").index(index).child("scope").child("target"),
            target.filter(|target| !target.as_str().is_empty()),
        );
    }
    if let Some(topology) = &spec.template.network_topology {
        let path = path.child("template").child("networkTopology");
        for (name, policy) in [
            ("groupPolicy", &topology.group_policy),
            ("rolePolicy", &topology.role_policy),
        ] {
            let mode = policy.as_ref().and_then(|policy| policy.mode.as_ref());
            errors.known(path.child(name).child("mode"), mode);
        }
    }
}

#[cfg(test)]
mod tests;
