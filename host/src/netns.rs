//! Network namespaces. [`Netns::run`] is the only place of the project that changes a thread's namespace.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An open network namespace. It lives at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
    id: NetnsId,
}

/// What tells two network namespaces apart: device and inode of the nsfs file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetnsId {
    /// Device of nsfs.
    pub device: u64,
    /// Inode of the namespace.
    pub inode: u64,
}

/// Why a namespace could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NetnsError {
    /// The path names no file.
    #[error("the network namespace {path} does not exist")]
    Gone {
        /// Which path.
        path: PathBuf,
    },
    /// The path could not be opened.
    #[error("open the network namespace {path}: {source}")]
    Open {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file is not (or no longer) a network namespace.
    #[error("enter the network namespace {path}: {source}")]
    Enter {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// No thread for the visit.
    #[error("start a thread for the network namespace {path}: {source}")]
    Thread {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The work done inside panicked.
    #[error("the work inside the network namespace {path} panicked")]
    Panicked {
        /// Which path.
        path: PathBuf,
    },
}

impl NetnsError {
    /// Whether there is no namespace behind the path any more: no file, or a file that nothing is mounted on.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Enter { source, .. } => *source == Errno::EINVAL,
            _ => false,
        }
    }
}

impl Netns {
    /// Opens the namespace behind `path` (`/var/run/netns/...`, `/proc/<pid>/ns/net`).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NetnsError> {
        let path = path.as_ref().to_owned();
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?, file)));
        match opened {
            Ok((metadata, file)) => Ok(Self {
                id: NetnsId {
                    device: metadata.dev(),
                    inode: metadata.ino(),
                },
                file,
                path,
            }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Err(NetnsError::Gone { path }),
            Err(source) => Err(NetnsError::Open { path, source }),
        }
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetnsError> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// What it is compared by.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a new thread inside the namespace and waits for it.
    ///
    /// A socket opened there stays in the namespace and may be used from any thread afterwards. The thread ends with the
    /// call, so no thread of the process is ever left in a foreign namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        thread::scope(|scope| {
            let visit = thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| work()))
                .map_err(|source| NetnsError::Thread {
                    path: self.path.clone(),
                    source,
                })?;
            match visit.join() {
                Ok(Ok(result)) => Ok(result),
                Ok(Err(source)) => Err(NetnsError::Enter {
                    path: self.path.clone(),
                    source,
                }),
                Err(_) => Err(NetnsError::Panicked {
                    path: self.path.clone(),
                }),
            }
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
