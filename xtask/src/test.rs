//! `cargo xtask test`: what the README names and CI runs.

use anyhow::{Context, Result, ensure};
use kthena_tests::{clients::Client, prerequisite};

use crate::{
    check, codegen, real_engines,
    step::{Steps, binaries, cargo},
    tools,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out everything that needs a control plane.
    #[arg(long)]
    fast: bool,

    /// Run the tests with real engines instead, which install several gigabytes.
    #[arg(long, conflicts_with = "fast")]
    real_engines: bool,

    /// Print the names of the tests with real engines, and run nothing.
    #[arg(long, conflicts_with_all = ["fast", "real_engines"])]
    list_real_engines: bool,

    /// Run only tests whose name contains this, and no checks.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.list_real_engines {
        real_engines::TESTS
            .iter()
            .for_each(|(name, _)| println!("{name}"));
        return Ok(());
    }
    if args.real_engines {
        return real_engines::run(args.filter.as_deref());
    }
    let missing = prerequisite::missing();
    ensure!(missing.is_empty(), "{}", missing.join("\n"));

    let mut steps = Steps::default();
    if args.filter.is_none() {
        check::all(&mut steps)?;
    }
    // All targets at once, and before anything runs: tests start the workspace's programs as processes, and a build of
    // one package alone would choose other features of shared dependencies and compile those again.
    steps.command(
        "build",
        &mut cargo(["build", "--workspace", "--all-targets", "--quiet"]),
    )?;
    if args.fast {
        let mut tests = cargo(["test", "--workspace", "--exclude", "kthena-tests"]);
        steps.command("tests without a cluster", tests.args(filter(args)))?;
        let mut bed = cargo(["test", "--package", "kthena-tests", "--lib"]);
        steps.command("the test bed's own unit tests", bed.args(filter(args)))?;
        steps.leave_out("everything that needs a control plane (--fast)");
    } else {
        steps.run("tools", || tools::build(false))?;
        steps.run("clients", Client::install_all)?;
        let mut tests = cargo(["test", "--workspace"]);
        // What the controller manager asked of API servers in the tests, to be compared with what it may ask.
        let used = binaries("debug")?.join("kthena-rights-used");
        std::fs::write(&used, "").context("making a file for the rights that are used")?;
        tests
            .env("KTHENA_BIN_DIR", binaries("debug")?)
            .env("KTHENA_RIGHTS_USED", &used)
            .args(filter(args));
        steps.command("tests", &mut tests)?;
        if args.filter.is_none() {
            steps.run("rights that nobody uses", || codegen::compare_rights(&used))?;
        }
    }
    match real_engines::TESTS {
        [] => steps.leave_out("tests with real engines: there are none yet"),
        tests => {
            steps.leave_out("tests with real engines (`cargo xtask test --real-engines`):");
            tests
                .iter()
                .for_each(|(name, shows)| steps.leave_out(format!("  {name}: {shows}")));
        }
    }
    eprintln!("\nAll tests passed.\n{}", steps.summary());
    Ok(())
}

fn filter(args: &Args) -> impl Iterator<Item = &str> {
    args.filter.as_deref().into_iter()
}
