//! Network namespaces. [`Door::enter`], on the short-lived threads of [`Netns::run_each`], is the only place of the project that
//! changes a thread's namespace.

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
        let done = self.run_each([work], |work, door| door.enter().map(|()| work()));
        done.into_iter().next().unwrap_or_else(|| Err(self.panicked()))?
    }

    /// Runs `work` for each item, each on a thread of its own that begins in the namespace of the caller and goes in when it
    /// opens the door. Waits for all; the answers are in the order of the items. As with [`Netns::run`] the threads end with
    /// the call.
    pub fn run_each<I: Send, T: Send>(
        &self,
        items: impl IntoIterator<Item = I>,
        work: impl Fn(I, Door<'_>) -> T + Sync,
    ) -> Vec<Result<T, NetnsError>> {
        thread::scope(|scope| {
            let visits: Vec<_> = items
                .into_iter()
                .map(|item| {
                    let work = &work;
                    thread::Builder::new()
                        .name("netns".to_owned())
                        .spawn_scoped(scope, move || work(item, Door(self)))
                })
                .collect();
            visits
                .into_iter()
                .map(|visit| match visit.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(result)) => Ok(result),
                    Ok(Err(_)) => Err(self.panicked()),
                    Err(source) => Err(NetnsError::Thread {
                        path: self.path.clone(),
                        source,
                    }),
                })
                .collect()
        })
    }

    fn panicked(&self) -> NetnsError {
        NetnsError::Panicked {
            path: self.path.clone(),
        }
    }
}

/// The way of one thread of [`Netns::run_each`] into the namespace.
#[derive(Debug)]
pub struct Door<'a>(&'a Netns);

impl Door<'_> {
    /// From here on the thread is inside.
    pub fn enter(self) -> Result<(), NetnsError> {
        setns(&self.0.file, CloneFlags::CLONE_NEWNET).map_err(|source| NetnsError::Enter {
            path: self.0.path.clone(),
            source,
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
