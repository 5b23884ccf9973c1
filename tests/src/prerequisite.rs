//! What has to be on the machine already, and the one sentence a user gets when it is not.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::setting;

/// A program that the bed uses but does not install.
#[derive(Debug, Clone, Copy)]
pub struct Prerequisite {
    program: &'static str,
    version_arguments: &'static [&'static str],
    at_least: (u32, u32),
    used_for: &'static str,
}

/// Builds etcd, the Kubernetes components and the other tools.
pub const GO: Prerequisite = Prerequisite {
    program: "go",
    version_arguments: &["version"],
    at_least: (1, 26),
    used_for: "the tests build etcd, Kubernetes, Volcano, KWOK and helm from source",
};

/// Runs the official Python client.
pub const PYTHON: Prerequisite = Prerequisite {
    program: "python3",
    version_arguments: &["--version"],
    at_least: (3, 10),
    used_for: "the tests run the official OpenAI client for Python",
};

/// Runs the official JavaScript client.
pub const NODE: Prerequisite = Prerequisite {
    program: "node",
    version_arguments: &["--version"],
    at_least: (20, 0),
    used_for: "the tests run the official OpenAI client for JavaScript",
};

/// Installs the official JavaScript client.
pub const NPM: Prerequisite = Prerequisite {
    program: "npm",
    version_arguments: &["--version"],
    at_least: (8, 0),
    used_for: "the tests install the official OpenAI client for JavaScript with it",
};

/// Builds the C parts of some crates.
pub const CMAKE: Prerequisite = Prerequisite {
    program: "cmake",
    version_arguments: &["--version"],
    at_least: (3, 12),
    used_for: "the compression library of the proxy is built with it",
};

/// Compiles the C parts of some crates.
pub const C_COMPILER: Prerequisite = Prerequisite {
    program: "cc",
    version_arguments: &["--version"],
    at_least: (0, 0),
    used_for: "some crates have parts written in C",
};

/// All of them, in the order in which a user would install them.
pub const ALL: &[Prerequisite] = &[C_COMPILER, CMAKE, GO, PYTHON, NODE, NPM];

impl Prerequisite {
    /// The program's path, after a look at its version.
    pub fn find(&self) -> Result<PathBuf> {
        let Self {
            program,
            used_for,
            at_least: (major, minor),
            ..
        } = *self;
        let Some(path) = setting::search_path()
            .into_iter()
            .map(|dir| dir.join(program))
            .find(|p| p.is_file())
        else {
            bail!("`{program}` is not installed: {used_for}");
        };
        if (major, minor) == (0, 0) {
            return Ok(path);
        }
        let output = Command::new(&path)
            .args(self.version_arguments)
            .output()
            .with_context(|| format!("asking {} for its version", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let Some(found) = first_version(&text) else {
            bail!(
                "`{program} {}` does not name a version: {text:?}",
                self.version_arguments.join(" ")
            );
        };
        ensure!(
            found >= (major, minor),
            "`{program}` is version {}.{}, at least {major}.{minor} is needed: {used_for}",
            found.0,
            found.1
        );
        Ok(path)
    }
}

/// Every missing or outdated program, one sentence each.
pub fn missing() -> Vec<String> {
    ALL.iter()
        .filter_map(|wanted| wanted.find().err())
        .map(|error| format!("{error:#}"))
        .collect()
}

/// The first `major.minor` in a program's version line.
fn first_version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            match (numbers.next(), numbers.next()) {
                (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
                _ => None,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::first_version;

    #[test]
    fn version_lines_of_the_usual_programs_are_understood() {
        for (line, expected) in [
            ("go version go1.26.8 linux/amd64", Some((1, 26))),
            ("Python 3.11.7", Some((3, 11))),
            ("v20.20.2\n", Some((20, 20))),
            ("cmake version 3.25.1\n\nCMake suite 4.0", Some((3, 25))),
            ("no digits here", None),
        ] {
            assert_eq!(first_version(line), expected, "{line}");
        }
    }
}
