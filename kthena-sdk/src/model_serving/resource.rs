//! What pods request of a node, as the scheduler counts it.
//!
//! The formula is Kubernetes' own (concepts/workloads/pods/init-containers, "Resource sharing within containers"): what the
//! containers and sidecars request together, or what one init container requests with the sidecars that run by then, whichever is more,
//! and the pod's overhead. A container that names a limit alone requests as much.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as KubeQuantity;
use kthena_api::quantity::Quantity;

/// In billionths: the smallest amount that Kubernetes knows.
const NANO: i128 = 1_000_000_000;
/// Suffixes of amounts in multiples of 1024, the largest first.
const BINARY: [(&str, u32); 6] = [
    ("Ei", 60),
    ("Pi", 50),
    ("Ti", 40),
    ("Gi", 30),
    ("Mi", 20),
    ("Ki", 10),
];

/// Amounts by name of the resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Amounts(BTreeMap<String, Amount>);

/// An amount, exactly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Amount {
    nanos: i128,
    /// Whether it was written in multiples of 1024.
    is_binary: bool,
}

/// What a pod requests.
pub(crate) fn of_pod(spec: &PodSpec) -> Amounts {
    let mut all = Amounts::default();
    for container in &spec.containers {
        all += &of_container(container);
    }
    let mut sidecars = Amounts::default();
    let mut start = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars += &own;
            start.raise(&sidecars);
        } else {
            let mut with_sidecars = own;
            with_sidecars += &sidecars;
            start.raise(&with_sidecars);
        }
    }
    all += &sidecars;
    all.raise(&start);
    if let Some(pod) = &spec.resources {
        for (name, amount) in requests(pod).0 {
            all.0.insert(name, amount);
        }
    }
    all += &Amounts::of(spec.overhead.iter().flatten());
    all
}

fn of_container(container: &Container) -> Amounts {
    container.resources.as_ref().map(requests).unwrap_or_default()
}

fn requests(resources: &ResourceRequirements) -> Amounts {
    let mut all = Amounts::of(resources.limits.iter().flatten());
    let named = Amounts::of(resources.requests.iter().flatten());
    all.0.extend(named.0);
    all
}

// === impl Amounts ===

impl Amounts {
    fn of<'a>(amounts: impl IntoIterator<Item = (&'a String, &'a KubeQuantity)>) -> Self {
        let read =
            |(name, quantity): (&String, &KubeQuantity)| Some((name.clone(), Amount::read(&quantity.0)?));
        Self(amounts.into_iter().filter_map(read).collect())
    }

    /// So many times as much.
    #[must_use]
    pub(crate) fn times(mut self, factor: u32) -> Self {
        for amount in self.0.values_mut() {
            amount.nanos = amount.nanos.saturating_mul(factor.into());
        }
        self
    }

    /// At least as much of each resource.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            *own = (*own).max(*amount);
        }
    }

    /// As Kubernetes writes them.
    pub(crate) fn to_text(&self) -> BTreeMap<String, String> {
        self.0
            .iter()
            .map(|(name, amount)| (name.clone(), amount.to_text()))
            .collect()
    }
}

impl AddAssign<&Self> for Amounts {
    fn add_assign(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let own = self.0.entry(name.clone()).or_default();
            own.nanos = own.nanos.saturating_add(amount.nanos);
            own.is_binary = own.is_binary || amount.is_binary;
        }
    }
}

// === impl Amount ===

impl Amount {
    fn read(text: &str) -> Option<Self> {
        let value = Quantity::from(text)
            .to_f64()
            .ok()
            .filter(|value| value.is_finite())?;
        let whole = value.trunc();
        let part = ((value - whole) * NANO as f64).round();
        Some(Self {
            nanos: (whole as i128).saturating_mul(NANO).saturating_add(part as i128),
            is_binary: text.ends_with('i'),
        })
    }

    fn to_text(self) -> String {
        let (whole, part) = (self.nanos / NANO, self.nanos % NANO);
        if part != 0 {
            let milli = NANO / 1000;
            return if self.nanos % milli == 0 {
                format!("{}m", self.nanos / milli)
            } else {
                format!("{}n", self.nanos)
            };
        }
        let suffix = BINARY
            .iter()
            .find(|(_, bits)| self.is_binary && whole != 0 && whole % (1_i128 << bits) == 0);
        match suffix {
            Some((suffix, bits)) => format!("{}{suffix}", whole >> bits),
            None => whole.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: Value, expected: Value) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(json!(of_pod(&spec).to_text()), expected);
    }

    fn container(requests: Value, limits: Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
    }

    #[test]
    fn containers_are_summed_and_limits_stand_in_for_requests() {
        check(json!({ "containers": [] }), json!({}));
        check(json!({ "containers": [{ "name": "c" }] }), json!({}));
        check(
            json!({ "containers": [
                container(json!({ "cpu": "1", "memory": "2Gi" }), json!({})),
                container(json!({ "cpu": "2", "memory": "1Gi" }), json!({})),
                { "name": "none" },
            ] }),
            json!({ "cpu": "3", "memory": "3Gi" }),
        );
        check(
            json!({ "containers": [container(json!({ "cpu": "500m" }), json!({ "cpu": "4", "nvidia.com/gpu": "8" }))] }),
            json!({ "cpu": "500m", "nvidia.com/gpu": "8" }),
        );
    }

    #[test]
    fn init_containers_count_where_they_need_more() {
        let of = |cpu: &str| container(json!({ "cpu": cpu }), json!({}));
        let sidecar = |cpu: &str| {
            let mut container = of(cpu);
            container["restartPolicy"] = "Always".into();
            container
        };
        check(
            json!({ "initContainers": [of("3"), of("2")], "containers": [of("1")] }),
            json!({ "cpu": "3" }),
        );
        check(
            json!({ "initContainers": [of("500m")], "containers": [of("1")] }),
            json!({ "cpu": "1" }),
        );
        check(
            json!({ "initContainers": [sidecar("1"), of("3")], "containers": [of("1")] }),
            json!({ "cpu": "4" }),
        );
        check(
            json!({ "initContainers": [of("3"), sidecar("1")], "containers": [of("1")] }),
            json!({ "cpu": "3" }),
        );
        check(
            json!({ "initContainers": [sidecar("2")], "containers": [of("1")] }),
            json!({ "cpu": "3" }),
        );
    }

    #[test]
    fn overhead_comes_on_top_and_the_pods_own_requests_win() {
        check(
            json!({ "overhead": { "cpu": "250m" }, "resources": { "requests": { "cpu": "5" } },
                "containers": [container(json!({ "cpu": "1", "memory": "1Gi" }), json!({}))] }),
            json!({ "cpu": "5250m", "memory": "1Gi" }),
        );
    }

    #[test]
    fn amounts_are_exact_and_written_as_kubernetes_does() {
        for (text, times, expected) in [
            ("100m", 6, "600m"),
            ("0.1", 3, "300m"),
            ("1536Mi", 2, "3Gi"),
            ("1Gi", 33, "33Gi"),
            ("35433480193", 3, "106300440579"),
            ("1M", 2, "2000000"),
            ("1n", 3, "3n"),
            ("1.5Ki", 1, "1536"),
            ("0", 5, "0"),
            ("500m", 2, "1"),
        ] {
            let amount = Amount::read(text).unwrap();
            let amounts = Amounts(BTreeMap::from([("x".into(), amount)])).times(times);
            assert_eq!(amounts.to_text()["x"], expected, "{text} times {times}");
        }
        assert_eq!(Amount::read("what"), None);
    }
}
