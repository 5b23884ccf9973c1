//! The cache outside the checkout: what is expensive to make and the same for every checkout.

use std::{
    fs::{self, File},
    path::Path,
};

use anyhow::{Context, Result};
use xxhash_rust::xxh3::Xxh3;

pub use crate::setting::cache_dir as dir;

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
