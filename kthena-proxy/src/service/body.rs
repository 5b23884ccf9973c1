//! Reading what a client sends: the body, and the parts of it that routing needs.

use bytes::{Bytes, BytesMut};
use http::header;
use pingora_error::{Error as PingoraError, ErrorType};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Shared;
use crate::exchange::head::REQUEST_ID;
use crate::failure::{Failure, Kind};
use crate::openai::form;
use crate::openai::peek::{Key, Peek};

impl Shared {
    /// The whole body.
    pub(super) async fn read_body(&self, session: &mut Session) -> Result<Bytes, Failure> {
        if session.is_body_empty() {
            return Ok(Bytes::new());
        }
        let announced = session
            .get_header(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > self.body_limit) {
            return Err(self.too_large());
        }
        if session
            .get_header(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            let proceed = ResponseHeader::build(100, Some(0)).map_err(Failure::client_gone)?;
            session
                .write_response_header(Box::new(proceed), false)
                .await
                .map_err(Failure::client_gone)?;
        }
        let read = |error: Box<PingoraError>| match error.etype() {
            ErrorType::ReadTimedout => {
                Failure::new(Kind::BodyTimeout, "the request body did not come in time").because(error)
            }
            ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => {
                Failure::client_gone(error)
            }
            _ => Failure::new(Kind::Parse, "the request body is not framed as HTTP demands").because(error),
        };
        let Some(first) = session.read_request_body().await.map_err(read)? else {
            return Ok(Bytes::new());
        };
        if session.is_body_done() {
            return Ok(first);
        }
        // Memory follows what has arrived, not what was announced.
        let mut all = BytesMut::with_capacity(announced.unwrap_or(0).clamp(first.len(), 1 << 20));
        all.extend_from_slice(&first);
        while let Some(next) = session.read_request_body().await.map_err(read)? {
            if all.len() + next.len() > self.body_limit {
                return Err(self.too_large());
            }
            all.extend_from_slice(&next);
        }
        Ok(all.freeze())
    }

    fn too_large(&self) -> Failure {
        Failure::new(
            Kind::TooLarge,
            format!("the request body is larger than {} bytes", self.body_limit),
        )
    }
}

/// The parts of a body that routing needs: the model, and where members stand if it is JSON.
pub(super) fn parse(
    session: &Session,
    body: Bytes,
) -> Result<(Option<Bytes>, Option<Peek>, String), Failure> {
    let missing = || Failure::new(Kind::ModelMissing, "you must provide a model parameter");
    if let Some(boundary) = form::boundary(session.get_header_bytes(header::CONTENT_TYPE)) {
        let model = form::field(&body, &boundary, "model")
            .map_err(|error| Failure::new(Kind::Parse, error.to_string()).because(error))?
            .filter(|model| !model.trim().is_empty())
            .ok_or_else(missing)?;
        return Ok((Some(body), None, model));
    }
    let peek = Peek::read(&body).map_err(|error| {
        let message = if body.is_empty() {
            "the request has no body".to_owned()
        } else {
            error.to_string()
        };
        Failure::new(Kind::Parse, message).because(error)
    })?;
    let model = peek
        .string(&body, Key::Model)
        .filter(|model| !model.trim().is_empty())
        .ok_or_else(missing)?;
    Ok((Some(body), Some(peek), model))
}

/// The client's own id for the request, if it is one that can be logged and passed on; else a fresh one.
pub(super) fn request_id(session: &Session) -> String {
    session
        .get_header(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .map(str::trim)
        .filter(|id| !id.is_empty() && id.len() <= 256)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// What the client calls this server.
pub(super) fn host(session: &Session) -> Vec<u8> {
    let request = session.req_header();
    match request.headers.get(header::HOST) {
        Some(host) => host.as_bytes().to_vec(),
        None => request
            .uri
            .authority()
            .map_or_else(Vec::new, |authority| authority.as_str().as_bytes().to_vec()),
    }
}
