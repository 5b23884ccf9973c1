//! Memory for each open stream: a fresh proxy, and as many streams as it is asked for, all open at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Settings;
use crate::answer;
use crate::bed::{Bed, Running, chat};
use crate::load::{Plan, connect, run as load};
use crate::machine::Group;
use crate::request::{Answer, Chat, HOLD};
use crate::stats::Figure;
use crate::subject::{Peers, Subject};

/// Streams that are being opened at once.
const OPENING: usize = 32;
/// What a proxy does after the last stream has been opened is done by then.
const PAUSE: Duration = Duration::from_millis(500);

/// One proxy.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub subject: Subject,
    pub streams: usize,
    /// Memory that the open streams have added, for each of them.
    pub bytes_per_stream: Figure,
    /// Why there are no figures.
    pub failed: Option<String>,
}

/// Measures all, round by round.
pub(crate) async fn run(
    bed: &Bed,
    peers: &Peers,
    subjects: &[Subject],
    settings: &Settings,
) -> Result<Vec<Row>> {
    let mut figures: Vec<(Vec<f64>, Option<String>)> = subjects.iter().map(|_| (Vec::new(), None)).collect();
    for round in 1..=settings.stream_rounds {
        eprintln!(
            "{} open streams: round {round} of {}",
            settings.streams, settings.stream_rounds
        );
        for (subject, (bytes, failed)) in subjects.iter().zip(&mut figures) {
            let figure = async {
                let running = subject.start(bed, peers).await?;
                growth(&running, settings.streams).await
            };
            match figure.await {
                Ok(figure) => bytes.push(figure),
                Err(error) => {
                    eprintln!("{}: {error:#}", subject.name());
                    *failed = Some(error.to_string());
                }
            }
        }
    }
    let rows = subjects
        .iter()
        .zip(figures)
        .map(|(subject, (bytes, failed))| Row {
            subject: *subject,
            streams: settings.streams,
            bytes_per_stream: Figure::of(bytes),
            failed,
        });
    Ok(rows.collect())
}

async fn growth(running: &Running, streams: usize) -> Result<f64> {
    let (target, group) = (running.address, running.group());
    warm_up(running, group).await?;
    let before = group.memory()?;
    let chat = Chat {
        model: running.model,
        user: Some(HOLD),
        ..chat(Answer::Stream)
    };
    let request = chat.bytes(target);
    let open = stream::iter(0..streams).map(|number| {
        let request = Arc::clone(&request);
        async move {
            open(target, &request)
                .await
                .with_context(|| format!("opening stream {number}"))
        }
    });
    let open: Vec<TcpStream> = open.buffer_unordered(OPENING).try_collect().await?;
    tokio::time::sleep(PAUSE).await;
    let after = group.memory()?;
    drop(open);
    Ok(after.saturating_sub(before) as f64 / streams as f64)
}

/// What is allocated once is there before memory is looked at.
async fn warm_up(running: &Running, group: Group) -> Result<()> {
    let answer = Answer::Stream;
    let model = running.model;
    let plan = Plan {
        target: running.address,
        request: Chat {
            model,
            ..chat(answer)
        }
        .bytes(running.address),
        answer,
        connections: OPENING,
        warmup: Duration::ZERO,
        time: Duration::from_millis(200),
        group: Some(group),
    };
    load(&plan).await?;
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

async fn open(target: SocketAddr, request: &[u8]) -> Result<TcpStream> {
    let mut socket = connect(target).await?;
    socket.write_all(request).await.context("writing the request")?;
    answer::begin(&mut socket, &mut BytesMut::new()).await?;
    Ok(socket)
}
