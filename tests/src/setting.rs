//! What the environment decides: the one place of this crate that reads it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The root of the checkout that this crate was compiled in.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in a folder of the workspace")
}

/// Where built tools and installed clients are kept: `KTHENA_CACHE`, or `kthena` in the user's cache folder.
pub fn cache_dir() -> Result<PathBuf> {
    let dir = if let Some(dir) = path("KTHENA_CACHE") {
        dir
    } else if let Some(dir) = path("XDG_CACHE_HOME") {
        dir.join("kthena")
    } else {
        path("HOME")
            .context("none of KTHENA_CACHE, XDG_CACHE_HOME and HOME is set")?
            .join(".cache/kthena")
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("resolving {}", dir.display()))
}

/// Material beside the checkout that some extra checks compare with; those are left out where it is absent.
pub fn shared_dir() -> Option<PathBuf> {
    path("KTHENA_SHARED").filter(|dir| dir.is_dir())
}

/// A folder whose workspace binaries are current, set by `cargo xtask test`, which has just built them.
pub fn built_binaries() -> Option<PathBuf> {
    path("KTHENA_BIN_DIR")
}

/// A file to which tests add what the controller manager asked of API servers, set by `cargo xtask test`.
pub fn rights_used() -> Option<PathBuf> {
    path("KTHENA_RIGHTS_USED")
}

/// The cargo that runs this test, or the one on the path.
pub fn cargo() -> PathBuf {
    path("CARGO").unwrap_or_else(|| PathBuf::from("cargo"))
}

/// Where cargo keeps what it downloads and unpacks: `CARGO_HOME`, or `.cargo` in the user's folder.
pub fn cargo_home() -> Option<PathBuf> {
    path("CARGO_HOME").or_else(|| Some(path("HOME")?.join(".cargo")))
}

/// The folders of `PATH`.
pub fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).collect())
        .unwrap_or_default()
}

fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
