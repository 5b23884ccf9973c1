//! `cargo xtask codegen`: everything in the repository that is generated from something else.
//!
//! - `charts/**/crds/*.yaml` from the types of `kthena-api`, always;
//! - `kthena-api/src/external/kubernetes.schemas.json` from the OpenAPI document of a kube-apiserver, with
//!   `--openapi`. Types of ours embed types of Kubernetes, whose defaults, list types and map keys are known to the
//!   API server alone.

mod openapi;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

const SCHEMAS: &str = "kthena-api/src/external/kubernetes.schemas.json";

/// What `cargo xtask codegen` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail if something is out of date.
    #[arg(long)]
    check: bool,

    /// Also take the embedded types of Kubernetes from this OpenAPI v3 document of the group `v1`: a file, a URL, or
    /// `-` for standard input (`kubectl get --raw /openapi/v3/api/v1 | cargo xtask codegen --openapi -`).
    #[arg(long, value_name = "FILE|URL|-")]
    openapi: Option<String>,

    /// Version of Kubernetes that the document belongs to, where it does not say so itself.
    #[arg(long, value_name = "VERSION", requires = "openapi")]
    kubernetes: Option<String>,
}

/// Generates, or checks, everything that is generated.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = root()?;
    if let Some(source) = &args.openapi {
        let document = serde_json::from_str(&read(source)?).with_context(|| format!("parsing {source}"))?;
        let schemas = openapi::extract(&document, args.kubernetes.as_deref())?;
        write(&root.join(SCHEMAS), &schemas, args.check)?;
    }
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(&root).args([
        "run",
        "--quiet",
        "--package",
        "kthena-api",
        "--example",
        "crds",
        "--",
    ]);
    command.arg(root.join("charts/kthena/charts"));
    if args.check {
        command.arg("--check");
    }
    let status = command.status().context("starting cargo")?;
    ensure!(status.success(), "generating the CRDs failed");
    Ok(())
}

fn root() -> Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest
        .parent()
        .context("xtask is a member of the workspace")?
        .to_owned())
}

fn read(source: &str) -> Result<String> {
    if source == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("reading standard input")?;
        return Ok(text);
    }
    if !source.starts_with("http://") && !source.starts_with("https://") {
        return fs::read_to_string(source).with_context(|| format!("reading {source}"));
    }
    let output = Command::new("curl")
        .args(["--fail", "--silent", "--show-error", source])
        .output();
    let output = output.context("starting curl")?;
    ensure!(
        output.status.success(),
        "fetching {source}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("decoding {source}"))
}

fn write(path: &Path, text: &str, check: bool) -> Result<()> {
    let current = fs::read_to_string(path).unwrap_or_default();
    if current == text {
        return Ok(());
    }
    if check {
        bail!("{} is out of date", path.display());
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
