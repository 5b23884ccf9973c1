//! Changes of routes and endpoints under load: nothing may fail, no stream may break.
//!
//! The files of kthena-proxy are rewritten again and again while plain and disaggregated requests run, some of them streams
//! that last longer than a change. Each change brings a route of its own; the next comes when that one is listed.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::BytesMut;
use kthena_tests::wait;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::Settings;
use crate::answer;
use crate::bed::{Bed, chat};
use crate::load::connect;
use crate::request::{Answer, Chat, DRIP};
use crate::subject::{Manifest, group, start_with};

/// Connections with short requests.
const SHORT: u32 = 20;
/// Connections with one slow stream after the other.
const SLOW: usize = 40;
/// Events of a slow stream, ten a second: it lasts across dozens of changes.
const EVENTS: usize = 30;
/// The two models: plain engines, and pairs.
const MODELS: [&str; 2] = ["bench", "bench-pd"];

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub changes: usize,
    pub seconds: f64,
    /// Short requests, half of them streamed, half of them disaggregated.
    pub requests: u64,
    pub requests_per_second: f64,
    /// Slow streams that were opened and read to their end.
    pub streams: u64,
    pub failed: u64,
    pub broken_streams: u64,
    /// Why the first of them did.
    pub reason: Option<String>,
}

#[derive(Default)]
struct State {
    stop: Cell<bool>,
    requests: Cell<u64>,
    streams: Cell<u64>,
    failed: Cell<u64>,
    broken: Cell<u64>,
    reason: RefCell<Option<String>>,
}

/// Starts a proxy of its own, and makes all changes.
pub(crate) async fn run(bed: &Bed, settings: &Settings) -> Result<Outcome> {
    eprintln!("{} changes under load", settings.changes);
    let folder = bed.folder("reload")?;
    let running = start_with(bed, &folder, &manifests(bed, 0)).await?;
    let address = running.address;
    let state = Rc::new(State::default());
    let tasks = LocalSet::new();
    let pause = Duration::from_secs(1) * SHORT / settings.reload_rate;
    for number in 0..SHORT as usize {
        tasks.spawn_local(short(address, number, pause, Rc::clone(&state)));
    }
    for number in 0..SLOW {
        tasks.spawn_local(slow(address, MODELS[number % 2], Rc::clone(&state)));
    }
    let begun = Instant::now();
    let changed = tasks
        .run_until(change(bed, &folder, address, settings.changes))
        .await;
    let (seconds, requests) = (begun.elapsed().as_secs_f64(), state.requests.get());
    state.stop.set(true);
    tasks.await;
    changed?;
    Ok(Outcome {
        changes: settings.changes,
        seconds,
        requests,
        requests_per_second: requests as f64 / seconds,
        streams: state.streams.get(),
        failed: state.failed.get(),
        broken_streams: state.broken.get(),
        reason: state.reason.take(),
    })
}

/// The objects after so many changes: engines come and go, pairs are made anew, the rule has another name.
fn manifests(bed: &Bed, revision: usize) -> [Manifest; 2] {
    let engine = |number: usize| bed.engine(u8::try_from(number % 6).expect("below six"));
    let plain = match revision % 4 {
        0 => vec![0],
        1 => vec![0, 1, 2],
        2 => vec![2, 3],
        _ => vec![1, 4, 5, 0],
    };
    let pairs = match revision % 3 {
        0 => group(0, engine(0), engine(1)).to_vec(),
        1 => [group(0, engine(0), engine(2)), group(1, engine(4), engine(5))].concat(),
        _ => group(2, engine(3), engine(5)).to_vec(),
    };
    let [bench, bench_pd] = MODELS;
    [
        Manifest {
            model: bench,
            endpoints: plain.into_iter().map(|number| (engine(number), None)).collect(),
            revision,
        },
        Manifest {
            model: bench_pd,
            endpoints: pairs,
            revision,
        },
    ]
}

async fn change(bed: &Bed, folder: &Path, address: SocketAddr, changes: usize) -> Result<()> {
    let objects = folder.join("objects");
    for revision in 1..=changes {
        for manifest in manifests(bed, revision) {
            manifest.write(&objects)?;
        }
        let marker = format!("change-{revision}");
        let route = format!(
            "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelRoute\nmetadata: {{name: marker}}\n\
             spec: {{modelName: {marker}, rules: [{{name: all, targetModels: [{{modelServerName: bench}}]}}]}}\n"
        );
        let unfinished = objects.join(".marker.unfinished");
        std::fs::write(&unfinished, route).context("writing a route")?;
        std::fs::rename(&unfinished, objects.join("marker.yaml")).context("writing a route")?;
        wait::until(&format!("change {revision} to be seen"), || async {
            let models = models(address).await?;
            Ok(models.contains(&format!("\"{marker}\"")).then_some(()))
        })
        .await?;
    }
    Ok(())
}

async fn models(address: SocketAddr) -> Result<String> {
    let mut socket = connect(address).await?;
    let request = format!("GET /v1/models HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    ensure!(text.starts_with("HTTP/1.1 200"), "{text}");
    Ok(text)
}

/// Short requests of all kinds in turn, at a steady pace.
async fn short(address: SocketAddr, number: usize, pause: Duration, state: Rc<State>) {
    let kinds: Vec<_> = [Answer::Json, Answer::Stream]
        .into_iter()
        .flat_map(|answer| {
            MODELS.map(|model| {
                (
                    Chat {
                        model,
                        ..chat(answer)
                    }
                    .bytes(address),
                    answer,
                )
            })
        })
        .collect();
    let mut ticks = tokio::time::interval(pause);
    let mut kinds = kinds.iter().cycle().skip(number % 4);
    while !state.stop.get() {
        let one = async {
            let mut socket = connect(address).await?;
            let mut buffer = BytesMut::with_capacity(64 * 1024);
            while let (false, Some((request, answer))) = (state.stop.get(), kinds.next()) {
                ticks.tick().await;
                socket.write_all(request).await.context("writing a request")?;
                answer::read(&mut socket, &mut buffer, *answer).await?;
                state.requests.set(state.requests.get() + 1);
            }
            anyhow::Ok(())
        };
        if let Err(error) = one.await {
            state.failed.set(state.failed.get() + 1);
            state
                .reason
                .borrow_mut()
                .get_or_insert_with(|| format!("{error:#}"));
        }
    }
}

/// Streams that last.
async fn slow(address: SocketAddr, model: &'static str, state: Rc<State>) {
    let user = format!("{DRIP}{EVENTS}");
    let chat = Chat {
        model,
        user: Some(&user),
        ..chat(Answer::Stream)
    };
    let request = chat.bytes(address);
    while !state.stop.get() {
        let one = async {
            let mut socket = connect(address).await?;
            socket.write_all(&request).await.context("writing a request")?;
            answer::read(&mut socket, &mut BytesMut::new(), Answer::Stream).await
        };
        match one.await {
            Ok(()) => state.streams.set(state.streams.get() + 1),
            Err(error) => {
                state.broken.set(state.broken.get() + 1);
                state
                    .reason
                    .borrow_mut()
                    .get_or_insert_with(|| format!("a stream: {error:#}"));
            }
        }
    }
}
