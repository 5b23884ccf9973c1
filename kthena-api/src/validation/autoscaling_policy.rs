//! Checks of an AutoscalingPolicy.

mod disaggregated;

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::core::v1::ObjectReference;

use super::{Validate, broken, check_duration, spec};
use crate::{
    autoscaling_policy::{
        AutoscalingPolicy, AutoscalingPolicySpec, Behavior, Metric, MetricSource, ScalingTarget, StablePolicy,
    },
    cel,
    duration::Duration,
    field::{FieldError, FieldErrors, FieldPath},
};

/// The longest period and window.
const MAX_DURATION: i64 = 30 * 60 * 1_000_000_000;

impl Validate for AutoscalingPolicy {
    fn check_rules(&self, _old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        for (path, target) in targets(&self.spec) {
            if let Some(target) = target {
                check_sources(&path.child("metricSources"), &target.metric_sources, &mut errors);
            }
        }
        if let Some(target) = &self.spec.disaggregated_target {
            disaggregated::check_rules(target, &mut errors);
        }
        errors.into_vec()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        check_metrics(&spec().child("metrics"), &self.spec.metrics, &mut errors);
        check_targets(&self.spec, &mut errors);
        let needs_metrics =
            self.spec.homogeneous_target.is_some() || self.spec.heterogeneous_target.is_some();
        if needs_metrics && self.spec.metrics.is_empty() {
            errors.required(spec().child("metrics"), "name at least one metric to scale by");
        }
        if let Some(target) = &self.spec.disaggregated_target {
            disaggregated::check(target, &self.spec.metrics, &mut errors);
        }
        if let Some(behavior) = &self.spec.behavior {
            check_behavior(&spec().child("behavior"), behavior, &mut errors);
        }
        errors.into_vec()
    }
}

/// The targets that are ModelServings as a whole, with their paths.
fn targets(policy: &AutoscalingPolicySpec) -> Vec<(FieldPath, Option<&ScalingTarget>)> {
    let mut targets = Vec::new();
    if let Some(target) = &policy.homogeneous_target {
        targets.push((
            spec().child("homogeneousTarget").child("target"),
            target.target.as_ref(),
        ));
    }
    if let Some(target) = &policy.heterogeneous_target {
        let path = spec().child("heterogeneousTarget").child("params");
        let params = target.params.iter().enumerate();
        targets.extend(params.map(|(i, param)| (path.index(i).child("target"), param.target.as_ref())));
    }
    targets
}

fn check_sources(path: &FieldPath, sources: &BTreeMap<String, MetricSource>, errors: &mut FieldErrors) {
    for (name, source) in sources {
        match (&source.pod, &source.prometheus) {
            (None, None) => broken(errors, path.key(name), "object", cel::METRIC_SOURCE_IS_SET),
            (Some(_), Some(_)) => broken(errors, path.key(name), "object", cel::METRIC_SOURCE_IS_SET_ONCE),
            _ => {}
        }
    }
}

fn check_metrics(path: &FieldPath, metrics: &[Metric], errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (index, metric) in metrics.iter().enumerate() {
        let path = path.index(index);
        let value = serde_json::to_value(&metric.target_value).unwrap_or_default();
        match metric.target_value.to_f64() {
            Err(error) => errors.invalid(path.child("targetValue"), value, error.to_string()),
            Ok(number) if number <= 0.0 || number.is_infinite() => {
                errors.invalid(path.child("targetValue"), value, "must be above zero and finite");
            }
            Ok(_) => {}
        }
        if !seen.insert(metric.name.as_str()) {
            let detail = "occurs already; give each metric one target";
            errors.invalid(path.child("name"), metric.name.as_str(), detail);
        }
    }
}

fn check_targets(policy: &AutoscalingPolicySpec, errors: &mut FieldErrors) {
    let set = [
        policy.homogeneous_target.is_some(),
        policy.heterogeneous_target.is_some(),
        policy.disaggregated_target.is_some(),
    ];
    let count = set.into_iter().filter(|set| *set).count();
    if count != 1 {
        let detail =
            "exactly one of homogeneousTarget, heterogeneousTarget and disaggregatedTarget must be set";
        errors.invalid(spec(), count, detail);
        return;
    }
    for (path, target) in targets(policy) {
        check_reference(
            &path.child("targetRef"),
            target.map(|target| &target.target_ref),
            errors,
        );
    }
    if let Some(target) = &policy.disaggregated_target {
        let path = spec().child("disaggregatedTarget").child("targetRef");
        check_reference(&path, Some(&target.target_ref), errors);
    }
}

fn check_reference(path: &FieldPath, reference: Option<&ObjectReference>, errors: &mut FieldErrors) {
    let text =
        |part: fn(&ObjectReference) -> Option<&String>| reference.and_then(part).map_or("", String::as_str);
    let (kind, name) = (text(|it| it.kind.as_ref()), text(|it| it.name.as_ref()));
    if !matches!(kind, "" | "ModelServing") {
        errors.invalid(path.child("kind"), kind, "only a ModelServing can be scaled");
    }
    if name.is_empty() {
        errors.invalid(path.child("name"), name, "name the ModelServing");
    }
}

fn check_behavior(path: &FieldPath, behavior: &Behavior, errors: &mut FieldErrors) {
    let mut stable = |path: FieldPath, policy: Option<&StablePolicy>| {
        let Some(policy) = policy else { return };
        check_period(&path.child("period"), policy.period.as_ref(), errors);
        check_period(
            &path.child("stabilizationWindow"),
            policy.stabilization_window.as_ref(),
            errors,
        );
    };
    stable(path.child("scaleDown"), behavior.scale_down.as_ref());
    let Some(scale_up) = &behavior.scale_up else {
        return;
    };
    let path = path.child("scaleUp");
    stable(path.child("stablePolicy"), scale_up.stable_policy.as_ref());
    if let Some(panic) = &scale_up.panic_policy {
        let path = path.child("panicPolicy");
        check_period(&path.child("period"), Some(&panic.period), errors);
        check_period(
            &path.child("panicModeHold"),
            panic.panic_mode_hold.as_ref(),
            errors,
        );
    }
}

fn check_period(path: &FieldPath, duration: Option<&Duration>, errors: &mut FieldErrors) {
    check_duration(errors, path.clone(), duration);
    if let Some(duration) = duration
        && duration
            .nanos()
            .is_ok_and(|nanos| !(0..=MAX_DURATION).contains(&nanos))
    {
        errors.invalid(path.clone(), duration.as_str(), "must be between 0s and 30m");
    }
}

#[cfg(test)]
mod tests;
