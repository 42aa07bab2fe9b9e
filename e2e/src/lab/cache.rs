//! The cache of everything that takes long to build. It lies outside the clone and survives runs and clones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::progress::{say, step};

/// The folder with built programs, roots and kernels.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$RAILHEAD_CACHE`, else `$XDG_CACHE_HOME/railhead`, else `$HOME/.cache/railhead`.
    pub fn open() -> Result<Self> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = set("RAILHEAD_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("railhead")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/railhead")))
            .context("none of RAILHEAD_CACHE, XDG_CACHE_HOME and HOME is set: set RAILHEAD_CACHE to a folder with 10 GB free")?;
        Self::at(&root)
    }

    /// A cache in this folder.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot create the cache {}", root.display()))?;
        let root = root.canonicalize()?;
        Ok(Self { root })
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the finished build `name` with this key lies, whether it is there or not.
    pub fn slot(&self, name: &str, key: &str) -> PathBuf {
        self.root.join("build").join(format!("{name}-{key}"))
    }

    /// Takes a build from the cache, or makes it. It is made in a folder of its own and renamed when complete,
    /// so that what an interrupted run leaves is never taken for finished.
    pub fn build(&self, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let slot = self.slot(name, key);
        if slot.is_dir() {
            say(format!("{name}: in the cache ({})", slot.display()));
            return Ok(slot);
        }
        let parent = self.root.join("build");
        fs::create_dir_all(&parent)?;
        let _lock = lock(
            &parent.join(format!(".{name}.lock")),
            &format!("another build of {name}"),
        )?;
        if slot.is_dir() {
            return Ok(slot);
        }
        Self::forget_unfinished(&parent, name)?;
        let unfinished = parent.join(format!(".{name}-{key}.unfinished.{}", std::process::id()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        step(&format!("building {name}"), || make(&unfinished))
            .with_context(|| format!("the unfinished build is in {}", unfinished.display()))?;
        fs::rename(&unfinished, &slot)
            .with_context(|| format!("cannot rename {} to {}", unfinished.display(), slot.display()))?;
        Ok(slot)
    }

    fn forget_unfinished(parent: &Path, name: &str) -> Result<()> {
        let prefix = format!(".{name}-");
        for entry in fs::read_dir(parent)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some((_, owner)) = file.split_once(".unfinished.") else {
                continue;
            };
            if file.starts_with(&prefix) && !Path::new("/proc").join(owner).exists() {
                fs::remove_dir_all(entry.path())
                    .with_context(|| format!("cannot remove the unfinished {}", entry.path().display()))?;
            }
        }
        Ok(())
    }
}

/// Takes a lock that ends with its holder, and says for whom it waits.
pub(super) fn lock(path: &Path, holder: &str) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        say(format!("waiting for {holder}"));
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_fails_is_never_taken_for_finished() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        let half = cache.build("part", "00", |to| {
            fs::write(to.join("half"), "")?;
            anyhow::bail!("power cut")
        });
        assert!(half.is_err());
        assert!(!cache.slot("part", "00").exists());
        let done = cache
            .build("part", "00", |to| Ok(fs::write(to.join("whole"), "")?))
            .unwrap();
        assert!(done.join("whole").exists() && !done.join("half").exists());
    }

    #[test]
    fn a_finished_build_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path()).unwrap();
        cache.build("part", "00", |_| Ok(())).unwrap();
        cache.build("part", "00", |_| panic!("made again")).unwrap();
    }
}
