//! What can be said without running anything: `cargo xtask check`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::Parser;
use kthena_tests::setting;
use serde_json::Value;

mod examples;
mod publish;

use crate::{
    codegen,
    step::{Steps, cargo, metadata, run as run_command},
};

/// The crates that others build with features of their choice.
const LIBRARIES: [&str; 2] = ["kthena-api", "kthena-sdk"];

/// `cargo xtask codegen`, as a user would call it.
#[derive(Debug, Parser)]
struct Codegen {
    #[command(flatten)]
    args: codegen::Args,
}

pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::default();
    all(&mut steps)?;
    eprintln!("\nAll checks passed.\n{}", steps.summary());
    Ok(())
}

/// All checks, cheap ones first.
pub(crate) fn all(steps: &mut Steps) -> Result<()> {
    steps.command("formatting", &mut cargo(["fmt", "--all", "--check"]))?;
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ];
    steps.command("lints", &mut cargo(lint))?;
    let document = ["doc", "--workspace", "--no-deps", "--quiet"];
    steps.command(
        "documentation",
        cargo(document).env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    // As docs.rs has it: with parts that nothing of the workspace builds by default.
    let mut document = cargo(["doc", "--no-deps", "--quiet", "--all-features"]);
    document.args(LIBRARIES.iter().flat_map(|library| ["--package", library]));
    steps.command(
        "documentation of the libraries",
        document.env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    for library in LIBRARIES {
        steps.run(&format!("examples of {library}"), || examples::check(library))?;
    }
    for library in LIBRARIES {
        steps.run(&format!("features of {library}"), || features(library))?;
    }
    steps.run("generated files", || {
        codegen::run(&Codegen::parse_from(["codegen", "--check"]).args)
    })?;
    dependencies(steps)?;
    publish::package(steps, &LIBRARIES)?;
    publish::versions(steps, &LIBRARIES)
}

/// Licences, sources and duplicates, where cargo-deny is installed.
fn dependencies(steps: &mut Steps) -> Result<()> {
    if is_installed("cargo-deny") {
        // Advisories need a database from the network; they are asked for where that is certain to be there.
        return steps.command(
            "dependencies",
            &mut cargo(["deny", "check", "bans", "licenses", "sources"]),
        );
    }
    steps.leave_out("cargo deny, which is not installed (`cargo install --locked cargo-deny`)");
    Ok(())
}

/// Whether there is a program of this name.
fn is_installed(program: &str) -> bool {
    let mut folders = setting::search_path().into_iter();
    folders.any(|folder| folder.join(program).is_file())
}

/// Every combination of a library's features compiles on its own, as its users may ask for any.
fn features(library: &str) -> Result<()> {
    let names = feature_names(library)?;
    for chosen in powerset(&names) {
        let list = chosen.join(",");
        let arguments = [
            "check",
            "--quiet",
            "--package",
            library,
            "--no-default-features",
            "--features",
            &list,
        ];
        run_command(&mut cargo(arguments)).with_context(|| format!("{library} with features [{list}]"))?;
    }
    Ok(())
}

fn feature_names(library: &str) -> Result<Vec<String>> {
    let metadata = metadata()?;
    let packages = metadata["packages"]
        .as_array()
        .context("a workspace has packages")?;
    let package = packages.iter().find(|package| package["name"] == library);
    let features = package.with_context(|| format!("no package {library}"))?["features"].clone();
    let features: BTreeMap<String, Value> = serde_json::from_value(features).context("reading features")?;
    Ok(features.into_keys().filter(|name| name != "default").collect())
}

fn powerset(names: &[String]) -> Vec<Vec<&str>> {
    let mut sets = vec![Vec::new()];
    for name in names {
        let with: Vec<Vec<&str>> = sets
            .iter()
            .map(|set| [set.as_slice(), &[name.as_str()]].concat())
            .collect();
        sets.extend(with);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::powerset;

    #[test]
    fn the_powerset_has_everything_from_nothing_to_all() {
        let names = ["a", "b"].map(str::to_owned);
        assert_eq!(powerset(&names), [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]);
    }
}
