//! Health, metrics and what the controller knows, over plain HTTP.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kthena_sdk::model_serving::view::View;
use tokio::net::TcpListener;

use crate::telemetry::{Metrics, Readiness};

/// Media type of `/metrics`.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a controller knows, once it runs.
pub(crate) type Shown = Arc<OnceLock<View>>;

/// Answers `/livez`, `/readyz` and `/metrics`.
pub(crate) async fn health(addresses: &[SocketAddr], metrics: Metrics, readiness: Readiness) -> Result<()> {
    run(addresses, health_router(metrics, readiness)).await
}

/// Answers `/debug/modelserving/cache` on loopback.
pub(crate) async fn debug(port: u16, shown: Shown) -> Result<()> {
    let loopback = [
        (Ipv4Addr::LOCALHOST, port).into(),
        (Ipv6Addr::LOCALHOST, port).into(),
    ];
    run(&loopback, debug_router(shown)).await
}

async fn run(addresses: &[SocketAddr], router: Router) -> Result<()> {
    let address = || addresses.last().map(ToString::to_string).unwrap_or_default();
    let listener = TcpListener::bind(addresses)
        .await
        .with_context(|| format!("cannot listen on {}", address()))?;
    axum::serve(listener, router).await.context("a server ended")
}

fn health_router(metrics: Metrics, readiness: Readiness) -> Router {
    let ready = move || {
        let (code, text) = readiness.answer();
        let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        std::future::ready((code, text))
    };
    let page = move || {
        std::future::ready(match metrics.page() {
            Ok(page) => ([(header::CONTENT_TYPE, METRICS_TYPE)], page).into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        })
    };
    let alive = || std::future::ready("ok");
    Router::new()
        .route("/livez", get(alive))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(page))
}

fn debug_router(shown: Shown) -> Router {
    let cache = move || std::future::ready(cache(&shown));
    Router::new().route("/debug/modelserving/cache", get(cache))
}

fn cache(shown: &Shown) -> Response {
    match shown.get() {
        Some(view) => axum::Json(view.all()).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the controller does not run here\n",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt;

    use super::*;
    use crate::telemetry::Phase;

    async fn ask(router: &Router, method: &str, path: &str) -> (u16, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(Body::empty())
            .unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn health_follows_the_phase_and_life_does_not() {
        let readiness = Readiness::default();
        let router = health_router(Metrics::default(), readiness.clone());
        assert_eq!(ask(&router, "GET", "/livez").await, (200, "ok".into()));
        assert_eq!(ask(&router, "GET", "/readyz").await.0, 503);
        readiness.set(Phase::StandingBy);
        assert_eq!(ask(&router, "GET", "/readyz").await, (200, "standing by".into()));
        assert!(ask(&router, "GET", "/metrics").await.1.ends_with("# EOF\n"));
        assert_eq!(ask(&router, "GET", "/elsewhere").await.0, 404);
    }

    #[tokio::test]
    async fn the_cache_is_shown_to_readers_only_and_where_it_is() {
        let silent = tower::service_fn(|_request: Request<kube::client::Body>| {
            std::future::pending::<Result<http::Response<kube::client::Body>, tower::BoxError>>()
        });
        let client = kube::Client::new(silent, "default");
        let shown = Shown::default();
        let router = debug_router(shown.clone());
        let path = "/debug/modelserving/cache";
        assert_eq!(ask(&router, "GET", path).await.0, 503);
        let controller = kthena_sdk::model_serving::controller::Controller::new(
            client,
            1,
            Default::default(),
            Arc::new(()),
        );
        assert!(shown.set(controller.view()).is_ok());
        assert_eq!(ask(&router, "GET", path).await, (200, "{}".into()));
        assert_eq!(ask(&router, "HEAD", path).await, (200, String::new()));
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(ask(&router, method, path).await.0, 405, "{method}");
        }
    }
}
