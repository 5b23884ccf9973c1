//! The libraries could be published as they are.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kthena_tests::command::output;
use kthena_tests::setting;

use super::is_installed;
use crate::step::{Steps, cargo, metadata, run};

/// Packages are made, and build by themselves, from each other.
pub(super) fn package(steps: &mut Steps, libraries: &[&str]) -> Result<()> {
    if let Some(home) = setting::cargo_home() {
        forget(&home.join("registry"), libraries).context("forgetting earlier packages")?;
    }
    // A folder of its own, for the same reason: cargo takes a registry's package of one version to be built once and for all.
    let target = metadata()?["target_directory"]
        .as_str()
        .map(|folder| format!("{folder}/packages"))
        .context("cargo names its target folder")?;
    let of = |arguments: &[&'static str]| {
        let mut command = cargo(arguments.iter().copied());
        command.args(["--quiet", "--target-dir", &target]);
        command.args(libraries.iter().flat_map(|library| ["--package", library]));
        command
    };
    run(&mut of(&["clean"])).context("removing what earlier packages became")?;
    // Changes that are not committed yet are no reason not to try.
    let mut command = of(&["package", "--allow-dirty"]);
    steps.command("packages", &mut command)
}

/// Removes what cargo has unpacked of earlier packages of this check, which it would take for the present ones: their versions are the
/// same. It keeps them under the name of a registry without a host, which no real one has.
fn forget(registry: &Path, libraries: &[&str]) -> Result<()> {
    for part in ["src", "cache"] {
        let Ok(registries) = fs::read_dir(registry.join(part)) else {
            continue;
        };
        for registry in registries {
            let registry = registry?;
            if !registry.file_name().to_string_lossy().starts_with('-') {
                continue;
            }
            for package in fs::read_dir(registry.path())? {
                let package = package?;
                let name = package.file_name();
                let is_ours = |library: &&str| {
                    let rest = name
                        .to_str()
                        .and_then(|name| name.strip_prefix(*library)?.strip_prefix('-'));
                    rest.is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
                };
                if !libraries.iter().any(is_ours) {
                    continue;
                }
                let path = package.path();
                match package.file_type()?.is_dir() {
                    true => fs::remove_dir_all(path)?,
                    false => fs::remove_file(path)?,
                }
            }
        }
    }
    Ok(())
}

/// What was published last can be replaced, as the version says: where cargo-semver-checks is installed and there is a tag.
pub(super) fn versions(steps: &mut Steps, libraries: &[&str]) -> Result<()> {
    if !is_installed("cargo-semver-checks") {
        steps.leave_out(
            "cargo semver-checks, which is not installed (`cargo install --locked cargo-semver-checks`)",
        );
        return Ok(());
    }
    let mut describe = std::process::Command::new("git");
    describe
        .current_dir(setting::checkout())
        .args(["describe", "--tags", "--abbrev=0"]);
    let Ok(tag) = output(&mut describe) else {
        steps.leave_out("cargo semver-checks: there is no tag to compare with");
        return Ok(());
    };
    let mut command = cargo(["semver-checks", "--baseline-rev", tag.trim()]);
    for library in libraries {
        command.args(["--package", library]);
    }
    steps.command("compatibility with the last release", &mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_packages_of_no_registry_are_forgotten() {
        let folder = std::env::temp_dir().join(format!("kthena-forget-{}", std::process::id()));
        let all = [
            ("src/-1/api-0.1.0", false),
            ("src/-1/api-0.1.0-rc.1", false),
            ("src/-1/api-types-0.1.0", true),
            ("src/index.crates.io-1/api-0.1.0", true),
        ];
        for (path, _) in all {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        forget(&folder, &["api"]).unwrap();
        let left = all.map(|(path, _)| (path, folder.join(path).is_dir()));
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left, all);
    }
}
