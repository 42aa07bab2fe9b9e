//! The locks of one claim, held against other threads and against the other agent of a rolling update.
//!
//! The claim's lock is for what is changed on this node, and never held across a request to the API server. Its turn
//! ([`super::turns`]) is kept for a whole call.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use railhead_host::{LockError, LockHolder, sign_lock};
use railhead_plan::Layout;
use tokio::time::Instant;

/// How often a held lock is tried again.
const RETRY: Duration = Duration::from_millis(20);

/// A held lock (flock). It is given back on drop and, by the kernel, when the process dies.
#[derive(Debug)]
pub(super) struct ClaimLock {
    _file: File,
    path: PathBuf,
}

impl ClaimLock {
    /// Takes the claim's lock, waiting until `deadline`.
    pub(super) async fn take(layout: &Layout, claim_uid: &str, deadline: Instant) -> Result<Self, LockError> {
        Self::wait_for(path(layout, "claim", claim_uid), deadline).await
    }

    /// Takes the claim's turn among the agents of this node, waiting until `deadline`.
    pub(super) async fn take_turn(layout: &Layout, claim_uid: &str, deadline: Instant) -> Result<Self, LockError> {
        Self::wait_for(path(layout, "turn", claim_uid), deadline).await
    }

    /// The claim's turn, if no agent of this node has it.
    pub(super) fn try_turn(layout: &Layout, claim_uid: &str) -> Option<Self> {
        let path = path(layout, "turn", claim_uid);
        let file = attempt(&path).ok().flatten()?;
        Some(Self { _file: file, path })
    }

    async fn wait_for(path: PathBuf, deadline: Instant) -> Result<Self, LockError> {
        let start = Instant::now();
        loop {
            let taken = attempt(&path).map_err(|source| LockError::File {
                path: path.clone(),
                source,
            })?;
            if let Some(file) = taken {
                return Ok(Self { _file: file, path });
            }
            if Instant::now() >= deadline {
                let holder = LockHolder::of(&path);
                return Err(LockError::Held {
                    holder,
                    path,
                    waited: start.elapsed(),
                });
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Gives the lock back and takes its file away.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a lock file is left");
        }
    }
}

fn path(layout: &Layout, what: &str, claim_uid: &str) -> PathBuf {
    // UIDs are made by the API server; whatever else comes stays within the folder.
    let name: String = claim_uid
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    layout.locks().join(format!("{what}-{name}.lock"))
}

/// The locked file, unless somebody else has it, or has just removed it: then a lock on it keeps nobody out.
fn attempt(path: &Path) -> io::Result<Option<File>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(source)) => return Err(source),
    }
    let locked = file.metadata()?;
    let current = match fs::metadata(path) {
        Ok(current) => current,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let same = (locked.dev(), locked.ino()) == (current.dev(), current.ino());
    if same {
        sign_lock(&file);
    }
    Ok(same.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    #[tokio::test]
    async fn claims_whose_uids_end_alike_do_not_wait_for_each_other() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let _one = ClaimLock::take(&layout, "11-a", soon()).await.unwrap();
        let _other = ClaimLock::take(&layout, "22-a", soon()).await.unwrap();
        let held = ClaimLock::take(&layout, "11-a", soon()).await.unwrap_err();
        assert!(matches!(held, LockError::Held { .. }), "{held}");
    }

    #[tokio::test]
    async fn who_waits_while_the_file_is_removed_gets_a_lock_that_keeps_others_out() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let first = ClaimLock::take(&layout, "c", soon()).await.unwrap();
        let waiting = {
            let layout = layout.clone();
            tokio::spawn(async move { ClaimLock::take(&layout, "c", Instant::now() + Duration::from_secs(5)).await })
        };
        tokio::time::sleep(Duration::from_millis(60)).await;
        first.remove();
        let second = waiting.await.unwrap().unwrap();
        assert!(ClaimLock::take(&layout, "c", soon()).await.is_err());
        second.remove();
        assert_eq!(fs::read_dir(layout.locks()).unwrap().count(), 0);
    }
}
