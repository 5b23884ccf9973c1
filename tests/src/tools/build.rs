//! Building one tool into the cache: locked, and visible only when complete.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use xxhash_rust::xxh3::Xxh3;

use super::{Ensured, Product, Tool};
use crate::{prerequisite, setting};

/// How programs are built; part of the cache key, so a change here builds all anew.
const FLAGS: &[&str] = &["-trimpath", "-buildvcs=false"];

pub(super) fn ensure(tool: &Tool) -> Result<Ensured> {
    let dir = product_dir(tool.product)?;
    let path = dir.join(tool.name);
    let freshly_built = make(&path, |unfinished| {
        eprintln!("building {} (once; {})", tool.name, dir.display());
        let output = go(tool.product)?
            .arg("build")
            .args(FLAGS)
            .arg(linker_flags(tool.product))
            .arg("-o")
            .arg(unfinished)
            .arg(tool.package)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("running go build for {}", tool.name))?;
        ensure!(
            output.status.success(),
            "go build {} failed ({}):\n{}",
            tool.package,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    })?;
    Ok(Ensured { path, freshly_built })
}

/// A folder that the product's module ships, copied into the cache.
pub(super) fn asset(product: &Product, name: &str) -> Result<PathBuf> {
    let path = product_dir(product)?.join(name);
    make(&path, |unfinished| {
        let module = module_dir(product)?;
        for (from, _) in product.assets.iter().filter(|(_, to)| *to == name) {
            copy_tree(&module.join(from), unfinished)
                .with_context(|| format!("copying {from} of {}", product.module))?;
        }
        ensure!(unfinished.is_dir(), "{} has no asset {name}", product.name);
        Ok(())
    })?;
    Ok(path)
}

/// Makes `path` unless it is there: one process at a time, under another name until it is complete.
fn make(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<bool> {
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

fn module_source(product: &Product) -> PathBuf {
    setting::checkout().join("tests/tools").join(product.name)
}

/// `tools/<product>-<hash>` in the cache.
fn product_dir(product: &Product) -> Result<PathBuf> {
    let source = module_source(product);
    let mut hash = Xxh3::new();
    for file in ["go.mod", "go.sum"] {
        let path = source.join(file);
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        hash.update(&text.len().to_le_bytes());
        hash.update(&text);
    }
    for flag in FLAGS {
        hash.update(flag.as_bytes());
    }
    hash.update(linker_flags(product).as_bytes());
    for (from, to) in product.assets {
        hash.update(from.as_bytes());
        hash.update(to.as_bytes());
    }
    Ok(setting::cache_dir()?.join(format!("tools/{}-{:016x}", product.name, hash.digest())))
}

/// Without symbol tables: they would be half of the size.
fn linker_flags(product: &Product) -> String {
    let variables = product
        .variables
        .iter()
        .map(|(name, value)| format!(" -X {name}={value}"));
    format!("-ldflags=-s -w{}", variables.collect::<String>())
}

fn module_dir(product: &Product) -> Result<PathBuf> {
    // `go list` names no folder for a module that has not been fetched yet.
    let fetched = go(product)?
        .args(["mod", "download", product.module])
        .output()
        .context("running go mod download")?;
    ensure!(
        fetched.status.success(),
        "{}",
        String::from_utf8_lossy(&fetched.stderr)
    );
    let output = go(product)?
        .args(["list", "-m", "-f", "{{.Dir}}", product.module])
        .output()
        .with_context(|| format!("asking go for the folder of {}", product.module))?;
    let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success() && !dir.is_empty(),
        "go does not know the folder of {}: {}",
        product.module,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(PathBuf::from(dir))
}

fn go(product: &Product) -> Result<Command> {
    let mut command = Command::new(prerequisite::GO.find()?);
    command
        .current_dir(module_source(product))
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off");
    Ok(command)
}

/// Copies files and folders; what comes from Go's module cache is read-only, the copy is not.
fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("listing {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::write(&target, fs::read(entry.path())?)?;
        }
    }
    Ok(())
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
    fn every_tool_belongs_to_a_committed_module() {
        for tool in super::super::ALL {
            let go_mod = fs::read_to_string(module_source(tool.product).join("go.mod")).unwrap();
            assert!(
                go_mod.contains(tool.package),
                "{} is not a tool of {}",
                tool.package,
                tool.product.name
            );
            assert!(
                go_mod.contains(tool.product.module),
                "{} is not required",
                tool.product.module
            );
        }
    }

    #[test]
    fn programs_name_the_version_that_their_module_pins() {
        for product in super::super::ALL.iter().map(|tool| tool.product) {
            let go_mod = fs::read_to_string(module_source(product).join("go.mod")).unwrap();
            for (_, version) in product
                .variables
                .iter()
                .filter(|(name, _)| name.ends_with("gitVersion"))
            {
                assert!(
                    go_mod.contains(&format!("{} {version} ", product.module)),
                    "{}: {version}",
                    product.name
                );
            }
        }
    }
}
