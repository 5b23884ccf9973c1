//! One pod: its process, its probe, its status, its end.

use std::{net::Ipv4Addr, process::Command, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Readiness,
    container::{Run, State},
    dispatch::Shared,
    engine::{self, Engine},
    pod,
    probe::{Probe, Prober},
    status::Transitions,
};
use crate::process::Process;

/// How often a process is looked at.
const TICK: Duration = Duration::from_millis(50);
/// The pause before the second restart in a row; it doubles from there. The first restart is at once.
const BACKOFF: Duration = Duration::from_millis(250);

/// What a test does to a pod.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Crash,
    Freeze,
    Thaw,
    Ready(Readiness),
    Readdress,
}

/// The latest state of the pod's object.
#[derive(Debug)]
pub(super) enum Update {
    Pod(Box<Pod>),
    Gone,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Pod,
    engine: Option<Engine>,
    pub(super) address: Ipv4Addr,
    pub(super) started: Timestamp,
    pub(super) runs: Vec<Run>,
    next_start: Instant,
    pub(super) readiness: Readiness,
    probe: Option<Prober>,
    end: Option<End>,
    pub(super) transitions: Transitions,
    pub(super) reported: Option<Value>,
    pub(super) is_deleted: bool,
}

/// The last part of a pod's life.
#[derive(Debug)]
struct End {
    term_at: Instant,
    kill_at: Instant,
    is_termed: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, pod: Pod) -> Self {
        let runs = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| Run::new(&container.name));
        Self {
            runs: runs.collect(),
            engine: engine::of(&pod),
            address: Ipv4Addr::UNSPECIFIED,
            started: Timestamp::now(),
            next_start: Instant::now(),
            readiness: Readiness::default(),
            probe: None,
            end: None,
            transitions: Transitions::default(),
            reported: None,
            is_deleted: false,
            shared,
            pod,
        }
    }

    pub(super) async fn run(
        mut self,
        mut updates: watch::Receiver<Update>,
        mut actions: mpsc::Receiver<(Action, oneshot::Sender<Result<()>>)>,
    ) {
        self.address = match self.pick_address() {
            Ok(address) => address,
            Err(error) => return eprintln!("{}: {error:#}", self.name()),
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                changed = updates.changed() => match (changed, &*updates.borrow_and_update()) {
                    (Ok(()), Update::Pod(pod)) => self.pod = (**pod).clone(),
                    (Ok(()), Update::Gone) | (Err(_), _) => return, // what still runs is killed
                },
                Some((action, done)) = actions.recv() => drop(done.send(self.act(action))),
                _ = tick.tick() => {}
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        self.reap();
        self.begin_end();
        match &self.end {
            Some(_) => self.end(),
            None => self.start(),
        }
        if let (Some(probe), Some(run)) = (
            &mut self.probe,
            self.runs.iter_mut().find(|run| run.process_id().is_some()),
        ) {
            run.is_healthy = *probe.passes.borrow_and_update();
        }
        self.report().await;
        if self.end.is_some() && self.is_over() && !self.is_deleted {
            self.is_deleted = self.delete().await;
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Ready(readiness) => {
                self.readiness = readiness;
                return Ok(());
            }
            Action::Readdress => {
                for run in &mut self.runs {
                    run.kill();
                    run.reset("ContainerCreating");
                }
                self.probe = None;
                self.address = self.pick_address()?;
                self.next_start = Instant::now();
                return Ok(());
            }
            Action::Crash | Action::Freeze | Action::Thaw => {}
        }
        let Some(process) = self.runs.iter_mut().find_map(Run::process) else {
            bail!("the pod has no engine process")
        };
        match action {
            Action::Crash => process.signal(Signal::SIGKILL),
            Action::Freeze => process.signal(Signal::SIGSTOP),
            _ => process.signal(Signal::SIGCONT),
        }
        Ok(())
    }

    /// Notices ends, and decides about the next start.
    fn reap(&mut self) {
        for run in &mut self.runs {
            let Some(code) = run.reap() else { continue };
            self.probe = None;
            if self.end.is_none() && pod::restarts(&self.pod, code) {
                let pause = match run.restarts {
                    _ if self.readiness == Readiness::Always => Duration::ZERO, // who waits is not ready
                    0 => Duration::ZERO,
                    restarts => BACKOFF * 2_u32.pow(restarts.unsigned_abs().min(4)),
                };
                run.reset("CrashLoopBackOff");
                self.next_start = Instant::now() + pause;
            }
        }
    }

    fn start(&mut self) {
        if Instant::now() < self.next_start {
            return;
        }
        for at in 0..self.runs.len() {
            if !matches!(self.runs[at].state, State::Waiting { .. }) {
                continue;
            }
            let engine = self
                .engine
                .clone()
                .filter(|engine| engine.container == self.runs[at].name);
            match engine.map(|engine| self.start_engine(&engine)).transpose() {
                Ok(process) => self.runs[at].start(process),
                Err(error) => {
                    eprintln!("{}: {error:#}", self.name());
                    self.runs[at].state = State::Waiting {
                        reason: "RunContainerError",
                    };
                    self.next_start = Instant::now() + BACKOFF;
                }
            }
        }
    }

    fn start_engine(&mut self, engine: &Engine) -> Result<Process> {
        let settings = &self.shared.settings;
        let mut command = Command::new(&settings.program);
        command
            .arg("--listen")
            .arg(format!("{}:{}", self.address, engine.port));
        command.args(engine::merge(&settings.arguments, &engine.arguments));
        let log = settings.dir.join(format!(
            "{}_{}.log",
            self.name().replace('/', "_"),
            engine.container
        ));
        let process = Process::start(self.name(), &mut command, log)?;
        let spec = self
            .pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .find(|found| found.name == engine.container);
        let probe = Probe::of(spec.context("the engine is a container of its pod")?, engine.port);
        self.probe = Some(Prober::start(probe, self.address, settings.probe_every));
        Ok(process)
    }

    /// A pod that is deleted gets its last dates; a second deletion may bring them forward.
    fn begin_end(&mut self) {
        let Some(grace) = pod::grace(&self.pod) else {
            return;
        };
        let now = Instant::now();
        let end = self.end.get_or_insert_with(|| {
            let running = self.runs.iter().filter(|run| run.is_running());
            let pause = running
                .map(|run| pod::pre_stop(&self.pod, &run.name))
                .max()
                .unwrap_or_default();
            End {
                term_at: now + pause.min(grace),
                kill_at: now + grace,
                is_termed: false,
            }
        });
        end.kill_at = end.kill_at.min(now + grace);
    }

    fn end(&mut self) {
        let Some(end) = &mut self.end else { return };
        let now = Instant::now();
        if now >= end.term_at && !end.is_termed {
            end.is_termed = true;
            for run in &mut self.runs {
                match run.process() {
                    Some(process) => process.signal(Signal::SIGTERM),
                    None => run.end(0),
                }
            }
        }
        if now >= end.kill_at {
            self.runs.iter_mut().for_each(Run::kill);
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.runs.iter().all(|run| matches!(run.state, State::Ended(_)))
    }

    fn pick_address(&self) -> Result<Ipv4Addr> {
        if pod::is_in_host_network(&self.pod) {
            return Ok(self.shared.settings.address);
        }
        match pod::chosen_address(&self.pod) {
            Some(address) if self.reported.is_none() => Ok(address),
            _ => self.shared.addresses.lock().next(),
        }
    }

    pub(super) fn name(&self) -> String {
        let metadata = &self.pod.metadata;
        format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        )
    }
}
