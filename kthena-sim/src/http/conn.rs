//! One connection: request after request, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::date;
use super::request::{ReadError, Reader, Request};
use super::respond::{Cut, Responder};
use super::stream::Stream;

/// What a server does with requests.
pub(crate) trait Service: Send + Sync + 'static {
    /// Whether answers carry `vary: Origin`.
    fn varies(&self) -> bool {
        false
    }

    /// Whether a new connection is reset at once.
    fn refuses(&self) -> bool {
        false
    }

    /// Answers one request. When the client goes away the future is dropped, wherever it is.
    fn call(&self, request: Request, out: &mut Responder<'_>)
    -> impl Future<Output = Result<(), Cut>> + Send;
}

/// The engine's life, as its connections see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Life {
    /// Serving.
    Up,
    /// No new connections; idle ones close, requests in flight go on.
    Draining,
    /// Everything is closed.
    Closed,
    /// Everything is reset.
    Killed,
}

/// How a connection ended.
enum End {
    Close,
    Reset,
}

type Source = Reader<ReadHalf<Stream>>;

/// What all connections of a server have in common.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) life: watch::Receiver<Life>,
    /// From here on, new requests are not taken.
    pub(crate) until: Life,
    /// How long an idle connection stays open.
    pub(crate) keep_alive: Duration,
}

/// Serves a connection to its end.
pub(crate) async fn serve<S: Service>(stream: Stream, service: Arc<S>, terms: Terms) {
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::new(read);
    let end = requests(&mut reader, &mut write, &*service, terms).await;
    let mut stream = reader.into_inner().unsplit(write);
    match end {
        End::Reset => stream.reset(),
        // A TLS peer wants to be told; whether it still listens does not matter.
        End::Close => drop(stream.shutdown().await),
    }
}

async fn requests<S: Service>(
    reader: &mut Source,
    write: &mut WriteHalf<Stream>,
    service: &S,
    terms: Terms,
) -> End {
    let mut first = true;
    let (mut life, mut ending) = (terms.life.clone(), terms.life);
    loop {
        let request = tokio::select! {
            biased;
            end = ended(&mut ending) => return end,
            () = reached(&mut life, terms.until), if !reader.has_bytes() => return End::Close,
            // uvicorn's timer starts with the first answer.
            () = tokio::time::sleep(terms.keep_alive), if !first && !reader.has_bytes() => return End::Close,
            request = next(reader, write) => request,
        };
        let request = match request {
            Ok(request) => request,
            Err(ReadError::Malformed | ReadError::TooLarge) => return refuse(write).await,
            Err(ReadError::Closed | ReadError::Io(_)) => return End::Close,
        };
        first = false;
        let keep = request.keep_alive && *life.borrow() < terms.until;
        let mut responder = Responder::new(write, keep, service.varies());
        if request.method == "HEAD" {
            responder.leave_out_body();
        }
        let outcome = tokio::select! {
            biased;
            end = ended(&mut ending) => return end,
            outcome = service.call(request, &mut responder) => outcome,
            () = reader.gone() => return End::Close,
        };
        match outcome {
            Ok(()) if keep => {}
            Ok(()) | Err(Cut::Close | Cut::Io(_)) => return End::Close,
            Err(Cut::Reset) => return End::Reset,
        }
    }
}

async fn next<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    write: &mut WriteHalf<Stream>,
) -> Result<Request, ReadError> {
    let head = reader.head().await?;
    if head.expects_continue {
        write.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    reader.body(head).await
}

/// Tells the client that it does not speak HTTP, as uvicorn does.
async fn refuse(write: &mut WriteHalf<Stream>) -> End {
    let text = "Invalid HTTP request received.";
    let now = date::format(date::unix_now());
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ndate: {now}\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{text}",
        text.len()
    );
    drop(write.write_all(answer.as_bytes()).await);
    End::Close
}

async fn reached(life: &mut watch::Receiver<Life>, until: Life) {
    // An error means that the engine is gone, which is no less final.
    drop(life.wait_for(|life| *life >= until).await);
}

async fn ended(life: &mut watch::Receiver<Life>) -> End {
    match life.wait_for(|life| *life >= Life::Closed).await.as_deref() {
        Ok(Life::Killed) | Err(_) => End::Reset,
        Ok(_) => End::Close,
    }
}
