//! ModelRoutes, ready to be asked.

use std::collections::HashMap;
use std::sync::Arc;

use kthena_api::ModelRoute;

use super::super::objects::{Objects, key_of};
use super::super::snapshot::{Server, Snapshot};
use super::Problem;
use crate::openai::models;
use crate::route::{Backend, Condition, Route, Rule, Target};

/// The snapshot with its routes.
pub(super) fn routes(
    objects: &Objects,
    servers: HashMap<Arc<str>, Arc<Server>>,
    problems: &mut Vec<Problem>,
) -> Snapshot {
    let mut snapshot = Snapshot {
        servers,
        ..Snapshot::default()
    };
    let mut sorted: Vec<&Arc<ModelRoute>> = objects.routes.values().collect();
    // The oldest first; equals by namespace and name, which is the map's order.
    sorted.sort_by_key(|route| route.metadata.creation_timestamp.as_ref().map(|time| time.0));
    for object in sorted {
        let route = Arc::new(route(object, &snapshot.servers, problems));
        if let Some(model) = object.spec.model_name.as_deref().filter(|name| !name.is_empty()) {
            snapshot
                .models
                .entry(model.into())
                .or_default()
                .push(route.clone());
        }
        for adapter in object.spec.lora_adapters.iter().filter(|name| !name.is_empty()) {
            snapshot
                .adapters
                .entry(adapter.as_str().into())
                .or_default()
                .push(route.clone());
        }
    }
    snapshot.model_list = models::list(
        snapshot
            .models
            .keys()
            .chain(snapshot.adapters.keys())
            .map(AsRef::as_ref),
    );
    snapshot
}

fn route(
    object: &ModelRoute,
    servers: &HashMap<Arc<str>, Arc<Server>>,
    problems: &mut Vec<Problem>,
) -> Route {
    let (namespace, name) = key_of(&object.metadata);
    let mut problem = |message: String| {
        problems.push(Problem {
            kind: "ModelRoute",
            name: format!("{namespace}/{name}"),
            message,
            is_reference: false,
        });
    };
    let rules = object
        .spec
        .rules
        .iter()
        .enumerate()
        .map(|(index, rule)| Rule {
            condition: condition(rule, &mut |message| problem(format!("rules[{index}]: {message}"))),
            targets: rule
                .target_models
                .iter()
                .filter_map(|target| {
                    use kthena_api::model_route::Target as Named;
                    let key = |name: &str| Arc::<str>::from(format!("{namespace}/{name}"));
                    let backend = match target.target() {
                        Some(Named::ModelServer(name)) => {
                            let key = key(name);
                            let server = servers.get(&key).cloned();
                            Backend::Server(key, server)
                        }
                        Some(Named::ExternalModelProvider(name)) => Backend::Provider(key(name)),
                        None => {
                            problem(format!(
                                "rules[{index}]: a target names no backend, or two; it is not used"
                            ));
                            return None;
                        }
                    };
                    Some(Target {
                        backend,
                        weight: target.effective_weight(),
                    })
                })
                .collect(),
        })
        .collect();
    Route {
        name: format!("{namespace}/{name}").into(),
        gateways_only: !object.spec.parent_refs.is_empty(),
        rules,
    }
}

fn condition(rule: &kthena_api::model_route::RouteRule, problem: &mut dyn FnMut(String)) -> Condition {
    let mut condition = Condition::default();
    let Some(matches) = &rule.model_match else {
        return condition;
    };
    for (name, value) in &matches.headers {
        match (http::HeaderName::try_from(name.as_str()), value.matcher()) {
            (Ok(name), Ok(matcher)) => condition.headers.push((name, matcher)),
            (Err(_), _) => {
                problem(format!("{name:?} is no header name; the rule never applies"));
                condition.never = true;
            }
            (_, Err(error)) => {
                problem(format!("header {name}: {error}; the rule never applies"));
                condition.never = true;
            }
        }
    }
    match matches
        .uri
        .as_ref()
        .map(kthena_api::model_route::StringMatch::matcher)
    {
        None => {}
        Some(Ok(matcher)) => condition.path = Some(matcher),
        Some(Err(error)) => {
            problem(format!("uri: {error}; the rule never applies"));
            condition.never = true;
        }
    }
    condition.model = matches
        .body
        .as_ref()
        .and_then(|body| body.model.clone())
        .filter(|model| !model.is_empty());
    condition
}
