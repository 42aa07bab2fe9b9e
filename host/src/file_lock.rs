//! One process at a time: a VF, a claim, the choice of VFs of a node.
//!
//! Those who wait do so in the order in which they came. The kernel's own queue for a flock has no deadline and hands nothing
//! over: who was woken races with whoever comes by. So each who waits leaves a ticket beside the lock, a file that it holds
//! locked, and tries the lock only when no older ticket is held. A ticket whose owner died is not. One whose owner is stopped
//! is, as a lock would be; whoever waits in vain is told who it is.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use thiserror::Error;

use crate::{LockHolder, sign_lock};

/// How often the first in the queue tries the lock. Holders keep it for tens of milliseconds.
const RETRY: Duration = Duration::from_millis(2);
/// How often those behind it look whether it is their turn.
const LONGEST_RETRY: Duration = Duration::from_millis(20);

/// A held lock (flock). It is given back on drop and, by the kernel, when the process dies.
#[derive(Debug)]
pub struct FileLock {
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
    /// Somebody else held it all the time, or has a place in the queue and does not take it.
    #[error("lock {path}: not free after {} s: {holder}", waited.as_secs())]
    Held {
        /// Which lock file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
        /// Who.
        holder: LockHolder,
    },
}

impl FileLock {
    /// Takes the lock behind `path` (see `Layout::function_lock`), waiting at most `patience`. Makes the folder if needed.
    /// Whoever holds it may remove the file.
    pub fn take(path: &Path, patience: Duration) -> Result<Self, LockError> {
        let error = |source| LockError::File {
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(error)?;
        }
        let start = Instant::now();
        let mut ticket = None;
        loop {
            let ahead = u32::try_from(held_tickets_before(path, ticket.as_ref()).len()).unwrap_or(u32::MAX);
            if ahead == 0
                && let Some(lock) = Self::try_once(path).map_err(error)?
            {
                return Ok(lock);
            }
            if start.elapsed() >= patience {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    waited: patience,
                    holder: holder(path, ticket.as_ref()),
                });
            }
            // Without one (a full file system) the wait goes on, only without a place in the queue.
            ticket = ticket.or_else(|| Ticket::draw(path).ok());
            thread::sleep(RETRY.saturating_mul(ahead.saturating_add(1)).min(LONGEST_RETRY));
        }
    }

    fn try_once(path: &Path) -> io::Result<Option<Self>> {
        let file = open_private(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // The last holder may have removed the file that was opened here; then the lock is another file's.
        let same = fs::metadata(path).is_ok_and(|there| {
            file.metadata()
                .is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
        });
        if same {
            sign_lock(&file);
        }
        Ok(same.then_some(Self { _file: file }))
    }
}

/// Who keeps the lock behind `path` from whoever has `ticket`.
fn holder(path: &Path, ticket: Option<&Ticket>) -> LockHolder {
    let is_free = open_private(path).is_ok_and(|file| file.try_lock().is_ok());
    let mut ahead = held_tickets_before(path, ticket);
    ahead.sort();
    match ahead.first() {
        Some(oldest) if is_free => LockHolder::of_ticket(oldest),
        _ => LockHolder::of(path),
    }
}

/// A place in the queue of a lock.
#[derive(Debug)]
struct Ticket {
    path: PathBuf,
    name: String,
    _file: File,
}

impl Ticket {
    fn draw(lock: &Path) -> io::Result<Self> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        // The standard library seeds its hashers from the kernel's random source.
        let random = RandomState::new().build_hasher().finish();
        let name = format!("{}{now:032x}-{random:016x}", prefix(lock));
        let path = lock.with_file_name(&name);
        let file = open_private(&path)?;
        file.lock()?;
        sign_lock(&file);
        Ok(Self {
            path,
            name,
            _file: file,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // One that stays behind is held by nobody, and who comes next removes it.
        let _ = fs::remove_file(&self.path);
    }
}

/// The tickets of those who wait since before this one was drawn, or at all. Removes the tickets of the dead.
fn held_tickets_before(lock: &Path, ticket: Option<&Ticket>) -> Vec<PathBuf> {
    let prefix = prefix(lock);
    let Some(entries) = lock.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return Vec::new();
    };
    let mut held = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(&prefix) || ticket.is_some_and(|ticket| name >= ticket.name) {
            continue;
        }
        match File::open(entry.path()).map(|file| file.try_lock()) {
            Ok(Err(TryLockError::WouldBlock)) => held.push(entry.path()),
            Ok(Ok(())) => drop(fs::remove_file(entry.path())),
            _ => {}
        }
    }
    held
}

fn prefix(lock: &Path) -> String {
    format!(".{}.waits-", lock.file_name().unwrap_or_default().to_string_lossy())
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_waits_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/0000:18:00.3.lock");
        let held = FileLock::take(&path, Duration::ZERO).unwrap();
        let refused = FileLock::take(&path, Duration::from_millis(30)).unwrap_err();
        let own = format!("(process {}) holds it", std::process::id());
        assert!(refused.to_string().contains(&own), "{refused}");
        drop(held);
        FileLock::take(&path, Duration::ZERO).unwrap();
    }

    /// Its ticket keeps everybody out, though nobody has the lock.
    #[test]
    fn one_who_was_stopped_in_the_queue_is_named_with_what_lets_others_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.lock");
        let frozen = folder.path().join(format!("{}{:032x}-0", prefix(&path), 1));
        fs::write(&frozen, "4711 railhead\n").unwrap();
        let stopped = File::open(&frozen).unwrap();
        stopped.lock().unwrap();
        let refused = FileLock::take(&path, Duration::from_millis(30))
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("railhead (process 4711) came earlier and does not take it"),
            "{refused}"
        );
        assert!(refused.contains("kill -CONT"), "{refused}");
        drop(stopped);
        FileLock::take(&path, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_removed_lock_file_locks_nobody_out_and_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claim.lock");
        let held = FileLock::take(&path, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| FileLock::take(&path, Duration::from_mins(1)));
            thread::sleep(Duration::from_millis(50));
            fs::remove_file(&path).unwrap();
            drop(held);
            let _second = waiting.join().unwrap().unwrap();
            let refused = FileLock::take(&path, Duration::from_millis(10)).unwrap_err();
            assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        });
    }

    #[test]
    fn the_ticket_of_one_who_died_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.lock");
        let dead = folder.path().join(format!("{}{:032x}-0", prefix(&path), 1));
        fs::write(&dead, "").unwrap();
        FileLock::take(&path, Duration::ZERO).unwrap();
        assert!(!dead.exists());
    }

    #[test]
    fn many_get_a_lock_in_the_order_in_which_they_came_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = &folder.path().join("node.lock");
        let held = FileLock::take(path, Duration::ZERO).unwrap();
        let order = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for number in 0..16_u32 {
                let order = &order;
                scope.spawn(move || {
                    let _lock = FileLock::take(path, Duration::from_mins(1)).unwrap();
                    order.lock().unwrap().push(number);
                    thread::sleep(Duration::from_millis(10));
                });
                thread::sleep(Duration::from_millis(60));
            }
            drop(held);
        });
        let order = order.into_inner().unwrap();
        assert!(order.is_sorted(), "{order:?}");
        let left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["node.lock"]);
    }
}
