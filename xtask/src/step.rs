//! Named steps, one after the other, each timed; the first failure ends them.

use std::{fmt::Write, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail};
use kthena_tests::{command::output, setting, stopwatch::Stopwatch};
use serde_json::Value;

/// What has been done so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
    left_out: Vec<String>,
}

impl Steps {
    /// Does one thing under a heading.
    pub(crate) fn run<T>(&mut self, name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("\n=== {name}");
        let clock = Stopwatch::start();
        let result = act();
        self.done.push((name.to_owned(), clock.elapsed()));
        result.with_context(|| format!("{name} failed\n{}", self.durations()))
    }

    /// Runs a command under a heading; its output goes where ours goes.
    pub(crate) fn command(&mut self, name: &str, command: &mut Command) -> Result<()> {
        self.run(name, || run(command))
    }

    /// Remembers what was not done, and why.
    pub(crate) fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    /// How long everything took, and what was left out.
    pub(crate) fn summary(&self) -> String {
        let mut text = self.durations();
        for what in &self.left_out {
            writeln!(text, "  not run: {what}").expect("strings take everything");
        }
        text
    }

    fn durations(&self) -> String {
        let mut text = String::new();
        for (name, took) in &self.done {
            writeln!(text, "  {:>8.1} s  {name}", took.as_secs_f64()).expect("strings take everything");
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        writeln!(text, "  {:>8.1} s  in all", total.as_secs_f64()).expect("strings take everything");
        text
    }
}

/// Cargo in the root of the workspace.
pub(crate) fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(setting::cargo());
    command.current_dir(setting::checkout()).args(arguments);
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("starting {}", command.get_program().display()))?;
    if !status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect();
        bail!(
            "`{} {}` ended with {status}",
            command.get_program().display(),
            arguments.join(" ")
        );
    }
    Ok(())
}

/// What cargo says about the workspace's packages.
pub(crate) fn metadata() -> Result<Value> {
    let text = output(&mut cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("reading cargo metadata")
}

/// Where cargo puts the workspace's programs: `debug`, `release`.
pub(crate) fn binaries(profile: &str) -> Result<PathBuf> {
    let metadata = metadata()?;
    let target = metadata["target_directory"]
        .as_str()
        .context("cargo names its target folder")?;
    Ok(PathBuf::from(target).join(profile))
}
