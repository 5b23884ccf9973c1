//! Checks of a target whose roles are scaled each on its own.

use super::{check_metrics, check_sources};
use crate::{
    autoscaling_policy::{DisaggregatedTarget, Metric, RatioConstraint, RoleScaling},
    cel,
    field::{FieldErrors, FieldPath},
    quantity::Quantity,
    validation::broken,
};

fn path() -> FieldPath {
    FieldPath::new("spec").child("disaggregatedTarget")
}

pub(super) fn check_rules(target: &DisaggregatedTarget, errors: &mut FieldErrors) {
    for (name, role) in &target.roles {
        check_sources(
            &path().child("roles").key(name).child("metricSources"),
            &role.metric_sources,
            errors,
        );
    }
    if let Some(ratio) = &target.ratio_constraint {
        if target.roles.len() < 2 {
            broken(errors, path(), "object", cel::RATIO_NEEDS_TWO_ROLES);
        }
        if ratio.numerator_role == ratio.denominator_role {
            broken(
                errors,
                path().child("ratioConstraint"),
                "object",
                cel::RATIO_ROLES_DIFFER,
            );
        }
    }
}

/// `inherited` are the metrics of the policy, which a role without any of its own is scaled by.
pub(super) fn check(target: &DisaggregatedTarget, inherited: &[Metric], errors: &mut FieldErrors) {
    for (name, role) in &target.roles {
        if name.is_empty() {
            errors.invalid(path().child("roles"), "", "a role must have a name");
        }
        check_role(&path().child("roles").key(name), role, inherited, errors);
    }
    if let Some(ratio) = &target.ratio_constraint {
        check_ratio(target, ratio, errors);
    }
}

fn check_role(path: &FieldPath, role: &RoleScaling, inherited: &[Metric], errors: &mut FieldErrors) {
    if role.min_replicas > role.max_replicas {
        let detail = format!("must not exceed maxReplicas, which is {}", role.max_replicas);
        errors.invalid(path.child("minReplicas"), role.min_replicas, detail);
    }
    let metrics = if role.metrics.is_empty() {
        inherited
    } else {
        &role.metrics
    };
    let scaled = !role.is_fixed();
    if scaled && metrics.is_empty() {
        errors.required(
            path.child("metrics"),
            "the role, or the policy, needs a metric to scale by",
        );
    }
    check_metrics(&path.child("metrics"), &role.metrics, errors);
    if !scaled {
        return;
    }
    let sources = path.child("metricSources");
    if !metrics.is_empty() && role.metric_sources.is_empty() {
        errors.invalid(
            sources,
            serde_json::json!({}),
            "tell where the role's metrics are",
        );
        return;
    }
    for name in role
        .metric_sources
        .keys()
        .filter(|name| !metrics.iter().any(|metric| metric.name == **name))
    {
        errors.invalid(sources.key(name), name.as_str(), "is not a metric of the role");
    }
}

fn check_ratio(target: &DisaggregatedTarget, ratio: &RatioConstraint, errors: &mut FieldErrors) {
    let path = path().child("ratioConstraint");
    let (numerator, denominator) = (&ratio.numerator_role, &ratio.denominator_role);
    if numerator == denominator {
        let path = path.child("denominatorRole");
        errors.invalid(path, denominator.as_str(), cel::RATIO_ROLES_DIFFER.message);
    }
    for (field, name) in [("numeratorRole", numerator), ("denominatorRole", denominator)] {
        if !target.roles.contains_key(name) {
            errors.invalid(path.child(field), name.as_str(), "is not one of the roles");
        }
    }
    let mut number = |field: &str, quantity: &Quantity| {
        let parsed = quantity.to_f64();
        if let Err(error) = &parsed {
            errors.invalid(path.child(field), json(quantity), error.to_string());
        }
        parsed.ok()
    };
    let (Some(min), Some(max)) = (
        number("minRatio", &ratio.min_ratio),
        number("maxRatio", &ratio.max_ratio),
    ) else {
        return;
    };
    if min > max {
        errors.invalid(
            path.child("minRatio"),
            json(&ratio.min_ratio),
            "must not exceed maxRatio",
        );
    }
    let shown = || serde_json::to_value(ratio).unwrap_or_default();
    let roles = (target.roles.get(numerator), target.roles.get(denominator));
    if let (Some(over), Some(under)) = roles
        && (over.min_replicas == 0) != (under.min_replicas == 0)
    {
        errors.invalid(
            path.clone(),
            shown(),
            "both roles, or none, may be scaled to zero",
        );
    }
    if !min.is_finite() || !max.is_finite() {
        errors.invalid(path, shown(), "both ratios must be finite");
    } else if min < 0.0 || max <= 0.0 {
        errors.invalid(
            path,
            shown(),
            "minRatio must not be negative, and maxRatio must be above zero",
        );
    } else if let (Some(over), Some(under)) = roles {
        check_reachable(&path, shown(), (min, max), over, under, errors);
    }
}

/// Whether any numbers of instances within the bounds of both roles have an allowed ratio.
fn check_reachable(
    path: &FieldPath,
    shown: serde_json::Value,
    (min, max): (f64, f64),
    over: &RoleScaling,
    under: &RoleScaling,
    errors: &mut FieldErrors,
) {
    let least = f64::from(over.min_replicas) / f64::from(under.max_replicas);
    if under.max_replicas > 0 && least > max {
        let detail = format!("the bounds of the roles allow no ratio below {least}");
        errors.invalid(path.clone(), shown.clone(), detail);
    }
    let largest = f64::from(over.max_replicas) / f64::from(under.min_replicas);
    if under.min_replicas > 0 && largest < min {
        let detail = format!("the bounds of the roles allow no ratio above {largest}");
        errors.invalid(path.clone(), shown, detail);
    }
}

fn json(quantity: &Quantity) -> serde_json::Value {
    serde_json::to_value(quantity).unwrap_or_default()
}
