//! The load generator: a closed loop of connections, and what it saw.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::BytesMut;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::answer;
use crate::machine::Group;
use crate::request::Answer;
use crate::stats::percentile;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// One kind of request, sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where the proxy listens.
    pub target: SocketAddr,
    /// The whole request, head and body.
    pub request: Arc<[u8]>,
    /// What its answer is.
    pub answer: Answer,
    /// Connections, each with one request at a time.
    pub connections: usize,
    /// How long before anything counts.
    pub warmup: Duration,
    /// How long after that.
    pub time: Duration,
    /// Whose CPU time is read meanwhile.
    pub group: Option<Group>,
}

/// What came of a run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    /// Answers read to their end while it counted.
    pub requests: u64,
    /// Answers with another status, an error in their midst, or none.
    pub failed: u64,
    /// Why the first of them did.
    pub reason: Option<String>,
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// CPU time of the proxy's processes for each request, in microseconds.
    pub cpu_us: f64,
}

#[derive(Default)]
struct State {
    counting: Cell<bool>,
    stop: Cell<bool>,
    times: RefCell<Vec<u32>>,
    failed: Cell<u64>,
    reason: RefCell<Option<String>>,
}

/// Runs the plan to its end, on the thread it is called from.
pub(crate) async fn run(plan: &Plan) -> Result<Outcome> {
    let state = Rc::new(State::default());
    state.times.borrow_mut().reserve(1 << 16);
    let tasks = LocalSet::new();
    for _ in 0..plan.connections {
        tasks.spawn_local(connections(plan.clone(), Rc::clone(&state)));
    }
    let cpu = || plan.group.map_or(Ok(0), Group::cpu_ns);
    let (seconds, used) = tasks
        .run_until(async {
            tokio::time::sleep(plan.warmup).await;
            let (begun, before) = (Instant::now(), cpu()?);
            state.counting.set(true);
            tokio::time::sleep(plan.time).await;
            state.counting.set(false);
            let measured = (begun.elapsed().as_secs_f64(), cpu()?.saturating_sub(before));
            state.stop.set(true);
            anyhow::Ok(measured)
        })
        .await?;
    tasks.await;
    let mut times = state.times.take();
    times.sort_unstable();
    let requests = times.len() as u64;
    Ok(Outcome {
        requests,
        failed: state.failed.get(),
        reason: state.reason.take(),
        requests_per_second: requests as f64 / seconds,
        p50_us: f64::from(percentile(&times, 0.5)) / 1000.0,
        p99_us: f64::from(percentile(&times, 0.99)) / 1000.0,
        cpu_us: if requests == 0 {
            0.0
        } else {
            used as f64 / 1000.0 / requests as f64
        },
    })
}

/// One connection after the other: a failure ends one.
async fn connections(plan: Plan, state: Rc<State>) {
    while !state.stop.get() {
        if let Err(error) = connection(&plan, &state).await {
            state.failed.set(state.failed.get() + 1);
            state
                .reason
                .borrow_mut()
                .get_or_insert_with(|| format!("{error:#}"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn connection(plan: &Plan, state: &State) -> Result<()> {
    let mut socket = connect(plan.target).await?;
    let mut buffer = BytesMut::with_capacity(128 * 1024);
    while !state.stop.get() {
        let begun = Instant::now();
        let exchange = async {
            socket
                .write_all(&plan.request)
                .await
                .context("writing the request")?;
            answer::read(&mut socket, &mut buffer, plan.answer).await
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("no answer within {PATIENCE:?}"))??;
        if state.counting.get() {
            let nanoseconds = begun.elapsed().as_nanos();
            state
                .times
                .borrow_mut()
                .push(u32::try_from(nanoseconds).unwrap_or(u32::MAX));
        }
    }
    Ok(())
}

/// A connection as HTTP clients open them.
pub(crate) async fn connect(target: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(target)
        .await
        .with_context(|| format!("connecting to {target}"))?;
    socket.set_nodelay(true).context("setting TCP_NODELAY")?;
    Ok(socket)
}
