//! Child processes that never outlive the test process.
//!
//! Every [`Process`] is registered with one watchdog, a shell that waits at a pipe whose other end only the test
//! process holds. When that process ends, in whatever way (a shared cluster sits in a static and is never dropped; a
//! test may be killed), the pipe closes and the watchdog kills what is registered and removes the folders it was given.
//! Linux's parent-death signal would not do: it fires when the *thread* that started the child ends, and the test
//! harness gives each test a thread of its own.
//!
//! Each process leads a group of its own, and what it started itself goes with it, as it would in a container.

mod watchdog;

use std::{
    fs::{self, File},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{sys::signal::Signal, unistd::Pid};

pub use self::watchdog::remove_at_exit;
use crate::{stopwatch::Stopwatch, wait};

/// A running program with its output in a file. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: bool,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both output streams appended to `log`.
    pub fn start(name: impl Into<String>, command: &mut Command, log: impl Into<PathBuf>) -> Result<Self> {
        let (name, log) = (name.into(), log.into());
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("sharing the log")?)
            .stderr(output)
            .process_group(0) // a Ctrl-C at the terminal is for the test process, which then ends its children in order
            .spawn()
            .with_context(|| format!("starting {name}: {}", command.get_program().display()))?;
        watchdog::watch(child.id());
        Ok(Self {
            name,
            child,
            ended: false,
            log,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().expect("our own child can be waited for");
        if status.is_some() && !self.ended {
            self.ended = true;
            self.kill_group(); // whom it has left behind
            watchdog::forget(self.child.id());
        }
        status
    }

    /// Sends a signal; a process that has ended already takes none.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            let pid = i32::try_from(self.child.id()).expect("process ids fit");
            // It may end between the look and the signal: it is not reaped yet then, so nobody else has its id.
            nix::sys::signal::kill(Pid::from_raw(pid), signal).ok();
        }
    }

    /// SIGTERM, and SIGKILL when it is still there after `grace`.
    pub async fn stop(&mut self, grace: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        let clock = Stopwatch::start();
        while clock.elapsed() < grace {
            if let Some(status) = self.exited() {
                return status;
            }
            wait::a_moment().await;
        }
        self.kill()
    }

    /// SIGKILL, also to what it has started, and wait for the end, which is immediate.
    pub fn kill(&mut self) -> ExitStatus {
        if let Some(status) = self.exited() {
            return status;
        }
        self.kill_group();
        let status = self.child.wait().expect("our own child can be waited for");
        self.ended = true;
        watchdog::forget(self.child.id());
        status
    }

    fn kill_group(&self) {
        let group = i32::try_from(self.child.id()).expect("process ids fit");
        // Nobody is left in most cases.
        nix::sys::signal::killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
    }

    /// The file with what it printed.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// An error with the end of the log if the process is gone.
    pub fn check(&mut self) -> Result<()> {
        match self.exited() {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}); its last lines:\n{}", self.name, self.tail()),
        }
    }

    /// Like [`wait::until`], but ends at once when the process has ended, and shows the end of its log in its error.
    pub async fn until<T, F, Fut>(&mut self, what: &str, look: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<T>>>,
    {
        self.within(wait::PATIENCE, what, look).await
    }

    /// [`Process::until`] with another deadline.
    pub async fn within<T, F, Fut>(&mut self, limit: Duration, what: &str, look: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Option<T>>>,
    {
        let found = wait::within_while(limit, what, || self.check(), look).await;
        found.map_err(|error| match self.ended {
            true => error, // with the end of the log already
            false => error.context(format!("the last lines of {}:\n{}", self.name, self.tail())),
        })
    }

    /// The last lines of the log.
    pub fn tail(&self) -> String {
        tail(&self.log, 25)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The exit code that a container runtime would report: 128 and the signal for a process that was killed.
pub fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The last `lines` lines of a file, each indented and cut at a readable width.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| {
        let short: String = line.chars().take(400).collect();
        format!("    {short}\n")
    };
    all[all.len().saturating_sub(lines)..].iter().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &Path) -> Process {
        Process::start("sleeper", Command::new("sleep").arg("1000"), dir.join("log")).unwrap()
    }

    #[tokio::test]
    async fn stopping_is_polite_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = sleeper(dir.path());
        assert!(process.exited().is_none());
        let status = process.stop(Duration::from_secs(10)).await;
        assert_eq!(exit_code(status), 128 + 15);
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed_after_its_grace() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let script = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let mut process = Process::start("stubborn", Command::new("sh").args(["-c", script]), &log).unwrap();
        wait::until("the trap to be set", || async {
            Ok(tail(&log, 1).contains("ready").then_some(()))
        })
        .await
        .unwrap();
        let status = process.stop(Duration::from_millis(100)).await;
        assert_eq!(exit_code(status), 128 + 9);
    }

    #[tokio::test]
    async fn its_own_children_go_with_it() {
        for politely in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("log");
            let mut parent = Command::new("sh");
            parent.args(["-c", "sleep 1000 & echo child $!; wait"]);
            let mut process = Process::start("parent", &mut parent, &log).unwrap();
            let child = wait::until("the child to be started", || async {
                let text = tail(&log, 1);
                Ok(text.trim().strip_prefix("child ").map(str::to_owned))
            });
            let child = child.await.unwrap();
            if politely {
                process.stop(Duration::from_secs(10)).await;
            } else {
                process.kill();
            }
            wait::until("the child to be gone", || async {
                let status = fs::read_to_string(format!("/proc/{child}/status"));
                Ok(status
                    .map_or(true, |status| status.contains("zombie"))
                    .then_some(()))
            })
            .await
            .unwrap();
        }
    }

    #[test]
    fn an_unexpected_end_is_reported_with_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 3"]);
        let mut process = Process::start("failing", &mut command, dir.path().join("log")).unwrap();
        process.child.wait().unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(
            error.contains("failing") && error.contains("the reason"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn nobody_waits_for_a_process_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo the reason; exit 3"]);
        let mut process = Process::start("failing", &mut command, dir.path().join("log")).unwrap();
        let clock = Stopwatch::start();
        let waited = process.until("an answer", || async { Ok(None::<()>) }).await;
        let error = format!("{:#}", waited.unwrap_err());
        assert!(
            error.contains("failing") && error.contains("the reason"),
            "{error}"
        );
        assert!(clock.elapsed() < wait::PATIENCE / 2, "{:?}", clock.elapsed());
    }

    #[tokio::test]
    async fn who_waits_in_vain_sees_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo what it waits for; exec sleep 1000"]);
        let log = dir.path().join("log");
        let mut process = Process::start("slow", &mut command, &log).unwrap();
        let printed = || async { Ok(tail(&log, 1).contains("waits").then_some(())) };
        process.until("its output", printed).await.unwrap();
        let limit = Duration::from_millis(60);
        let waited = process
            .within(limit, "an answer", || async { Ok(None::<()>) })
            .await;
        let error = format!("{:#}", waited.unwrap_err());
        assert!(
            error.contains("for an answer") && error.contains("what it waits for"),
            "{error}"
        );
    }
}
