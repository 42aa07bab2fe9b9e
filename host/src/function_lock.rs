//! One SR-IOV function is changed by one process at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use thiserror::Error;

/// How often a held lock is tried again. Holders keep it for tens of milliseconds.
const RETRY: Duration = Duration::from_millis(10);

/// A held lock (flock). It is given back on drop and, by the kernel, when the process dies.
#[derive(Debug)]
pub struct FunctionLock {
    _file: File,
}

/// Why a lock was not taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LockError {
    /// The lock file cannot be made or locked.
    #[error("lock {path}: {source}")]
    File {
        /// Which lock file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else held it all the time.
    #[error("lock {path}: still held by another process after {} s", waited.as_secs())]
    Held {
        /// Which lock file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
}

impl FunctionLock {
    /// Takes the lock behind `path` (see `Layout::function_lock`), waiting at most `patience`. Makes the folder if needed.
    pub fn take(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let error = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(error)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => thread::sleep(RETRY),
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        waited: patience,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_waits_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/0000:18:00.3.lock");
        let held = FunctionLock::take(&path, Duration::ZERO).unwrap();
        let refused = FunctionLock::take(&path, Duration::from_millis(30)).unwrap_err();
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        drop(held);
        FunctionLock::take(&path, Duration::ZERO).unwrap();
    }
}
