//! Reading one answer, as cheaply as a load generator must, and noticing when it is not complete.

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::request::Answer;

/// The end of a chunked body; the bodies of the bench never hold it themselves.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
/// As much of a stream as is kept to look for its end.
const TAIL: usize = 64;

/// Reads one answer to its end; an error unless its status is 200 and its body complete.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    socket: &mut S,
    buffer: &mut BytesMut,
    expected: Answer,
) -> Result<()> {
    let head = head(socket, buffer).await?;
    if let Some(length) = content_length(&head) {
        while buffer.len() < length {
            more(socket, buffer).await.context("in the body")?;
        }
        ensure!(
            buffer[..length].ends_with(expected.end()),
            "the body ends with {:?}",
            String::from_utf8_lossy(tail(&buffer[..length]))
        );
        buffer.advance(length);
    } else {
        while !buffer.ends_with(LAST_CHUNK) {
            buffer.advance(buffer.len().saturating_sub(TAIL));
            more(socket, buffer).await.context("in the stream")?;
        }
        let body = &buffer[..buffer.len() - LAST_CHUNK.len()];
        // Chunks may end anywhere: some proxies give each line its own.
        ensure!(
            memmem::find(tail(body), expected.end()).is_some(),
            "the stream ends with {:?}",
            String::from_utf8_lossy(tail(body))
        );
        buffer.clear();
    }
    Ok(())
}

/// Reads the head and the first event of a stream.
pub(crate) async fn begin<S: AsyncRead + Unpin>(socket: &mut S, buffer: &mut BytesMut) -> Result<()> {
    head(socket, buffer).await?;
    while memmem::find(buffer, b"data: ").is_none() {
        more(socket, buffer).await.context("before the first event")?;
    }
    Ok(())
}

async fn head<S: AsyncRead + Unpin>(socket: &mut S, buffer: &mut BytesMut) -> Result<BytesMut> {
    let end = loop {
        if let Some(at) = memmem::find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        more(socket, buffer).await.context("before the head")?;
    };
    let head = buffer.split_to(end);
    if !head.starts_with(b"HTTP/1.1 200") {
        if buffer.is_empty() {
            // The body tells why, if it comes.
            let _none = more(socket, buffer).await;
        }
        let text = String::from_utf8_lossy;
        bail!("answered {}{}", text(&head), text(buffer));
    }
    Ok(head)
}

async fn more<S: AsyncRead + Unpin>(socket: &mut S, buffer: &mut BytesMut) -> Result<()> {
    buffer.reserve(64 * 1024);
    let read = socket.read_buf(buffer).await.context("reading")?;
    ensure!(read > 0, "connection closed");
    Ok(())
}

fn content_length(head: &[u8]) -> Option<usize> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked("content-length:".len())?;
        let value = std::str::from_utf8(value).ok()?;
        name.eq_ignore_ascii_case(b"content-length:")
            .then(|| value.trim().parse().ok())?
    })
}

fn tail(body: &[u8]) -> &[u8] {
    &body[body.len().saturating_sub(TAIL)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                          9\r\ndata: 1\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}";

    fn outcome(answer: &str, expected: Answer, step: usize) -> Result<()> {
        let mut mock = pieces(answer, step);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&mut mock, &mut BytesMut::new(), expected))
    }

    /// A reader that gives a few bytes at a time.
    fn pieces(answer: &str, step: usize) -> impl AsyncRead + Unpin {
        let all = answer.as_bytes().chunks(step).map(|piece| piece.to_vec());
        Pieces(all.collect())
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if let Some(piece) = self.0.pop_front() {
                buffer.put_slice(&piece);
            }
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn complete_answers_are_read_however_they_arrive() {
        for step in 1..200 {
            outcome(STREAM, Answer::Stream, step).unwrap();
            outcome(JSON, Answer::Json, step).unwrap();
            outcome(
                &STREAM.replace("[DONE]\n\n", "[DONE]\n\r\n1\r\n\n"),
                Answer::Stream,
                step,
            )
            .unwrap();
        }
    }

    #[test]
    fn what_is_missing_is_noticed() {
        for cut in 1..STREAM.len() {
            outcome(&STREAM[..cut], Answer::Stream, 16).unwrap_err();
        }
        for cut in 1..JSON.len() {
            outcome(&JSON[..cut], Answer::Json, 16).unwrap_err();
        }
    }

    #[test]
    fn an_error_is_no_answer() {
        for (answer, expected) in [
            ("HTTP/1.1 503 Busy\r\ncontent-length: 2\r\n\r\n{}", "503"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n",
                "ends with",
            ),
        ] {
            let error = outcome(answer, Answer::Stream, 1000).unwrap_err();
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
