//! The files of the chain entry.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use railhead_host::{DurableError, remove_abandoned, remove_durably, replace};
use thiserror::Error;

use super::conflist::Conflist;

/// Name of the drop-in file: last in the chain, after whatever else is dropped in.
pub(super) const ENTRY: &str = "99-railhead.conf";
/// What the drop-in holds. The capability makes the runtime hand over the pod's annotations.
const CONTENT: &str = concat!(
    r#"{"cniVersion":"1.0.0","type":"railhead","capabilities":{"io.kubernetes.cri.pod-annotations":true}}"#,
    "\n"
);
/// Written and removed to wake the runtime, which does not watch the drop-in folders.
const WAKE: &str = ".railhead-reload";

/// Why the files are not in order.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A file or folder could not be read or changed.
    #[error("{path}: {source}")]
    File {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file could not be written or removed.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// There is no configuration yet.
    #[error("no CNI configuration in {folder}: install the cluster network first")]
    NoConfiguration {
        /// Which folder.
        folder: PathBuf,
    },
    /// The cluster network is configured without a list.
    #[error(
        "the first configuration, {path}, is a single plugin ({kind}) and not a list: nothing can be chained to it; have whoever writes that file write a .conflist of the same name whose plugins hold it, and remove it"
    )]
    NotAList {
        /// Which file.
        path: PathBuf,
        /// The plugin's type.
        kind: String,
    },
    /// Multus comes first, as a single plugin.
    #[error(
        "the first configuration, {path}, is Multus as a single plugin: nothing can be chained to it, and Multus writes it again; give Multus a file of your own instead of auto (multusConfigFile in its daemon-config.json, --multus-conf-file for the thin plugin) named 00-multus.conflist, a list whose plugins hold what {path} holds, and remove {path}"
    )]
    Multus {
        /// Which file.
        path: PathBuf,
    },
    /// The list cannot be read.
    #[error("{path} is not a CNI configuration list: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the parser met, cut off.
        detail: String,
    },
    /// No list is that long.
    #[error("{path} is longer than any CNI configuration list; look for who wrote it")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// The list's name is no folder name.
    #[error("{path}: the network name {name:?} cannot be the name of a folder")]
    Name {
        /// Which file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The list forbids drop-ins.
    #[error("{path} says loadOnlyInlinedPlugins: true, so nothing can be dropped into the chain; remove that line")]
    OnlyInlined {
        /// Which file.
        path: PathBuf,
    },
}

pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> EntryError {
    let path = path.to_owned();
    move |source| EntryError::File { path, source }
}

/// Puts the drop-in there. Returns whether it was missing or different.
pub(super) fn insert(conf_dir: &Path, conflist: &Conflist) -> Result<bool, EntryError> {
    let path = conflist.entry(conf_dir);
    if fs::read(&path).is_ok_and(|present| present == CONTENT.as_bytes()) {
        return Ok(false);
    }
    let folder = conf_dir.join(&conflist.name);
    fs::create_dir_all(&folder).map_err(file(&folder))?;
    replace(&path, CONTENT.as_bytes(), 0o644)?;
    Ok(true)
}

/// Takes the drop-in out of every network's folder, and folders that are empty then. Returns whether there was one. A
/// node without a cluster network has no folder.
pub(super) fn remove(conf_dir: &Path) -> Result<bool, EntryError> {
    let entries = match fs::read_dir(conf_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries.map_err(file(conf_dir))?,
    };
    let mut removed = false;
    for entry in entries {
        let folder = entry.map_err(file(conf_dir))?.path();
        let path = folder.join(ENTRY);
        if path.is_file() {
            remove_durably(&path)?;
            removed = true;
            remove_abandoned(&folder, ENTRY, Duration::ZERO).map_err(file(&folder))?;
            // Somebody else's drop-ins keep the folder.
            let _ = fs::remove_dir(&folder);
        }
    }
    Ok(removed)
}

/// Makes the runtime read its configurations again. containerd's watch looks at writes and removals in this folder only;
/// it ignores names without the right ending when it loads.
pub(super) fn wake_runtime(conf_dir: &Path) -> Result<(), EntryError> {
    let path = conf_dir.join(WAKE);
    fs::write(&path, "reload\n").map_err(file(&path))?;
    fs::remove_file(&path).map_err(file(&path))
}

#[cfg(test)]
mod tests {
    use super::{super::conflist::find, *};

    fn conf_dir() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("10-pod.conflist"),
            r#"{"cniVersion":"1.0.0","name":"pod","plugins":[{"type":"ptp"}]}"#,
        )
        .unwrap();
        folder
    }

    #[test]
    fn the_entry_is_dropped_beside_the_first_list_once_and_taken_out_without_a_trace() {
        let folder = conf_dir();
        fs::write(folder.path().join("20-other.conflist"), r#"{"name":"other"}"#).unwrap();
        let list = find(folder.path()).unwrap();
        assert_eq!(list.name, "pod");
        assert!(insert(folder.path(), &list).unwrap());
        assert!(!insert(folder.path(), &list).unwrap());
        assert!(folder.path().join("pod/99-railhead.conf").is_file());
        wake_runtime(folder.path()).unwrap();
        fs::write(folder.path().join("pod/.99-railhead.conf.0123.tmp"), "killed").unwrap();
        assert!(remove(folder.path()).unwrap());
        assert!(!remove(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn drop_ins_of_others_stay() {
        let folder = conf_dir();
        insert(folder.path(), &find(folder.path()).unwrap()).unwrap();
        let other = folder.path().join("pod/50-other.conf");
        fs::write(&other, "{}").unwrap();
        remove(folder.path()).unwrap();
        assert!(other.is_file());
    }
}
