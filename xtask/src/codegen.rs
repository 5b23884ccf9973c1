//! `cargo xtask codegen`: everything in the repository that is generated from something else.
//!
//! - `charts/**/crds/*.yaml` from the types of `kthena-api`, always;
//! - the roles of the controller manager in the chart, from what the parts of `kthena-sdk` say that they ask, always;
//! - `kthena-api/src/external/kubernetes.schemas.json` from the OpenAPI document of a kube-apiserver, with
//!   `--openapi`. Types of ours embed types of Kubernetes, whose defaults, list types and map keys are known to the
//!   API server alone.

mod openapi;
mod source;

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, bail};
use kthena_tests::setting;

use crate::step;

const SCHEMAS: &str = "kthena-api/src/external/kubernetes.schemas.json";

/// What `cargo xtask codegen` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail if something is out of date.
    #[arg(long)]
    check: bool,

    /// Also take the embedded types of Kubernetes from this OpenAPI v3 document of the group `v1`: a file, a URL, or
    /// `-` for standard input (`kubectl get --raw /openapi/v3/api/v1 | cargo xtask codegen --openapi -`). Without a
    /// value, a control plane of the test bed is started and asked.
    #[arg(long, value_name = "FILE|URL|-")]
    openapi: Option<Option<String>>,

    /// Version of Kubernetes that the document belongs to, where it does not say so itself.
    #[arg(long, value_name = "VERSION", requires = "openapi")]
    kubernetes: Option<String>,
}

/// Generates, or checks, everything that is generated.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(source) = &args.openapi {
        let text = source::read(source.as_deref())?;
        let document = serde_json::from_str(&text).context("parsing the OpenAPI document")?;
        let schemas = openapi::extract(&document, args.kubernetes.as_deref())?;
        write(&setting::checkout().join(SCHEMAS), &schemas, args.check)?;
    }
    // Processes of their own, so that they are built with the schemas just written, and xtask without kube.
    for (package, example) in [("kthena-api", "crds"), ("kthena-controller", "rbac")] {
        let mut command = generator(package, example);
        command.arg(setting::checkout().join("charts/kthena/charts"));
        if args.check {
            command.arg("--check");
        }
        step::run(&mut command)?;
    }
    Ok(())
}

/// Fails where the controller manager is granted something that no test has used.
pub(crate) fn compare_rights(used: &Path) -> Result<()> {
    step::run(generator("kthena-controller", "rbac").arg("--used").arg(used))
}

fn generator(package: &str, example: &str) -> Command {
    step::cargo(["run", "--quiet", "--package", package, "--example", example, "--"])
}

fn write(path: &Path, text: &str, check: bool) -> Result<()> {
    let current = fs::read_to_string(path).unwrap_or_default();
    if current == text {
        return Ok(());
    }
    if check {
        bail!(
            "{} is out of date; run `cargo xtask codegen --openapi`",
            path.display()
        );
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
