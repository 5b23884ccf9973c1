//! A program of the control plane that can be stopped and started again with the same arguments.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::process::{self, Process};

/// How long a component may take to end by itself. An API server waits for its watches otherwise.
pub(super) const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Component {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    running: Option<Process>,
}

impl Component {
    /// A component whose log is `<name>.log` in `dir`; it does not run yet.
    pub(super) fn new(name: &'static str, program: PathBuf, dir: &Path) -> Self {
        Self {
            name,
            program,
            arguments: Vec::new(),
            log: dir.join(format!("{name}.log")),
            running: None,
        }
    }

    pub(super) fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(super) fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// `--flag=path`
    pub(super) fn path(self, flag: &str, path: &Path) -> Self {
        let mut argument = OsString::from(format!("--{flag}="));
        argument.push(path);
        self.arg(argument)
    }

    pub(super) fn started(mut self) -> Result<Self> {
        self.start()?;
        Ok(self)
    }

    pub(super) fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        let dir = self.log.parent().context("a log lies in a folder")?;
        command.current_dir(dir); // some write files where they are
        self.running = Some(Process::start(self.name, &mut command, &self.log)?);
        Ok(())
    }

    /// Hands the process over, to be stopped without holding a lock.
    pub(super) fn take(&mut self) -> Option<Process> {
        self.running.take()
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn check(&mut self) -> Result<()> {
        self.running.as_mut().map_or(Ok(()), Process::check)
    }

    pub(super) fn tail(&self) -> String {
        format!("  {}:\n{}", self.name, process::tail(&self.log, 12))
    }
}
