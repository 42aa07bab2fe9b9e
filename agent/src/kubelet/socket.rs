//! Unix sockets that survive their predecessors.

use std::{
    fs, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use thiserror::Error;
use tokio::net::UnixListener;

/// Why a socket could not be made.
#[derive(Debug, Error)]
#[error("listen on {path}: {source}; is kubelet's folder mounted into the agent?")]
pub struct SocketError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Listens on `path`, in place of whatever an earlier process left there.
pub(super) fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let error = |source| SocketError {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(error)?;
    }
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(error(source)),
        _ => {}
    }
    UnixListener::bind(path).map_err(error)
}

/// Removes sockets in the folder of `own` that begin with `prefix` and that nobody listens on: those of agents that were
/// killed. kubelet would try to register each of them for ever.
pub(super) fn remove_dead(own: &Path, prefix: &str) {
    for path in others(own, prefix) {
        if is_dead(&path) && fs::remove_file(&path).is_ok() {
            tracing::info!(socket = %path.display(), "removed the socket of an agent that is gone");
        }
    }
}

/// Whether somebody listens on another socket in the folder of `own` that begins with `prefix`.
pub(super) fn others_listen(own: &Path, prefix: &str) -> bool {
    others(own, prefix).iter().any(|path| !is_dead(path))
}

fn others(own: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = own.parent().and_then(|folder| fs::read_dir(folder).ok());
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| path != own)
        .collect()
}

fn is_dead(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}
