//! Answers of the proxy's own.

use std::time::Duration;

use bytes::Bytes;
use http::header;
use pingora_error::{Error as PingoraError, ErrorType, Result as PingoraResult};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Context;
use crate::exchange::head::REQUEST_ID;
use crate::exchange::relay;
use crate::failure::{Failure, Kind};

pub(super) fn not_found(path: &str) -> Failure {
    Failure::new(
        Kind::NotFound,
        format!("unknown path {path:?}; the API is below /v1/"),
    )
}

pub(super) fn aborted(failure: &Failure) -> Box<PingoraError> {
    let kind = if failure.kind == Kind::ClientGone {
        ErrorType::ConnectionClosed
    } else {
        ErrorType::Custom("UpstreamLost")
    };
    PingoraError::explain(kind, failure.message.clone())
}

/// Answers with an error of ours.
pub(super) async fn refuse(session: &mut Session, ctx: &Context, failure: &Failure) -> PingoraResult<()> {
    let unread = !session.is_body_done();
    respond_as(
        session,
        failure.kind.status(),
        failure.body(ctx.operation),
        &ctx.id,
        |head| {
            if failure.kind.status() == 503 {
                head.insert_header(header::RETRY_AFTER, "1")?;
            }
            Ok(())
        },
    )
    .await?;
    if unread {
        // A client that is still sending would see its connection reset before it has read the answer: let it send a little.
        let _late = tokio::time::timeout(Duration::from_secs(1), async {
            let mut left = 8_usize << 20;
            while let Ok(Some(bytes)) = session.read_request_body().await {
                left = left.saturating_sub(bytes.len());
                if left == 0 {
                    break;
                }
            }
        })
        .await;
    }
    Ok(())
}

/// Answers with JSON.
pub(super) async fn respond(session: &mut Session, status: u16, body: Bytes, id: &str) -> PingoraResult<()> {
    respond_as(session, status, body, id, |_| Ok(())).await
}

async fn respond_as(
    session: &mut Session,
    status: u16,
    body: Bytes,
    id: &str,
    more: impl FnOnce(&mut ResponseHeader) -> PingoraResult<()>,
) -> PingoraResult<()> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    if !id.is_empty() {
        head.insert_header(REQUEST_ID, id)?;
    }
    more(&mut head)?;
    send(session, head, body).await
}

pub(super) async fn respond_text(session: &mut Session, text: String) -> PingoraResult<()> {
    let mut head = ResponseHeader::build(200, Some(4))?;
    head.insert_header(header::CONTENT_TYPE, crate::admin::METRICS_TYPE)?;
    head.insert_header(header::CONTENT_LENGTH, text.len())?;
    send(session, head, text.into()).await
}

async fn send(session: &mut Session, head: ResponseHeader, body: Bytes) -> PingoraResult<()> {
    let bodiless = session.req_header().method == http::Method::HEAD;
    relay::begin(session, Box::new(head), bodiless).await?;
    session
        .write_response_body((!bodiless).then_some(body), true)
        .await
}
