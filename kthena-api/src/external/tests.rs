use super::*;

#[test]
fn every_embedded_type_has_a_schema() {
    for name in [
        PodSpec::NAME,
        ResourceRequirements::NAME,
        Affinity::NAME,
        EnvVarSource::NAME,
        EnvFromSource::NAME,
        "Toleration",
        "LabelSelector",
        "ObjectReference",
    ] {
        let schema = schema(name).unwrap_or_else(|| panic!("{name}"));
        assert_eq!(schema["type"], "object", "{name}");
        assert!(!schema.to_string().contains("$ref"), "{name}");
    }
    assert!(schema("Deployment").is_none());
}

#[test]
fn numbers_become_text_where_the_type_is_a_quantity_alone() {
    let written = serde_json::json!({
        "containers": [{
            "name": "engine",
            "ports": [{ "containerPort": 8000 }],
            "readinessProbe": { "httpGet": { "port": 8000 } },
            "resources": { "limits": { "nvidia.com/gpu": 8, "memory": "64Gi" } },
        }],
        "volumes": [{ "name": "shm", "emptyDir": { "sizeLimit": 1024 } }],
    });
    let spec: Embedded<PodSpec> = serde_json::from_value(written.clone()).unwrap();
    let typed = spec.parse().unwrap();
    let limits = typed.containers[0]
        .resources
        .as_ref()
        .unwrap()
        .limits
        .as_ref()
        .unwrap();
    assert_eq!(limits["nvidia.com/gpu"].0, "8");
    let volume = &typed.volumes.as_ref().unwrap()[0];
    assert_eq!(
        volume.empty_dir.as_ref().unwrap().size_limit.as_ref().unwrap().0,
        "1024"
    );
    assert_eq!(serde_json::to_value(&spec).unwrap(), written);
    assert_eq!(Embedded::new(&typed).unwrap().parse().unwrap(), typed);
}

#[test]
fn what_is_no_object_of_the_type_is_an_error() {
    let spec: Embedded<PodSpec> = serde_json::from_str(r#"{"containers": 1}"#).unwrap();
    assert!(spec.parse().is_err());
    assert!(serde_json::from_str::<Embedded<PodSpec>>("[]").is_err());
}
