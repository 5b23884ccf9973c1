//! Building one tool into the cache: locked, and visible only when complete.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Ensured, Product, Tool};
use crate::{cache, command::output, prerequisite, setting};

/// How programs are built; part of the cache key, so a change here builds all anew.
const FLAGS: &[&str] = &["-trimpath", "-buildvcs=false"];

pub(super) fn installed(tool: &Tool) -> Result<Option<PathBuf>> {
    let path = product_dir(tool.product)?.join(tool.name);
    Ok(path.is_file().then_some(path))
}

pub(super) fn ensure(tool: &Tool) -> Result<Ensured> {
    let dir = product_dir(tool.product)?;
    let path = dir.join(tool.name);
    let freshly_built = cache::make(&path, |unfinished| {
        eprintln!("building {} (once; {})", tool.name, dir.display());
        output(
            go(tool.product)?
                .arg("build")
                .args(FLAGS)
                .arg(linker_flags(tool.product))
                .arg("-o")
                .arg(unfinished)
                .arg(tool.package),
        )
        .map(drop)
    })?;
    Ok(Ensured { path, freshly_built })
}

/// A folder that the product's module ships, copied into the cache.
pub(super) fn asset(product: &Product, name: &str) -> Result<PathBuf> {
    let path = product_dir(product)?.join(name);
    cache::make(&path, |unfinished| {
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

fn module_source(product: &Product) -> PathBuf {
    setting::checkout().join("tests/tools").join(product.name)
}

/// `tools/<product>-<hash>` in the cache.
fn product_dir(product: &Product) -> Result<PathBuf> {
    let source = module_source(product);
    let read = |file: &str| {
        let path = source.join(file);
        fs::read(&path).with_context(|| format!("reading {}", path.display()))
    };
    let recipe = format!("{FLAGS:?} {} {:?}", linker_flags(product), product.assets);
    let key = cache::key(&[&read("go.mod")?, &read("go.sum")?, recipe.as_bytes()]);
    Ok(cache::dir()?.join(format!("tools/{}-{key}", product.name)))
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
    output(go(product)?.args(["mod", "download", product.module]))?;
    let dir = output(go(product)?.args(["list", "-m", "-f", "{{.Dir}}", product.module]))?;
    let dir = dir.trim();
    ensure!(
        !dir.is_empty(),
        "go does not know the folder of {}",
        product.module
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
