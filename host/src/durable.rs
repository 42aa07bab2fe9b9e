//! Files that are whole or absent, also after a power cut.

use std::{
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use thiserror::Error;

/// After how long nobody writes a temporary file any more.
pub const ABANDONED: Duration = Duration::from_hours(1);

/// How names of temporary files end.
const TEMPORARY: &str = ".tmp";

/// Why a file was not written or removed. The former content is still there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The temporary file could not be written.
    #[error("write {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The temporary file could not take the place of the old one.
    #[error("rename {from} to {path}: {source}")]
    Rename {
        /// The temporary file.
        from: PathBuf,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The folder could not be synced.
    #[error("sync the folder {path}: {source}")]
    SyncFolder {
        /// Which folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file could not be removed.
    #[error("remove {path}: {source}")]
    Remove {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Writes `content` to `path` for `mode` (0o600 for secrets): temporary file in the same folder, fsync, rename, fsync of
/// the folder. A reader sees the old content or the new one. The folder must exist.
pub fn write_durably(path: &Path, content: &[u8], mode: u32) -> Result<(), DurableError> {
    write_and_rename(path, content, mode, true)?;
    sync_folder(path)
}

/// As [`write_durably`] without waiting for the disk: for folders that do not outlive the boot.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), DurableError> {
    write_and_rename(path, content, mode, false)
}

/// Removes a file and syncs its folder. An absent file is fine.
pub fn remove_durably(path: &Path) -> Result<(), DurableError> {
    if remove_if_there(path)? {
        sync_folder(path)
    } else {
        Ok(())
    }
}

/// As [`remove_durably`] without waiting for the disk.
pub fn remove(path: &Path) -> Result<(), DurableError> {
    remove_if_there(path).map(drop)
}

/// Whether it was there.
fn remove_if_there(path: &Path) -> Result<bool, DurableError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(source) if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(DurableError::Remove {
            path: path.to_owned(),
            source,
        }),
    }
}

fn write_and_rename(path: &Path, content: &[u8], mode: u32, sync: bool) -> Result<(), DurableError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A leading dot keeps it from readers that list the folder. Process ids do not keep writers apart: every agent is
    // process 1 of its own container.
    let temporary = path.with_file_name(format!(".{name}.{:016x}{TEMPORARY}", random()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        if sync { file.sync_all() } else { Ok(()) }
    })();
    let renamed = written
        .map_err(|source| DurableError::Write {
            path: temporary.clone(),
            source,
        })
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(|source| DurableError::Rename {
                from: temporary.clone(),
                path: path.to_owned(),
                source,
            })
        });
    if renamed.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    renamed
}

/// A number that no other writer draws: the standard library seeds its hashers from the kernel's random source.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Removes temporary files that a killed writer left in `folder`, of names that begin with `prefix`. Younger ones than
/// `age` may still be written.
pub fn remove_abandoned(folder: &Path, prefix: &str, age: Duration) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = |time: SystemTime| time.elapsed().is_ok_and(|elapsed| elapsed >= age);
        let abandoned =
            name.strip_prefix('.').is_some_and(|name| name.starts_with(prefix)) && name.ends_with(TEMPORARY);
        if abandoned && entry.metadata().and_then(|m| m.modified()).is_ok_and(old) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn sync_folder(path: &Path) -> Result<(), DurableError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| DurableError::SyncFolder {
            path: folder.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_file_replaces_the_old_one_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        write_durably(&path, b"old", 0o600).unwrap();
        write_durably(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        remove_durably(&path).unwrap();
        remove_durably(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = [".plan.json.0123.tmp", ".other.json.0123.tmp", "plan.json", ".notice"];
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_abandoned(folder.path(), "plan", Duration::from_hours(1)).unwrap();
        assert!(names.iter().all(|name| folder.path().join(name).exists()), "too young");
        remove_abandoned(folder.path(), "plan", Duration::ZERO).unwrap();
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [false, true, true, true]);
        remove_abandoned(&folder.path().join("absent"), "", Duration::ZERO).unwrap();
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_durably(&folder.path().join("absent/plan.json"), b"x", 0o600).unwrap_err();
        assert!(error.to_string().contains("absent/.plan.json"), "{error}");
    }
}
