//! The chart: what it renders, and that the controller manager does its work as the chart sets it up.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use kthena_api::ModelServing;
use kthena_controller::rbac::{MUTATING, Part, VALIDATING};
use kthena_sdk::rbac::Rights;
use kthena_tests::{
    cargo,
    cluster::{Cluster, documents},
    command::output,
    controller::Controller,
    kubelet::Kubelet,
    reserve::Port,
    setting, tools,
};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

const SPACE: &str = "kthena-system";

fn chart() -> PathBuf {
    setting::checkout().join("charts/kthena")
}

/// What `helm template` makes with these arguments.
fn render(arguments: &[&str]) -> Result<Vec<Value>> {
    let mut command = Command::new(tools::helm()?);
    command.args(["template", "kthena"]).arg(chart());
    documents(&output(command.args(["--namespace", SPACE]).args(arguments))?)
}

/// With values, each as `--set` takes it.
fn with(values: &[&str]) -> Result<Vec<Value>> {
    render(
        &values
            .iter()
            .flat_map(|value| ["--set", value])
            .collect::<Vec<_>>(),
    )
}

/// The values below `workload.controllerManager`.
fn manager(values: &[&str]) -> Result<Vec<Value>> {
    let values: Vec<String> = values
        .iter()
        .map(|it| format!("workload.controllerManager.{it}"))
        .collect();
    with(&values.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Kinds and names, in order.
fn names(objects: &[Value]) -> Vec<String> {
    let name = |it: &Value| {
        let part = |part: &Value| {
            part.as_str()
                .unwrap_or_default()
                .replace("kthena-controller-manager", "…")
        };
        format!("{} {}", part(&it["kind"]), part(&it["metadata"]["name"]))
    };
    let mut names: Vec<String> = objects.iter().map(name).collect();
    names.sort_unstable();
    names
}

fn find<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} among {:?}", names(objects)))
}

fn arguments(objects: &[Value]) -> Vec<String> {
    let container = &find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    serde_json::from_value(container["args"].clone()).expect("arguments are texts")
}

/// Paths, resources and Services of all webhooks, with the authorities that they name.
fn webhooks(objects: &[Value]) -> Vec<String> {
    let configurations = objects.iter().filter_map(|object| object["webhooks"].as_array());
    let short = |webhook: &Value| {
        let (client, rule) = (&webhook["clientConfig"], &webhook["rules"][0]);
        let service = &client["service"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let parts = [
            &service["path"],
            &rule["resources"][0],
            &service["name"],
            &client["caBundle"],
        ];
        parts.map(text).join(" ").trim().to_owned()
    };
    configurations.flatten().map(short).collect()
}

#[test]
fn charts_have_the_version_of_the_programs() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    for path in ["", "charts/workload", "charts/networking"] {
        let text = std::fs::read_to_string(chart().join(path).join("Chart.yaml"))?;
        let about = &kthena_api::yaml::read(&text)?[0];
        assert_eq!(
            (&about["version"], &about["appVersion"]),
            (&json!(version), &json!(version)),
            "{path}"
        );
        for dependency in about["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], version, "{dependency}");
        }
    }
    Ok(())
}

/// What a role grants, one by one: group/resource, name, verb.
fn granted(role: &Value) -> BTreeSet<String> {
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        let mut names = list(&rule["resourceNames"]);
        if names.is_empty() {
            names.push("*".to_owned());
        }
        let (group, resource) = (&list(&rule["apiGroups"])[0], &list(&rule["resources"])[0]);
        for name in names {
            let all = list(&rule["verbs"]).into_iter();
            granted.extend(all.map(|verb| format!("{group}/{resource} {name} {verb}")));
        }
    }
    granted
}

#[test]
fn values_decide_what_is_rendered() -> Result<()> {
    let always = [
        "ClusterRole …",
        "ClusterRoleBinding …",
        "Deployment …",
        "Role …",
        "RoleBinding …",
        "ServiceAccount …",
    ];
    let webhook = [
        "MutatingWebhookConfiguration …-mutating-webhook",
        "Service …-webhook",
        "ValidatingWebhookConfiguration …-validating-webhook",
    ];
    let check = |objects: &[Value], expected: &[&[&str]]| {
        let mut expected = expected.concat();
        expected.sort_unstable();
        assert_eq!(names(objects), expected);
    };
    check(&render(&[])?, &[&always, &webhook]);
    check(&manager(&["webhook.enabled=false"])?, &[&always]);
    let issued = ["Certificate …-webhook-cert", "Issuer …-webhook-issuer"];
    let mode = "global.certManagementMode=cert-manager";
    check(&with(&[mode])?, &[&always, &webhook, &issued]);
    check(
        &with(&[mode, "workload.controllerManager.webhook.enabled=false"])?,
        &[&always],
    );
    check(&with(&["workload.enabled=false"])?, &[]);
    let definitions = |values: &[&str]| -> Result<usize> {
        let objects = render(&[&["--include-crds"], values].concat())?;
        Ok(objects
            .iter()
            .filter(|object| object["kind"] == "CustomResourceDefinition")
            .count())
    };
    assert_eq!(definitions(&[])?, 6);
    assert_eq!(definitions(&["--set", "networking.enabled=false"])?, 3);
    assert_eq!(definitions(&["--set", "workload.enabled=false"])?, 3);
    for (value, complaint) in [
        (
            "global.certManagementMode=manual",
            "global.webhook.caBundle is needed",
        ),
        ("global.certManagementMode=other", "certManagementMode"),
    ] {
        let refused = with(&[value]).expect_err("it cannot be rendered");
        ensure!(format!("{refused:#}").contains(complaint), "{refused:#}");
    }
    Ok(())
}

#[test]
fn webhooks_are_called_where_they_are_and_trusted_as_told() -> Result<()> {
    let all = |service: &str, authority: &str| {
        let paths = [
            ("/mutate/modelbooster", "modelboosters"),
            ("/mutate/autoscalingpolicy", "autoscalingpolicies"),
            ("/validate/modelbooster", "modelboosters"),
            ("/validate/autoscalingpolicy", "autoscalingpolicies"),
            ("/validate-workload-ai-v1alpha1-modelserving", "modelservings"),
        ];
        paths.map(|(path, resource)| {
            format!("{path} {resource} {service} {authority}")
                .trim()
                .to_owned()
        })
    };
    let service = "kthena-controller-manager-webhook";
    assert_eq!(webhooks(&render(&[])?), all(service, ""));
    let manual = with(&[
        "global.certManagementMode=manual",
        "global.webhook.caBundle=T1VSUw==",
    ])?;
    assert_eq!(webhooks(&manual), all(service, "T1VSUw=="));

    // Another name is that of the Service, of the certificate, and where webhooks are called.
    let renamed = manager(&["webhook.tls.serviceName=hook", "webhook.tls.certSecretName=pem"])?;
    assert_eq!(webhooks(&renamed), all("hook", ""));
    assert_eq!(find(&renamed, "Service")["metadata"]["name"], "hook");
    let flags = arguments(&renamed);
    ensure!(
        flags.contains(&"--service-name=hook".into()) && flags.contains(&"--cert-secret-name=pem".into()),
        "{flags:?}"
    );

    let issued = with(&[
        "global.certManagementMode=cert-manager",
        "workload.controllerManager.webhook.tls.serviceName=hook",
    ])?;
    let certificate = &find(&issued, "Certificate")["spec"];
    assert_eq!(
        certificate["dnsNames"],
        json!(["hook.kthena-system.svc", "hook.kthena-system.svc.cluster.local"])
    );
    assert_eq!(
        certificate["secretName"],
        "kthena-controller-manager-webhook-certs"
    );
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let annotation = &find(&issued, kind)["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
        assert_eq!(annotation, "kthena-system/kthena-controller-manager-webhook-cert");
    }
    Ok(())
}

#[test]
fn roles_are_those_of_the_parts_that_run() -> Result<()> {
    let check = |objects: &[Value], parts: &[Part]| {
        let rights: Rights = parts.iter().map(Part::rights).collect();
        let expected = [json!(rights.cluster_role("x")), json!(rights.role("x"))];
        for (kind, expected) in ["ClusterRole", "Role"].iter().zip(expected) {
            assert_eq!(granted(find(objects, kind)), granted(&expected), "{kind}");
        }
    };
    check(&render(&[])?, &Part::all());
    check(
        &manager(&["webhook.enabled=false"])?,
        &[Part::ModelServing, Part::Election],
    );
    let renamed = Part::Webhooks {
        secret: "pem".to_owned(),
    };
    check(
        &manager(&["webhook.tls.certSecretName=pem"])?,
        &[Part::ModelServing, Part::Election, renamed],
    );

    // Where somebody else makes the Secret, it is read alone.
    let foreign = with(&["global.certManagementMode=cert-manager"])?;
    let of_secrets: Vec<String> = granted(find(&foreign, "Role"))
        .into_iter()
        .filter(|it| it.contains("secrets"))
        .collect();
    assert_eq!(
        of_secrets,
        ["/secrets kthena-controller-manager-webhook-certs get"]
    );
    Ok(())
}

#[test]
fn the_program_takes_every_argument() -> Result<()> {
    let program = cargo::binary("kthena-controller")?;
    let takes = |objects: &[Value]| -> Result<Vec<String>> {
        let arguments = arguments(objects);
        output(Command::new(&program).args(&arguments).arg("--version"))?;
        Ok(arguments)
    };
    let usual = takes(&render(&[])?)?;
    assert_eq!(
        usual,
        [
            "--v=2",
            "--leader-elect",
            "--enable-webhook=true",
            "--cert-secret-name=kthena-controller-manager-webhook-certs",
            "--service-name=kthena-controller-manager-webhook",
            "--metrics-bind-address=:8080",
        ]
    );
    let values = [
        ("image.args={--v=4}", "--v=4"),
        ("controllers=modelserving", "--controllers=modelserving"),
        (
            "controllers={modelserving,-autoscaler}",
            "--controllers=modelserving,-autoscaler",
        ),
        ("kubeAPIQPS=7.5", "--kube-api-qps=7.5"),
        ("kubeAPIBurst=9", "--kube-api-burst=9"),
        ("debugPort=6060", "--debug-port=6060"),
        (
            "autoscalingSyncPeriodSeconds=20",
            "--autoscaling-sync-period-seconds=20",
        ),
        ("metricsPort=9000", "--metrics-bind-address=:9000"),
        ("webhook.enabled=false", "--enable-webhook=false"),
    ];
    for (value, argument) in values {
        let arguments = takes(&manager(&[value])?)?;
        ensure!(
            arguments.iter().any(|it| it == argument),
            "{value}: {arguments:?}"
        );
    }
    Ok(())
}

#[test]
fn pods_are_as_values_say() -> Result<()> {
    let objects = manager(&[
        "replicas=2",
        "image.repository=registry/it",
        "image.tag=t",
        "image.pullPolicy=Always",
        "resource.limits.cpu=2",
        "nodeSelector.a=b",
        "tolerations[0].operator=Exists",
        "affinity.podAntiAffinity.x=y",
        "metricsPort=9000",
    ])?;
    let spec = &find(&objects, "Deployment")["spec"];
    let pod = &spec["template"]["spec"];
    let container = &pod["containers"][0];
    let found = json!([
        spec["replicas"],
        container["image"],
        container["imagePullPolicy"],
        container["resources"]["limits"],
        pod["nodeSelector"],
        pod["tolerations"],
        pod["affinity"],
        container["ports"],
    ]);
    let expected = json!([
        2,
        "registry/it:t",
        "Always",
        { "cpu": 2, "memory": "512Mi" },
        { "a": "b" },
        [{ "operator": "Exists" }],
        { "podAntiAffinity": { "x": "y" } },
        [{ "name": "metrics", "containerPort": 9000 }, { "name": "webhook", "containerPort": 8443 }],
    ]);
    assert_eq!(found, expected);
    Ok(())
}

const SERVING: &str = "
apiVersion: workload.serving.volcano.sh/v1alpha1
kind: ModelServing
metadata: {name: llama}
spec:
  replicas: 1
  schedulerName: default-scheduler
  template:
    roles:
    - name: decode
      entryTemplate:
        spec:
          terminationGracePeriodSeconds: 1
          containers: [{name: engine, image: kthena-sim, ports: [{containerPort: 8000}]}]
";

/// Lets the API server call webhooks at a port of this machine: nothing routes a Service here.
async fn call_directly<K>(api: Api<K>, name: &str, port: &Port) -> Result<()>
where
    K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    let mut configuration = serde_json::to_value(api.get(name).await?)?;
    for webhook in configuration["webhooks"].as_array_mut().context("webhooks")? {
        let path = webhook["clientConfig"]["service"]["path"]
            .as_str()
            .context("a path")?;
        webhook["clientConfig"] = json!({ "url": format!("https://localhost:{}{path}", port.number()) });
    }
    let configuration = serde_json::from_value(configuration)?;
    api.replace(name, &PostParams::default(), &configuration).await?;
    Ok(())
}

#[tokio::test]
async fn what_the_chart_installs_is_all_that_it_takes() -> Result<()> {
    let cluster = Cluster::builder()
        .without_crds()
        .controller_manager()
        .start()
        .await?;
    let mut helm = cluster.helm()?;
    helm.args(["install", "kthena"]).arg(chart());
    helm.args(["--namespace", SPACE, "--create-namespace"]);
    tokio::task::spawn_blocking(move || output(&mut helm)).await??;

    // The program as the Deployment would run it, under its account.
    let client = cluster.client().await?;
    let deployment = Api::<Deployment>::namespaced(client.clone(), SPACE)
        .get("kthena-controller-manager")
        .await?;
    let pod = deployment.spec.and_then(|it| it.template.spec).context("a pod")?;
    let account = pod.service_account_name.context("an account")?;
    Api::<ServiceAccount>::namespaced(client.clone(), SPACE)
        .get(&account)
        .await?;
    let account = cluster.service_account(SPACE, &account).await?;
    let port = Port::reserve()?;
    call_directly(
        Api::<ValidatingWebhookConfiguration>::all(client.clone()),
        VALIDATING,
        &port,
    )
    .await?;
    call_directly(
        Api::<MutatingWebhookConfiguration>::all(client.clone()),
        MUTATING,
        &port,
    )
    .await?;
    let mut flags = pod.containers[0].args.clone().context("arguments")?;
    // Health has a port of this test's own.
    flags.retain(|flag| !flag.starts_with("--metrics-bind-address="));
    flags.extend([
        format!("--port={}", port.number()),
        format!("--pod-namespace={SPACE}"),
    ]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let controller = Controller::with(&account, "chart", &flags).await?;
    controller.until_ready("ok").await?;

    // Every webhook answers, and the API server trusts it.
    let space = cluster.namespace("models").await?;
    let _kubelet = Kubelet::on(&cluster, &space).start().await?;
    let objects = setting::checkout().join("kthena-api/tests/objects");
    for file in ["autoscaling-policy.yaml", "model-booster.yaml"] {
        let taken = cluster.until("the webhooks to be called", || async {
            Ok(Some(space.apply_path(objects.join(file)).await?))
        });
        taken.await.with_context(|| controller.tail())?;
    }
    let bad = SERVING.replace(
        "    roles:",
        "    gangPolicy: {minRoleReplicas: {decode: 5}}\n    roles:",
    );
    let refused = space.apply(&bad).await.expect_err("it is refused");
    ensure!(
        format!("{refused:#}").contains("spec.template.gangPolicy.minRoleReplicas"),
        "{refused:#}"
    );
    space.apply(SERVING).await?;
    let is_available = |serving: &ModelServing| {
        let status = serving.status.clone().unwrap_or_default();
        status.available_replicas == Some(1)
    };
    let _serving: ModelServing = space
        .until("llama", "a group to be available", is_available)
        .await
        .with_context(|| controller.tail())?;
    Ok(())
}

#[tokio::test]
#[should_panic(
    expected = "the roles lack: {\"get coordination.k8s.io/leases lease.kthena.controller-manager\""
)]
async fn a_missing_right_fails_a_test() {
    let run = async || -> Result<()> {
        let cluster = Cluster::builder().start().await?;
        let space = cluster.namespace("refused").await?;
        let account = Controller::account_for(&cluster, &space, &[Part::ModelServing]).await?;
        let namespace = format!("--pod-namespace={}", space.name());
        let flags = ["--enable-webhook=false", "--leader-elect", &namespace];
        let controller = Controller::with(&account, "refused", &flags).await?;
        let refused = || async {
            let refused = account.audit().refused(account.name())?;
            Ok(refused.iter().any(|it| it.starts_with("get")).then_some(()))
        };
        cluster.until("a refusal", refused).await?;
        drop(controller);
        Ok(())
    };
    run().await.expect("it comes to its end");
}
