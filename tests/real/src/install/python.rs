//! A Python that vLLM has wheels for.

use std::{path::PathBuf, process::Command};

use anyhow::{Result, bail, ensure};
use kthena_tests::setting;

/// Where there are wheels of all packages; the first one is what the recipe was made with.
const VERSIONS: [&str; 3] = ["3.11", "3.12", "3.13"];

/// Prints one line with everything that decides whether the wheels fit, and the path of the real interpreter.
const PROBE: &str = "import platform, sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2], sys.platform, \
                     platform.machine(), platform.libc_ver()[0] or 'unknown', sys.executable)";

/// An interpreter that fits.
pub(super) struct Python {
    pub(super) path: PathBuf,
    /// What an environment made with it depends on.
    pub(super) tag: String,
}

/// The first interpreter on the path that fits.
pub(super) fn find() -> Result<Python> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the tests with real engines run on x86-64 Linux only: there is no other build of vLLM for the CPU on PyPI"
    );
    let names = VERSIONS
        .iter()
        .map(|version| format!("python{version}"))
        .chain(["python3".to_owned()]);
    let mut seen = Vec::new();
    for name in names {
        for path in setting::search_path()
            .iter()
            .map(|dir| dir.join(&name))
            .filter(|path| path.is_file())
        {
            // A name on the path may be a shim for an interpreter that is not there.
            let Ok(output) = Command::new(&path).args(["-c", PROBE]).output() else {
                continue;
            };
            let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            match parse(&line) {
                Some(python) if output.status.success() => return Ok(python),
                _ if line.is_empty() => {}
                _ => seen.push(line),
            }
        }
    }
    bail!(
        "the tests with real engines need CPython {} with glibc, as vLLM {} has wheels for no other, and none is on the path{}",
        VERSIONS.join(", "),
        "0.32.0",
        if seen.is_empty() {
            String::new()
        } else {
            format!(" (found: {})", seen.join("; "))
        }
    );
}

fn parse(line: &str) -> Option<Python> {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let [name, version, system, machine, libc, path] = words[..] else {
        return None;
    };
    let fits = name == "cpython"
        && VERSIONS.contains(&version)
        && (system, machine, libc) == ("linux", "x86_64", "glibc");
    fits.then(|| Python {
        path: path.into(),
        tag: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_what_has_wheels_fits() {
        for (line, fits) in [
            ("cpython 3.11 linux x86_64 glibc /usr/bin/python3.11", true),
            ("cpython 3.13 linux x86_64 glibc /a folder/python3", true),
            ("cpython 3.14 linux x86_64 glibc /usr/bin/python3", false),
            ("cpython 3.10 linux x86_64 glibc /usr/bin/python3", false),
            ("pypy 3.11 linux x86_64 glibc /usr/bin/pypy3", false),
            ("cpython 3.12 linux x86_64 unknown /usr/bin/python3", false),
            ("cpython 3.12 linux aarch64 glibc /usr/bin/python3", false),
            ("", false),
        ] {
            assert_eq!(parse(line).is_some(), fits, "{line}");
        }
    }
}
