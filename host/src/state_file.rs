//! Reading files of the node's state (plans, journals, records, CDI specs) as if anybody might have put them there.
//!
//! A program that runs for every pod of a node must not hang or fill its memory because of one file: a FIFO would block it
//! when it is opened, a link may lead anywhere, and a sparse file of a gigabyte costs its writer nothing.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, fcntl::OFlag};
use thiserror::Error;

/// The longest file that is read, bytes. A plan of 64 rails takes about 40 KiB.
pub const STATE_FILE_LIMIT: u64 = 1 << 20;

/// Why a file was not read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StateFileError {
    /// There is no such file, and no folder that it could be in.
    #[error("{path} does not exist")]
    Absent {
        /// Which file.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{path} is {what} and not a file; remove it")]
    NotAFile {
        /// Which path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Somebody else may have written it.
    #[error(
        "{path} belongs to user {owner} and has mode {mode:04o}, so others than root may have written it; remove it"
    )]
    NotOurs {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Its mode.
        mode: u32,
    },
    /// No file of ours is that long.
    #[error("{path} is longer than {STATE_FILE_LIMIT} bytes; remove it")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The kernel could not read it.
    #[error("read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl StateFileError {
    /// Whether there is nothing to read.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Whether there is something and reading it again later would not help: it is none of ours, or its disk has lost it.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotAFile { .. } | Self::NotOurs { .. } | Self::TooLong { .. } => true,
            Self::Read { source, .. } => is_lost(source),
            Self::Absent { .. } => false,
        }
    }
}

/// How the kernel says that a disk cannot give back what was written: EUCLEAN and EBADMSG are what ext4 and XFS answer for what
/// does not fit its place or its checksum (`EFSCORRUPTED`, `EFSBADCRC`).
fn is_lost(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EIO | Errno::EUCLEAN | Errno::EBADMSG))
}

/// Reads a regular file of at most [`STATE_FILE_LIMIT`] bytes that nobody but root (and the user of this process) can
/// have written. Does not follow a link and does not wait for anybody.
pub fn read_state_file(path: &Path) -> Result<Vec<u8>, StateFileError> {
    let read = |source| StateFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = open(path)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(not_a_file(path, &metadata));
    }
    let ours = metadata.uid() == 0 || metadata.uid() == nix::unistd::Uid::effective().as_raw();
    if !ours || metadata.mode() & 0o022 != 0 {
        return Err(StateFileError::NotOurs {
            path: path.to_owned(),
            owner: metadata.uid(),
            mode: metadata.mode() & 0o7777,
        });
    }
    // One byte more than there is, so that the end is seen without asking for more room.
    let room = usize::try_from(metadata.len().min(STATE_FILE_LIMIT)).unwrap_or_default();
    let mut content = Vec::with_capacity(room + 1);
    if metadata.len() <= STATE_FILE_LIMIT {
        // It may grow meanwhile.
        file.take(STATE_FILE_LIMIT + 1)
            .read_to_end(&mut content)
            .map_err(read)?;
    }
    if metadata.len() > STATE_FILE_LIMIT || content.len() as u64 > STATE_FILE_LIMIT {
        return Err(StateFileError::TooLong { path: path.to_owned() });
    }
    Ok(content)
}

fn open(path: &Path) -> Result<File, StateFileError> {
    // Without O_NONBLOCK opening a FIFO waits for a writer.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => StateFileError::Absent { path: path.to_owned() },
        _ => match fs::symlink_metadata(path) {
            // A link, or a socket, which cannot be opened.
            Ok(metadata) if !metadata.is_file() => not_a_file(path, &metadata),
            _ => StateFileError::Read {
                path: path.to_owned(),
                source,
            },
        },
    })
}

fn not_a_file(path: &Path, metadata: &fs::Metadata) -> StateFileError {
    let kind = metadata.file_type();
    let what = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    StateFileError::NotAFile {
        path: path.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    };

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn a_file_of_ours_is_read_and_an_absent_one_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        assert!(read_state_file(&path).unwrap_err().is_absent());
        fs::write(&path, "{}").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert_eq!(read_state_file(&path).unwrap(), b"{}");
        assert!(read_state_file(&path.join("below")).unwrap_err().is_absent());
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused_at_once_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("target"), "{}").unwrap();
        symlink(path("target"), path("a symbolic link")).unwrap();
        symlink(path("a loop"), path("a loop")).unwrap();
        mkfifo(&path("a FIFO"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        fs::create_dir(path("a folder")).unwrap();
        let _socket = UnixListener::bind(path("a socket")).unwrap();
        File::create(path("longer")).unwrap().set_len(1 << 30).unwrap();
        fs::set_permissions(path("longer"), PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(path("mode 0666"), "{}").unwrap();
        fs::set_permissions(path("mode 0666"), PermissionsExt::from_mode(0o666)).unwrap();
        for name in [
            "a symbolic link",
            "a loop",
            "a FIFO",
            "a folder",
            "a socket",
            "longer",
            "mode 0666",
        ] {
            let error = read_state_file(&path(name)).unwrap_err();
            assert!(error.is_lasting(), "{name}: {error}");
            assert!(error.to_string().contains("remove it"), "{error}");
        }
        assert!(
            read_state_file(&path("a FIFO"))
                .unwrap_err()
                .to_string()
                .contains("is a FIFO"),
            "it is named"
        );
    }

    /// Nothing is mapped at the beginning of a program's memory, and reading there fails as reading from a broken disk does.
    #[test]
    fn what_a_disk_has_lost_is_not_waited_for() {
        let error = read_state_file(Path::new("/proc/self/mem")).unwrap_err();
        assert!(error.is_lasting() && !error.is_absent(), "{error}");
        let busy = StateFileError::Read {
            path: PathBuf::from("plan.json"),
            source: io::Error::from_raw_os_error(Errno::EMFILE as i32),
        };
        assert!(!busy.is_lasting());
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if !nix::unistd::Uid::effective().is_root() {
            println!("SKIP giving a file away needs root");
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI runs as root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        fs::write(&path, "{}").unwrap();
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        let error = read_state_file(&path).unwrap_err();
        assert!(matches!(error, StateFileError::NotOurs { owner: 1000, .. }), "{error}");
    }
}
