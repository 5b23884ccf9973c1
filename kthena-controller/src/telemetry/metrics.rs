//! Prometheus metrics. Names and labels are a contract.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kthena_sdk::telemetry::{Observer, Outcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

use super::Readiness;
use super::request::Subject;

const SECONDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

type Durations = Family<ControllerLabels, Histogram, fn() -> Histogram>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    resource: String,
    /// The status; 0 where there was no answer.
    code: u16,
}

/// Every metric of the process.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    reconciles: Family<ResultLabels, Counter>,
    seconds: Durations,
    in_progress: Family<ControllerLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
    /// `kthena_controller_leader`.
    pub(crate) leader: Gauge,
}

/// What one controller reports.
struct OfController {
    name: &'static str,
    metrics: Metrics,
    in_progress: Gauge,
    seconds: Histogram,
    readiness: Readiness,
}

/// Counts requests to the API server.
#[derive(Debug, Clone)]
pub(crate) struct Requests(Family<RequestLabels, Counter>);

/// A service whose requests are counted.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S> {
    inner: S,
    requests: Requests,
}

// === impl Metrics ===

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_progress: Family::default(),
            requests: Family::default(),
            leader: Gauge::default(),
        }
    }
}

impl Metrics {
    /// The page of `/metrics`, in OpenMetrics' text.
    pub(crate) fn page(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("kthena_controller");
        self.register(&mut registry);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry)?;
        Ok(page)
    }

    fn register(&self, registry: &mut Registry) {
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        registry.register(
            "reconciles",
            "Looks at objects that ended",
            self.reconciles.clone(),
        );
        registry.register(
            "reconcile_seconds",
            "Time that a look at an object took, with what was done about it",
            self.seconds.clone(),
        );
        registry.register(
            "reconciles_in_progress",
            "Objects that are being worked on",
            self.in_progress.clone(),
        );
        registry.register(
            "api_requests",
            "Requests to the API server",
            self.requests.clone(),
        );
        registry.register(
            "leader",
            "Whether this process runs the controllers",
            self.leader.clone(),
        );
    }

    /// Who is told what a controller does.
    pub(crate) fn observer(&self, name: &'static str, readiness: Readiness) -> Arc<dyn Observer> {
        let labels = ControllerLabels { controller: name };
        for outcome in [Outcome::Done, Outcome::Failed] {
            drop(self.reconciles.get_or_create(&results(name, outcome)));
        }
        Arc::new(OfController {
            name,
            metrics: self.clone(),
            in_progress: self.in_progress.get_or_create_owned(&labels),
            seconds: self.seconds.get_or_create_owned(&labels),
            readiness,
        })
    }

    /// A layer of a client that counts its requests.
    pub(crate) fn requests(&self) -> Requests {
        Requests(self.requests.clone())
    }
}

const fn results(controller: &'static str, outcome: Outcome) -> ResultLabels {
    ResultLabels {
        controller,
        result: outcome.as_str(),
    }
}

// === impl OfController ===

impl Observer for OfController {
    fn synced(&self) {
        self.readiness.synced();
    }

    fn began(&self) {
        self.in_progress.inc();
    }

    fn ended(&self, outcome: Outcome, took: Duration) {
        self.in_progress.dec();
        self.seconds.observe(took.as_secs_f64());
        let count = self
            .metrics
            .reconciles
            .get_or_create_owned(&results(self.name, outcome));
        count.inc();
    }
}

// === impl Requests ===

impl<S> Layer<S> for Requests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            requests: self.clone(),
        }
    }
}

impl<S, B, A> Service<http::Request<B>> for Counted<S>
where
    S: Service<http::Request<B>, Response = http::Response<A>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Subject { verb, resource } = Subject::of(request.method(), request.uri());
        let requests = self.requests.0.clone();
        let answer = self.inner.call(request);
        let count = move |answer: &Result<S::Response, S::Error>| {
            let code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            let labels = RequestLabels { verb, resource, code };
            requests.get_or_create_owned(&labels).inc();
        };
        answer.inspect(count).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_page_is_as_documented() {
        let metrics = Metrics::default();
        let observer = metrics.observer("modelserving", Readiness::default());
        observer.began();
        observer.ended(Outcome::Done, Duration::from_millis(2));
        observer.began();
        let mut service =
            metrics
                .requests()
                .layer(tower::service_fn(|request: http::Request<()>| async move {
                    match request.method() {
                        &http::Method::GET => Ok(http::Response::new(())),
                        _ => Err("nobody answers"),
                    }
                }));
        let get = http::Request::get("/api/v1/pods?watch=true").body(()).unwrap();
        service.call(get).await.unwrap();
        let post = http::Request::post("/api/v1/namespaces/n/pods").body(()).unwrap();
        service.call(post).await.unwrap_err();
        metrics.leader.set(1);
        let page = metrics.page().unwrap();
        for line in [
            &*format!(
                "kthena_controller_build_info{{version=\"{}\"}} 1",
                env!("CARGO_PKG_VERSION")
            ),
            r#"kthena_controller_reconciles_total{controller="modelserving",result="done"} 1"#,
            r#"kthena_controller_reconciles_total{controller="modelserving",result="failed"} 0"#,
            r#"kthena_controller_reconcile_seconds_bucket{le="0.0025",controller="modelserving"} 1"#,
            r#"kthena_controller_reconciles_in_progress{controller="modelserving"} 1"#,
            r#"kthena_controller_api_requests_total{verb="watch",resource="pods",code="200"} 1"#,
            r#"kthena_controller_api_requests_total{verb="create",resource="pods",code="0"} 1"#,
            "kthena_controller_leader 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line} in\n{page}");
        }
    }
}
