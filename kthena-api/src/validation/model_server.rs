//! Checks of a ModelServer.

use std::collections::{BTreeMap, HashSet};

use super::{Validate, broken, check_duration, check_labels, spec};
use crate::{
    annotation::{EngineAnnotations, is_host},
    cel,
    field::{FieldError, FieldErrors, FieldPath},
    model_server::{Endpoint, ModelServer, ModelServerSpec, PdGroup},
};

impl Validate for ModelServer {
    fn check_rules(&self, _old: Option<&Self>) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        if self.spec.workload_selector.is_none() && self.spec.endpoints.is_empty() {
            broken(&mut errors, spec(), "object", cel::ENGINES_ARE_NAMED);
        }
        if !self.spec.endpoints.is_empty() && self.spec.match_labels().is_some() {
            broken(&mut errors, spec(), "object", cel::ENGINES_ARE_NAMED_ONCE);
        }
        errors.into_vec()
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = FieldErrors::new();
        check_selector(&self.spec, &mut errors);
        check_endpoints(&self.spec, &mut errors);
        check_traffic_policy(&self.spec, &mut errors);
        check_known_values(&self.spec, &mut errors);
        let path = FieldPath::new("metadata").child("annotations");
        check_engine_settings(
            &path,
            self.metadata.annotations.as_ref().unwrap_or(&BTreeMap::new()),
            &mut errors,
        );
        errors.into_vec()
    }
}

fn check_selector(spec: &ModelServerSpec, errors: &mut FieldErrors) {
    let path = super::spec().child("workloadSelector");
    let listed = !spec.endpoints.is_empty();
    let Some(selector) = &spec.workload_selector else {
        if !listed {
            errors.required(path, "select the engines' pods, or list the engines in endpoints");
        }
        return;
    };
    let labels_path = path.child("matchLabels");
    match (selector.match_labels.is_empty(), listed) {
        (true, false) => errors.required(
            labels_path,
            "select the engines' pods, or list the engines in endpoints",
        ),
        (true, true) => {}
        (false, true) => errors.forbidden(labels_path, cel::ENGINES_ARE_NAMED_ONCE.message),
        (false, false) => check_labels(errors, labels_path, &selector.match_labels),
    }
    if let Some(group) = &selector.pd_group {
        check_pd_group(&path.child("pdGroup"), group, errors);
    }
}

fn check_pd_group(path: &FieldPath, group: &PdGroup, errors: &mut FieldErrors) {
    if group.group_key.is_empty() {
        errors.required(
            path.child("groupKey"),
            "name the label that pairs prefill with decode engines",
        );
    }
    for (name, labels) in [
        ("prefillLabels", &group.prefill_labels),
        ("decodeLabels", &group.decode_labels),
    ] {
        if labels.is_empty() {
            errors.required(path.child(name), "name at least one label");
        } else {
            check_labels(errors, path.child(name), labels);
        }
    }
}

fn check_endpoints(spec: &ModelServerSpec, errors: &mut FieldErrors) {
    let mut seen = HashSet::new();
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let path = super::spec().child("endpoints").index(index);
        check_endpoint(&path, endpoint, errors);
        let port = endpoint.effective_port(&spec.workload_port);
        if !seen.insert((endpoint.address.to_ascii_lowercase(), port)) {
            errors.push(FieldError::duplicate(
                path,
                format!("{}:{port}", endpoint.address),
            ));
        }
    }
}

fn check_endpoint(path: &FieldPath, endpoint: &Endpoint, errors: &mut FieldErrors) {
    if !is_host(&endpoint.address) {
        let detail = "must be an IP address without brackets or port, or a DNS name";
        errors.invalid(path.child("address"), endpoint.address.as_str(), detail);
    }
    let labels = path.child("labels");
    check_labels(errors, labels.clone(), &endpoint.labels);
    check_engine_settings(&labels, &endpoint.labels, errors);
}

fn check_engine_settings(path: &FieldPath, map: &BTreeMap<String, String>, errors: &mut FieldErrors) {
    if let Err(problems) = EngineAnnotations::parse(map, path) {
        errors.extend(problems);
    }
}

fn check_traffic_policy(spec: &ModelServerSpec, errors: &mut FieldErrors) {
    let Some(policy) = &spec.traffic_policy else {
        return;
    };
    let path = super::spec().child("trafficPolicy");
    check_duration(errors, path.child("timeout"), policy.timeout.as_ref());
    let interval = policy
        .retry
        .as_ref()
        .and_then(|retry| retry.retry_interval.as_ref());
    check_duration(errors, path.child("retry").child("retryInterval"), interval);
}

fn check_known_values(spec: &ModelServerSpec, errors: &mut FieldErrors) {
    let path = super::spec();
    errors.known(path.child("inferenceEngine"), Some(&spec.inference_engine));
    errors.known(
        path.child("workloadPort").child("protocol"),
        spec.workload_port.protocol.as_ref(),
    );
    errors.known(path.child("kvConnector").child("type"), spec.kv_connector_type());
}

#[cfg(test)]
mod tests;
