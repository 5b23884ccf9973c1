//! Installing the pinned packages into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, command::output, prerequisite};

/// The interpreter and the folder of a virtual environment with the packages of `requirements.txt`.
pub(super) fn python(source: &Path) -> Result<(PathBuf, PathBuf)> {
    let python = prerequisite::PYTHON.find()?;
    let version = output(Command::new(&python).arg("--version"))?; // an environment belongs to its interpreter
    let pins = source.join("requirements.txt");
    let pins = fs::read_to_string(&pins).with_context(|| format!("reading {}", pins.display()))?;
    let key = cache::key(&[version.as_bytes(), pins.as_bytes()]);
    let dir = cache::dir()?.join(format!("clients/python-{key}"));
    let programs = cache::venv(&dir, "the Python client", &pins)?;
    Ok((programs.join("python"), dir))
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
