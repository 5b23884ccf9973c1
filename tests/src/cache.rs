//! The cache outside the checkout: what is expensive to make and the same for every checkout.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::Xxh3;

pub use crate::setting::cache_dir as dir;
use crate::{command, prerequisite};

/// A name made of all that decides about the content.
pub fn key(parts: &[&[u8]]) -> String {
    let mut hash = Xxh3::new();
    for part in parts {
        hash.update(&part.len().to_le_bytes());
        hash.update(part);
    }
    format!("{:016x}", hash.digest())
}

/// Makes `path` unless it is there: one process at a time, under another name until it is complete.
pub fn make(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
    if path.exists() {
        return Ok(false);
    }
    let dir = path.parent().expect("a path inside the cache has a parent");
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .expect("names of tools and assets are text");
    fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let lock_path = dir.join(format!(".{name}.lock"));
    let lock = File::create(&lock_path).with_context(|| format!("opening {}", lock_path.display()))?;
    lock.lock()
        .with_context(|| format!("locking {}", lock_path.display()))?;
    if path.exists() {
        return Ok(false);
    }
    let unfinished = dir.join(format!(".{name}.unfinished"));
    remove(&unfinished)?; // left by a builder that was killed
    fill(&unfinished)?;
    fs::rename(&unfinished, path).with_context(|| format!("putting {} in place", path.display()))?;
    Ok(true)
}

/// Makes a virtual environment in `dir` unless it is there, with the packages of a requirements file, which names all of them:
/// nothing is installed for its sake alone. The folder that comes back has its programs.
pub fn venv(dir: &Path, name: &str, requirements: &str) -> Result<PathBuf> {
    let environment = dir.join("venv");
    let programs = environment.join("bin");
    // Paths inside an environment are absolute, so it is made where it stays and marked when complete.
    make(&dir.join("complete"), |mark| {
        eprintln!("installing {name} (once; {})", dir.display());
        let python = prerequisite::PYTHON.find()?;
        let run = |command: &mut Command| command::output(command.env_remove("PYTHONPATH"));
        run(Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(&environment))?;
        let pins = dir.join("requirements.txt");
        fs::write(&pins, requirements).context("writing the pins")?;
        let mut pip = Command::new(programs.join("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        run(pip.args(["--no-deps", "--requirement"]).arg(&pins))?;
        fs::write(mark, "").context("marking the environment as complete")
    })?;
    Ok(programs)
}

fn remove(path: &Path) -> Result<()> {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing");
        let write = |text: &'static str| move |to: &Path| Ok(fs::write(to, text)?);
        assert!(make(&path, write("first")).unwrap());
        assert!(!make(&path, write("second")).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn a_failed_build_leaves_nothing_that_looks_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("thing");
        make(&path, |to| {
            fs::write(to, "half")?;
            anyhow::bail!("out of space")
        })
        .unwrap_err();
        assert!(!path.exists());
        assert!(make(&path, |to| Ok(fs::write(to, "whole")?)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole");
    }

    #[test]
    fn keys_tell_where_one_part_ends() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
    }
}
