//! Prometheus metrics. Names and labels are a contract; additions of this proxy are marked as such.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::access_log::Destination;

/// A label value: shared, because most are names that live in the snapshot.
pub type Label = Arc<str>;

const SECONDS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Histograms with the buckets of request durations.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// Labels of `kthena_router_requests_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    model: Label,
    path: &'static str,
    status_code: u16,
    error_type: &'static str,
    model_route: Label,
    backend_type: &'static str,
    backend_name: Label,
    upstream_model: Label,
}

/// Labels of `kthena_router_request_duration_seconds`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DurationLabels {
    model: Label,
    path: &'static str,
    status_code: u16,
    model_route: Label,
    backend_type: &'static str,
    backend_name: Label,
    upstream_model: Label,
}

/// Labels of the durations of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PhaseLabels {
    model: Label,
    path: &'static str,
    status_code: &'static str,
}

/// Labels of `kthena_router_tokens_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabels {
    model: Label,
    path: &'static str,
    token_type: &'static str,
    model_route: Label,
    backend_type: &'static str,
    backend_name: Label,
    upstream_model: Label,
}

/// Labels of `kthena_router_active_downstream_requests`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ModelLabels {
    model: Label,
}

/// Labels of `kthena_router_active_upstream_requests`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabels {
    model_server: Label,
    model_route: Label,
    backend_type: &'static str,
    backend_name: Label,
    upstream_model: Label,
}

/// Labels of `kthena_router_prefill_decode_alone_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AloneLabels {
    model: Label,
    reason: &'static str,
}

/// Labels of `kthena_router_retries_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RetryLabels {
    backend_name: Label,
}

/// Labels of `kthena_router_config_errors_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ConfigLabels {
    source: &'static str,
}

/// Every metric of the data path.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    durations: Durations<DurationLabels>,
    prefill: Durations<PhaseLabels>,
    decode: Durations<PhaseLabels>,
    first_byte: Durations<DurationLabels>,
    tokens: Family<TokenLabels, Counter>,
    /// `kthena_router_active_requests`.
    pub active: Gauge,
    active_downstream: Family<ModelLabels, Gauge>,
    active_upstream: Family<UpstreamLabels, Gauge>,
    alone: Family<AloneLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    config_errors: Family<ConfigLabels, Counter>,
    config_broken: Family<ConfigLabels, Gauge>,
}

/// A gauge that is one higher as long as this lives.
#[derive(Debug)]
pub struct Held(Gauge);

impl Held {
    /// Raises the gauge.
    #[must_use]
    pub fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Durations of prefill and decode, one for each attempt.
#[derive(Debug, Default)]
pub struct Phases {
    prefill: Vec<(Duration, bool)>,
    decode: Vec<(Duration, bool)>,
}

impl Phases {
    /// A prefill ended.
    pub fn prefill(&mut self, begun: Instant, good: bool) {
        self.prefill.push((begun.elapsed(), good));
    }

    /// Decode answered, or did not.
    pub fn decode(&mut self, begun: Instant, good: bool) {
        self.decode.push((begun.elapsed(), good));
    }
}

/// What a finished request reports.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The `model` label.
    pub model: &'a Label,
    /// The `path` label.
    pub path: &'static str,
    /// The status that the client got, or would have got.
    pub status: u16,
    /// The `error_type` label.
    pub error_type: &'static str,
    /// Where the request went.
    pub destination: &'a Destination,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// To the first byte of the answer's body.
    pub first_byte: Option<Duration>,
    /// Estimated tokens of the prompt.
    pub input_tokens: u64,
    /// Tokens of the answer as the engine counted them.
    pub output_tokens: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Prefill and decode.
    pub phases: &'a Phases,
    /// Why decode answered alone.
    pub alone: Option<&'static str>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: durations(),
            prefill: durations(),
            decode: durations(),
            first_byte: durations(),
            tokens: Family::default(),
            active: Gauge::default(),
            active_downstream: Family::default(),
            active_upstream: Family::default(),
            alone: Family::default(),
            retries: Family::default(),
            config_errors: Family::default(),
            config_broken: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kthena_router");
        registry.register("requests", "Requests that ended", self.requests.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request's head to the end of its answer",
            self.durations.clone(),
        );
        registry.register(
            "request_prefill_duration_seconds",
            "Time that prefill took",
            self.prefill.clone(),
        );
        registry.register(
            "request_decode_duration_seconds",
            "Time until decode answered",
            self.decode.clone(),
        );
        registry.register(
            "request_first_byte_seconds",
            "Time from a request's head to the first byte of its answer's body",
            self.first_byte.clone(),
        );
        registry.register(
            "tokens",
            "Tokens: input as estimated, output as engines counted them",
            self.tokens.clone(),
        );
        registry.register("active_requests", "Requests in progress", self.active.clone());
        registry.register(
            "active_downstream_requests",
            "Requests in progress whose body was read",
            self.active_downstream.clone(),
        );
        registry.register(
            "active_upstream_requests",
            "Requests that engines work on",
            self.active_upstream.clone(),
        );
        registry.register(
            "prefill_decode_alone",
            "Requests to a disaggregated server that decode answered alone",
            self.alone.clone(),
        );
        registry.register("retries", "Attempts beyond the first", self.retries.clone());
        registry.register(
            "config_errors",
            "Changes of the configuration that could not be used",
            self.config_errors.clone(),
        );
        registry.register(
            "config_broken",
            "Configuration objects or files that cannot be used now",
            self.config_broken.clone(),
        );
    }

    /// Counts a request whose body was read, until the guard is dropped.
    #[must_use]
    pub fn downstream(&self, model: &Label) -> Held {
        Held::new(
            self.active_downstream
                .get_or_create_owned(&ModelLabels { model: model.clone() }),
        )
    }

    /// Counts a request that engines work on, until the guard is dropped.
    #[must_use]
    pub fn upstream(&self, to: &Destination) -> Held {
        Held::new(self.active_upstream.get_or_create_owned(&UpstreamLabels {
            model_server: to.backend_name.clone(),
            model_route: to.route.clone(),
            backend_type: to.backend_type,
            backend_name: to.backend_name.clone(),
            upstream_model: to.upstream_model.clone(),
        }))
    }

    /// Counts a change of the configuration that could not be used.
    pub fn config_error(&self, source: &'static str) {
        self.config_errors.get_or_create(&ConfigLabels { source }).inc();
    }

    /// Sets how many files or objects cannot be used now.
    pub fn config_broken(&self, source: &'static str, count: usize) {
        self.config_broken
            .get_or_create(&ConfigLabels { source })
            .set(count as i64);
    }

    /// Records a request that ended.
    pub fn finish(&self, done: &Finished<'_>) {
        let to = done.destination;
        self.requests
            .get_or_create(&RequestLabels {
                model: done.model.clone(),
                path: done.path,
                status_code: done.status,
                error_type: done.error_type,
                model_route: to.route.clone(),
                backend_type: to.backend_type,
                backend_name: to.backend_name.clone(),
                upstream_model: to.upstream_model.clone(),
            })
            .inc();
        let labels = DurationLabels {
            model: done.model.clone(),
            path: done.path,
            status_code: done.status,
            model_route: to.route.clone(),
            backend_type: to.backend_type,
            backend_name: to.backend_name.clone(),
            upstream_model: to.upstream_model.clone(),
        };
        self.durations
            .get_or_create(&labels)
            .observe(done.duration.as_secs_f64());
        if let Some(first_byte) = done.first_byte {
            self.first_byte
                .get_or_create(&labels)
                .observe(first_byte.as_secs_f64());
        }
        for (token_type, count) in [("input", done.input_tokens), ("output", done.output_tokens)] {
            if count > 0 {
                self.tokens
                    .get_or_create(&TokenLabels {
                        model: done.model.clone(),
                        path: done.path,
                        token_type,
                        model_route: to.route.clone(),
                        backend_type: to.backend_type,
                        backend_name: to.backend_name.clone(),
                        upstream_model: to.upstream_model.clone(),
                    })
                    .inc_by(count);
            }
        }
        for (family, phases) in [
            (&self.prefill, &done.phases.prefill),
            (&self.decode, &done.phases.decode),
        ] {
            for (duration, good) in phases {
                let status_code = if *good { "200" } else { "500" };
                let labels = PhaseLabels {
                    model: done.model.clone(),
                    path: done.path,
                    status_code,
                };
                family.get_or_create(&labels).observe(duration.as_secs_f64());
            }
        }
        if let Some(reason) = done.alone {
            self.alone
                .get_or_create(&AloneLabels {
                    model: done.model.clone(),
                    reason,
                })
                .inc();
        }
        if done.retries > 0 {
            self.retries
                .get_or_create(&RetryLabels {
                    backend_name: to.backend_name.clone(),
                })
                .inc_by(done.retries);
        }
    }
}

#[cfg(test)]
mod tests;
