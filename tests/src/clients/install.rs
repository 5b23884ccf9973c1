//! Installing the pinned packages into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{cache, prerequisite};

/// The interpreter and the folder of a virtual environment with the packages of `requirements.txt`.
pub(super) fn python(source: &Path) -> Result<(PathBuf, PathBuf)> {
    let python = prerequisite::PYTHON.find()?;
    let version = output(Command::new(&python).arg("--version"))?; // an environment belongs to its interpreter
    let key = cache::key(&[version.as_bytes(), &read(&source.join("requirements.txt"))?]);
    let dir = cache::dir()?.join(format!("clients/python-{key}"));
    // Paths inside an environment are absolute, so it is made where it stays and marked when complete.
    let complete = dir.join("complete");
    cache::make(&complete, |mark| {
        eprintln!("installing the Python client (once; {})", dir.display());
        output(
            Command::new(&python)
                .args(["-m", "venv", "--clear"])
                .arg(dir.join("venv")),
        )?;
        let mut pip = Command::new(dir.join("venv/bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--requirement",
        ]);
        output(pip.arg(source.join("requirements.txt")))?;
        fs::write(mark, "").context("marking the environment as complete")
    })?;
    Ok((dir.join("venv/bin/python"), dir))
}

/// Node and a folder with the packages of `package-lock.json`.
pub(super) fn javascript(source: &Path) -> Result<(PathBuf, PathBuf)> {
    let (node, npm) = (prerequisite::NODE.find()?, prerequisite::NPM.find()?);
    let files = ["package.json", "package-lock.json"];
    let contents = files
        .iter()
        .map(|file| read(&source.join(file)))
        .collect::<Result<Vec<_>>>()?;
    let key = cache::key(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let dir = cache::dir()?.join(format!("clients/js-{key}"));
    cache::make(&dir, |unfinished| {
        eprintln!("installing the JavaScript client (once; {})", dir.display());
        fs::create_dir_all(unfinished).context("creating the packages' folder")?;
        for (file, content) in files.iter().zip(&contents) {
            fs::write(unfinished.join(file), content).context("copying the pins")?;
        }
        output(
            Command::new(&npm)
                .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
                .current_dir(unfinished),
        )?;
        Ok(())
    })?;
    Ok((node, dir))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed ({})\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    Ok(text(&output.stdout))
}
