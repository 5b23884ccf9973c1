//! Which container of a pod is the engine, and what its simulator is told.

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::Value;

use super::{ARGUMENTS, CONTAINER};

/// The container that becomes a process.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Engine {
    pub(super) container: String,
    pub(super) port: u16,
    /// The simulator's arguments without `--listen`.
    pub(super) arguments: Vec<String>,
}

/// The engine of a pod; a pod without ports has none.
pub(super) fn of(pod: &Pod) -> Option<Engine> {
    let annotation = |key: &str| {
        pod.metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(key))
            .map(String::as_str)
    };
    let containers = &pod.spec.as_ref()?.containers;
    let container = match annotation(CONTAINER) {
        Some(name) => containers.iter().find(|container| container.name == name)?,
        None => containers.iter().find(|container| port(container).is_some())?,
    };
    let arguments = match annotation(ARGUMENTS) {
        Some(text) => text.split_whitespace().map(str::to_owned).collect(),
        None => arguments(container),
    };
    Some(Engine {
        container: container.name.clone(),
        port: port(container).unwrap_or(8000),
        arguments,
    })
}

/// Later options win over earlier ones of the same name.
pub(super) fn merge(defaults: &[String], arguments: &[String]) -> Vec<String> {
    let own = options(arguments);
    let names: Vec<&str> = own.iter().map(|option| name(option)).collect();
    let kept = options(defaults)
        .into_iter()
        .filter(|option| !names.contains(&name(option)));
    kept.chain(own.clone()).flatten().cloned().collect()
}

/// Groups `--name value…` and `--name=value`.
fn options(arguments: &[String]) -> Vec<&[String]> {
    arguments.chunk_by(|_, next| !next.starts_with("--")).collect()
}

fn name(option: &[String]) -> &str {
    option[0].split('=').next().expect("a split has a first part")
}

fn port(container: &Container) -> Option<u16> {
    let words = words(container);
    let argument = value(&words, "--port").and_then(|text| text.parse().ok());
    let declared = || {
        container
            .ports
            .iter()
            .flatten()
            .next()
            .and_then(|port| port.container_port.try_into().ok())
    };
    argument.or_else(declared)
}

/// What a container's own arguments say about the engine.
fn arguments(container: &Container) -> Vec<String> {
    let image = container.image.as_deref().unwrap_or_default();
    let words = words(container);
    if image
        .rsplit('/')
        .next()
        .is_some_and(|name| name.split([':', '@']).next() == Some("kthena-sim"))
    {
        return container.args.clone().unwrap_or_default();
    }
    let mut found = Vec::new();
    let mut add = |flag: &str, value: &str| found.extend([flag.to_owned(), value.to_owned()]);
    let names = values(&words, "--served-model-name");
    match (
        names.as_slice(),
        value(&words, "--model").or_else(|| value(&words, "--model-path")),
    ) {
        ([], Some(model)) => add("--model", &model),
        ([], None) => {}
        (names, model) => {
            names.iter().for_each(|name| add("--model", name));
            if let Some(model) = model {
                add("--model-root", &model);
            }
        }
    }
    let sglang = image.contains("sglang") || words.iter().any(|word| word.contains("sglang"));
    if sglang {
        add("--kind", "sglang");
    }
    if let Some(mode) = value(&words, "--disaggregation-mode") {
        add("--role", &mode);
        add("--connector", "sglang");
    }
    let transfer =
        value(&words, "--kv-transfer-config").and_then(|text| serde_json::from_str::<Value>(&text).ok());
    if let Some(transfer) = transfer {
        match transfer["kv_role"].as_str() {
            Some("kv_producer") => add("--role", "prefill"),
            Some("kv_consumer") => add("--role", "decode"),
            _ => {}
        }
        match transfer["kv_connector"].as_str() {
            Some("NixlConnector") => add("--connector", "nixl"),
            Some("MooncakeConnector") => add("--connector", "mooncake"),
            Some("MooncakeConnectorV1" | "MooncakeLayerwiseConnector") => {
                add("--connector", "mooncake-ascend");
            }
            Some(name) if name.starts_with("LMCache") => add("--connector", "lmcache"),
            _ => {}
        }
    }
    found
}

/// All words of a container's command line; a script handed to a shell is split at its blanks.
fn words(container: &Container) -> Vec<String> {
    let all = container
        .command
        .iter()
        .flatten()
        .chain(container.args.iter().flatten());
    all.flat_map(|word| match word.trim_start().starts_with(['{', '[']) {
        true => vec![word.clone()],
        false => word.split_whitespace().map(str::to_owned).collect(),
    })
    .collect()
}

fn value(words: &[String], flag: &str) -> Option<String> {
    values(words, flag).into_iter().next()
}

/// What follows `flag`, up to the next flag.
fn values(words: &[String], flag: &str) -> Vec<String> {
    let Some(at) = words
        .iter()
        .position(|word| name(std::slice::from_ref(word)) == flag)
    else {
        return Vec::new();
    };
    if let Some((_, value)) = words[at].split_once('=') {
        return vec![value.to_owned()];
    }
    words[at + 1..]
        .iter()
        .take_while(|word| !word.starts_with("--"))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn engine(container: Value, annotations: Value) -> Option<Engine> {
        let sidecar = json!({"name": "sidecar", "image": "logs"});
        let pod =
            json!({"metadata": {"annotations": annotations}, "spec": {"containers": [sidecar, container]}});
        of(&serde_json::from_value(pod).unwrap())
    }

    fn check(container: Value, port: u16, arguments: &str) {
        let found = engine(container, json!({})).unwrap();
        assert_eq!(
            (found.port, found.arguments.join(" ").as_str()),
            (port, arguments)
        );
    }

    #[test]
    fn a_vllm_container_tells_its_names_and_its_part() {
        check(
            json!({"name": "e", "image": "vllm/vllm-openai", "ports": [{"containerPort": 8000}], "args": [
                "--model=/models/tiny", "--served-model-name", "tiny", "small",
                "--kv-transfer-config", r#"{"kv_connector":"NixlConnector","kv_role":"kv_producer"}"#]}),
            8000,
            "--model tiny --model small --model-root /models/tiny --role prefill --connector nixl",
        );
    }

    #[test]
    fn an_sglang_script_is_understood() {
        let script =
            "python3 -m sglang.launch_server --model-path tiny --port 30000 --disaggregation-mode decode";
        check(
            json!({"name": "e", "image": "engine", "command": ["sh", "-c", script]}),
            30000,
            "--model tiny --kind sglang --role decode --connector sglang",
        );
    }

    #[test]
    fn the_simulators_own_arguments_are_taken_as_they_are() {
        check(
            json!({"name": "e", "image": "localhost/kthena-sim:dev", "ports": [{"containerPort": 9000}],
                   "args": ["--model", "x", "--lora", "y"]}),
            9000,
            "--model x --lora y",
        );
    }

    #[test]
    fn an_annotation_replaces_what_the_arguments_say() {
        let container = json!({"name": "e", "args": ["--port", "8001", "--model", "x"]});
        let found = engine(container, json!({ARGUMENTS: "--model y --eos never"})).unwrap();
        assert_eq!(found.arguments, ["--model", "y", "--eos", "never"]);
        assert_eq!(engine(json!({"name": "e"}), json!({})), None);
        assert_eq!(
            engine(json!({"name": "e"}), json!({CONTAINER: "e"}))
                .unwrap()
                .port,
            8000
        );
    }

    #[test]
    fn own_options_replace_defaults_of_the_same_name() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let merged = merge(
            &words("--a 1 --b 2 --c=3"),
            &words("--b 5 --model x --model y --c 4"),
        );
        assert_eq!(merged.join(" "), "--a 1 --b 5 --model x --model y --c 4");
    }
}
