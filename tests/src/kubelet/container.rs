//! One container of a pod: what it is doing, and the process behind it if it is the engine.

use std::process::ExitStatus;

use k8s_openapi::jiff::Timestamp;

use crate::process::{self, Process};

/// What a container is doing.
#[derive(Debug)]
pub(super) enum State {
    Waiting { reason: &'static str },
    Running { since: Timestamp },
    Ended(Exit),
}

/// How a container ended.
#[derive(Debug, Clone)]
pub(super) struct Exit {
    pub(super) code: i32,
    pub(super) since: Timestamp,
    pub(super) at: Timestamp,
}

/// A container over all its starts.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) restarts: i32,
    pub(super) last: Option<Exit>,
    /// What the probe said last.
    pub(super) is_healthy: bool,
    process: Option<Process>,
}

impl Run {
    pub(super) fn new(name: &str) -> Self {
        let state = State::Waiting {
            reason: "ContainerCreating",
        };
        Self {
            name: name.to_owned(),
            state,
            restarts: 0,
            last: None,
            is_healthy: false,
            process: None,
        }
    }

    /// It runs now: with a process, or only as a claim.
    pub(super) fn start(&mut self, process: Option<Process>) {
        self.is_healthy = process.is_none();
        self.process = process;
        self.state = State::Running {
            since: Timestamp::now(),
        };
    }

    pub(super) fn has_started(&self) -> bool {
        self.restarts > 0 || !matches!(self.state, State::Waiting { .. })
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub(super) fn process(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    pub(super) fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Notices that the process has ended.
    pub(super) fn reap(&mut self) -> Option<i32> {
        let status = self.process.as_mut()?.exited()?;
        Some(self.ended(status))
    }

    /// Kills the process, or ends the claim.
    pub(super) fn kill(&mut self) {
        match self.process.as_mut().map(Process::kill) {
            Some(status) => drop(self.ended(status)),
            None => self.end(0),
        }
    }

    /// Ends a container without a process.
    pub(super) fn end(&mut self, code: i32) {
        self.process = None;
        self.is_healthy = false;
        let at = Timestamp::now();
        let since = match self.state {
            State::Running { since } => since,
            State::Waiting { .. } => at,
            State::Ended(_) => return,
        };
        self.state = State::Ended(Exit { code, since, at });
    }

    /// Gets ready for another start.
    pub(super) fn reset(&mut self, reason: &'static str) {
        if let State::Ended(exit) = std::mem::replace(&mut self.state, State::Waiting { reason }) {
            self.last = Some(exit);
            self.restarts += 1;
        }
    }

    fn ended(&mut self, status: ExitStatus) -> i32 {
        let code = process::exit_code(status);
        self.end(code);
        code
    }
}
