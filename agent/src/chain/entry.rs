//! The files of the chain entry.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use railhead_host::{ABANDONED, DurableError, remove_abandoned, remove_durably, replace, write_durably};
use serde::Deserialize;
use thiserror::Error;

/// Name of the CNI binary.
pub(super) const BINARY: &str = "railhead";
/// Name of the drop-in file: last in the chain, after whatever else is dropped in.
const ENTRY: &str = "99-railhead.conf";
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
        "the cluster network {path} is a single plugin, not a list: nothing can be chained to it; turn it into a .conflist"
    )]
    NotAList {
        /// Which file.
        path: PathBuf,
    },
    /// The list cannot be read.
    #[error("{path} is not a CNI configuration list: {source}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
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

/// The cluster network's configuration list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflist {
    /// Name of the network.
    pub name: String,
}

impl Conflist {
    /// The drop-in for this network.
    pub fn entry(&self, conf_dir: &Path) -> PathBuf {
        conf_dir.join(&self.name).join(ENTRY)
    }
}

fn file(path: &Path) -> impl FnOnce(io::Error) -> EntryError {
    let path = path.to_owned();
    move |source| EntryError::File { path, source }
}

/// Installs the binary by rename where it is absent or, with `replace`, where it differs: libcni never sees half of it, and a
/// running one stays whole.
pub(super) fn install_binary(source: &Path, bin_dir: &Path, replace: bool) -> Result<bool, EntryError> {
    let target = bin_dir.join(BINARY);
    match File::open(&target) {
        Ok(_) if !replace => return Ok(false),
        Ok(present) => {
            let wanted = File::open(source).map_err(file(source))?;
            if same_content(wanted, present).map_err(file(&target))? {
                return Ok(false);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(bin_dir).map_err(file(bin_dir))?;
        }
        Err(error) => return Err(file(&target)(error)),
    }
    let wanted = fs::read(source).map_err(file(source))?;
    write_durably(&target, &wanted, 0o755)?;
    remove_abandoned(bin_dir, &format!("{BINARY}."), ABANDONED).map_err(file(bin_dir))?;
    Ok(true)
}

/// Compares in pieces: this runs at every pass, and two whole binaries would double the agent's memory.
fn same_content(one: File, other: File) -> io::Result<bool> {
    const PIECE: usize = 32 << 10;
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (
        BufReader::with_capacity(PIECE, one),
        BufReader::with_capacity(PIECE, other),
    );
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if left[..length] != right[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(left.len() == right.len());
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Removes the binary; an absent one is fine.
pub(super) fn remove_binary(bin_dir: &Path) -> Result<(), EntryError> {
    remove_durably(&bin_dir.join(BINARY))?;
    // What agents that were killed while they installed it have left.
    remove_abandoned(bin_dir, &format!("{BINARY}."), Duration::ZERO).map_err(file(bin_dir))
}

/// The list that the runtime uses: the first configuration by name, as containerd sorts them.
pub(super) fn find(conf_dir: &Path) -> Result<Conflist, EntryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        #[serde(default)]
        name: String,
        #[serde(default)]
        load_only_inlined_plugins: bool,
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(conf_dir).map_err(file(conf_dir))? {
        let path = entry.map_err(file(conf_dir))?.path();
        let kind = path.extension().and_then(|extension| extension.to_str());
        if matches!(kind, Some("conf" | "conflist" | "json")) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let Some(path) = paths.into_iter().next() else {
        return Err(EntryError::NoConfiguration {
            folder: conf_dir.to_owned(),
        });
    };
    if path.extension().is_none_or(|extension| extension != "conflist") {
        return Err(EntryError::NotAList { path });
    }
    let bytes = fs::read(&path).map_err(file(&path))?;
    let list: List = match serde_json::from_slice(&bytes) {
        Ok(list) => list,
        Err(source) => return Err(EntryError::Damaged { path, source }),
    };
    if list.load_only_inlined_plugins {
        return Err(EntryError::OnlyInlined { path });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if list.name.is_empty() || list.name.starts_with('.') || !list.name.bytes().all(plain) {
        return Err(EntryError::Name { path, name: list.name });
    }
    Ok(Conflist { name: list.name })
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
    use super::*;

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

    #[test]
    fn a_chain_that_cannot_take_an_entry_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let text = |folder: &Path| find(folder).unwrap_err().to_string();
        assert!(text(folder.path()).contains("install the cluster network first"));
        let path = folder.path().join("10-pod.conflist");
        fs::write(&path, r#"{"name":"pod","loadOnlyInlinedPlugins":true}"#).unwrap();
        assert!(text(folder.path()).contains("remove that line"));
        fs::write(&path, r#"{"name":"../etc"}"#).unwrap();
        assert!(text(folder.path()).contains("cannot be the name of a folder"));
        fs::write(&path, "{").unwrap();
        assert!(text(folder.path()).contains("not a CNI configuration list"));
        fs::write(folder.path().join("05-single.conf"), "{}").unwrap();
        assert!(text(folder.path()).contains("turn it into a .conflist"));
    }

    #[test]
    fn the_binary_is_replaced_only_when_it_differs_and_may_be_executed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (source, bin) = (folder.path().join("source"), folder.path().join("bin"));
        fs::write(&source, "one").unwrap();
        assert!(install_binary(&source, &bin, true).unwrap());
        assert!(!install_binary(&source, &bin, true).unwrap());
        fs::write(&source, "two").unwrap();
        assert!(install_binary(&source, &bin, true).unwrap());
        let long = vec![7; 100_000];
        fs::write(&source, &long).unwrap();
        assert!(install_binary(&source, &bin, true).unwrap());
        assert!(!install_binary(&source, &bin, true).unwrap());
        fs::write(&source, [&long[..99_999], &[8]].concat()).unwrap();
        assert!(install_binary(&source, &bin, true).unwrap(), "the last byte counts");
        fs::write(bin.join(BINARY), "a newer agent's").unwrap();
        assert!(!install_binary(&source, &bin, false).unwrap());
        let mode = fs::metadata(bin.join(BINARY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        fs::write(bin.join(".railhead.0123.tmp"), "killed").unwrap();
        remove_binary(&bin).unwrap();
        remove_binary(&bin).unwrap();
        assert_eq!(fs::read_dir(&bin).unwrap().count(), 0);
        assert!(!remove(&folder.path().join("absent")).unwrap());
    }
}
