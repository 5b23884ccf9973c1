//! What is left of a request: a line in the access log, and metrics.

use std::time::Duration;

use pingora_proxy::Session;

use super::{Context, Shared};
use crate::failure::Kind;
use crate::telemetry::access_log::{self, Entry};
use crate::telemetry::metrics::{Finished, Label};

impl Shared {
    /// Writes log and metrics.
    pub(super) fn record(&self, session: &Session, ctx: &Context) {
        let duration = ctx.begun.elapsed();
        let written = session.response_written().map(|head| head.status.as_u16());
        let status = match &ctx.failure {
            // What came after the head is told by the error, not by the status.
            Some(failure) if failure.kind == Kind::ClientGone => written.unwrap_or(Kind::ClientGone.status()),
            Some(failure) => written.unwrap_or(failure.kind.status()),
            None => written.unwrap_or(0),
        };
        let error_type = match &ctx.failure {
            Some(failure) => failure.kind.label(),
            None if status < 400 => "successful_request",
            None => "request_failed",
        };
        let usage = ctx.trace.usage.unwrap_or_default();
        let alone = ctx.trace.alone.map(crate::connector::Alone::label);
        self.metrics.finish(&Finished {
            model: &ctx.model_label,
            path: ctx.operation.label(),
            status,
            error_type,
            destination: &ctx.destination,
            duration,
            first_byte: ctx.trace.first_byte.map(|at| at.duration_since(ctx.begun)),
            input_tokens: ctx.input_tokens,
            output_tokens: usage.output,
            retries: u64::from(ctx.trace.attempts.saturating_sub(1)),
            phases: &ctx.trace.phases,
            alone,
        });
        let Some(log) = &self.access_log else { return };
        let request = session.req_header();
        let to = &ctx.destination;
        let resolved = |label: &'_ Label| (label != &self.none).then(|| label.to_string());
        let (route, backend, upstream_model) = (
            resolved(&to.route),
            resolved(&to.backend_name),
            resolved(&to.upstream_model),
        );
        let routed = ctx.routed.map_or(duration, |at| at.duration_since(ctx.begun));
        log.log(&Entry {
            timestamp: timestamp(duration),
            method: request.method.as_str(),
            path: request.uri.path(),
            protocol: protocol(request.version),
            status_code: status,
            error: ctx.failure.as_ref().map(|failure| access_log::Error {
                r#type: failure.kind.label(),
                message: &failure.message,
            }),
            model_name: &ctx.model,
            model_route: route.as_deref(),
            model_server: backend.as_deref().filter(|_| to.backend_type == "model_server"),
            selected_pod: ctx.trace.endpoint.as_ref().map(|endpoint| endpoint.pod()),
            prefill_pod: ctx.trace.prefill.as_ref().map(|endpoint| endpoint.pod()),
            request_id: &ctx.id,
            backend_type: Some(to.backend_type).filter(|_| to.is_resolved()),
            backend_name: backend.as_deref(),
            upstream_model: upstream_model.as_deref(),
            upstream_status_code: ctx.trace.upstream_status,
            upstream_attempts: ctx.trace.attempts,
            decode_alone: alone,
            input_tokens: ctx.input_tokens,
            output_tokens: usage.output,
            duration_total: access_log::millis(duration),
            duration_request_processing: access_log::millis(routed),
            duration_upstream_processing: access_log::millis(duration.saturating_sub(routed)),
            duration_response_processing: 0,
        });
    }
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// When the request began, now that it has taken this long.
fn timestamp(duration: Duration) -> String {
    let now = jiff::Timestamp::now();
    now.checked_sub(duration).unwrap_or(now).to_string()
}
