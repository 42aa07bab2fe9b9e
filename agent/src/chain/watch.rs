//! Says when binary, entry or the cluster network's configuration changes: every pod of the node may fail until it is put right.

use std::{ffi::OsStr, path::Path, sync::Arc, thread, time::Duration};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::{ChainPaths, binary::BINARY, entry::ENTRY, folders};
use crate::agent::Agent;

/// How long to wait before a watch that failed is set up again; the periodic look goes on meanwhile.
const AGAIN: Duration = Duration::from_secs(30);
/// How long nothing is told after a change.
const SETTLE: Duration = Duration::from_secs(2);

/// Starts a thread that rings `node_changed`. It ends with the process: a blocked read holds nothing.
pub(crate) fn watch(agent: Arc<Agent>, paths: ChainPaths) {
    let started = thread::Builder::new().name("chain".to_owned()).spawn(move || {
        loop {
            match until_changed(&paths) {
                Ok(()) => {
                    agent.node_changed.notify_one();
                    // Whoever changes the folder is rarely done with one file.
                    thread::sleep(SETTLE);
                }
                Err(error) => {
                    tracing::debug!(%error, "the folders of the CNI chain cannot be watched");
                    thread::sleep(AGAIN);
                }
            }
        }
    });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread to watch the folders of the CNI chain");
    }
}

/// Returns when something changed that the chain is made of. Set up anew each time: the folder of binaries may be another one
/// then.
fn until_changed(paths: &ChainPaths) -> nix::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_ONLYDIR;
    let mut watched: Vec<(WatchDescriptor, Folder)> = Vec::new();
    let mut add = |path: &Path, folder| -> nix::Result<()> {
        watched.push((inotify.add_watch(path, flags)?, folder));
        Ok(())
    };
    if let Ok(real) = folders::resolve(&paths.bin_dir, &paths.bin_mount, folders::BINARIES_MOUNT) {
        add(&real, Folder::Binaries)?;
    }
    if paths.bin_mount != paths.bin_dir {
        add(&paths.bin_mount, Folder::AboveBinaries)?;
    }
    if paths.conf_mount != paths.conf_dir && paths.conf_mount != paths.bin_mount {
        add(&paths.conf_mount, Folder::AboveConfig)?;
    }
    add(&paths.conf_dir, Folder::Config)?;
    for entry in std::fs::read_dir(&paths.conf_dir).into_iter().flatten().flatten() {
        if entry.path().join(ENTRY).is_file() {
            add(&entry.path(), Folder::DropIns)?;
        }
    }
    loop {
        for event in inotify.read_events()? {
            let folder = watched
                .iter()
                .find(|(watch, _)| *watch == event.wd)
                .map(|(_, folder)| *folder);
            let gone = AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_IGNORED;
            if event.mask.intersects(gone)
                || folder.is_some_and(|folder| folder.matters(event.name.as_deref(), event.mask))
            {
                return Ok(());
            }
        }
    }
}

/// A folder that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Folder {
    Binaries,
    AboveBinaries,
    AboveConfig,
    Config,
    DropIns,
}

impl Folder {
    /// Whether a change of this name is of any interest. Other files change all the time, for example tokens of CNI plugins.
    fn matters(self, name: Option<&OsStr>, mask: AddWatchFlags) -> bool {
        let Some(name) = name.map(Path::new) else {
            return false;
        };
        match self {
            Self::Binaries => name == Path::new(BINARY),
            // A link or a folder that is another one now; what is written to files there is nobody's chain.
            Self::AboveBinaries | Self::AboveConfig => !mask.intersects(AddWatchFlags::IN_CLOSE_WRITE),
            Self::Config => name
                .extension()
                .is_some_and(|kind| kind == "conf" || kind == "conflist" || kind == "json"),
            Self::DropIns => name == Path::new(ENTRY),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, sync::mpsc};

    use super::*;

    #[test]
    fn a_removed_binary_and_a_moved_symlink_are_noticed_at_once_and_a_token_is_not() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("cni");
        let paths = ChainPaths {
            source: root.path().join("source"),
            bin_dir: mount.join("bin"),
            bin_mount: mount.clone(),
            conf_dir: root.path().join("net.d"),
            conf_mount: root.path().join("net.d"),
            cdi_dir: root.path().join("cdi"),
            cdi_link: root.path().join("run-cdi"),
            cri_socket: root.path().join("sock"),
        };
        for folder in ["cni/bin-1", "cni/bin-2", "net.d"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        symlink("bin-1", &paths.bin_dir).unwrap();
        fs::write(paths.bin_dir.join(BINARY), "").unwrap();
        fs::write(mount.join("log"), "").unwrap();
        let (rang, heard) = mpsc::channel();
        let watched = paths.clone();
        thread::spawn(move || while until_changed(&watched).is_ok() && rang.send(()).is_ok() {});
        let wait = |patience| heard.recv_timeout(patience);
        let (long, short) = (Duration::from_secs(10), Duration::from_millis(300));
        // The watch is set up by the other thread.
        thread::sleep(short);
        fs::write(paths.conf_dir.join("calico-kubeconfig"), "token").unwrap();
        fs::write(paths.bin_dir.join("bridge"), "").unwrap();
        fs::write(mount.join("log"), "a line").unwrap();
        assert!(wait(short).is_err(), "nothing of the chain has changed");
        fs::remove_file(paths.bin_dir.join(BINARY)).unwrap();
        wait(long).unwrap();
        thread::sleep(short);
        while wait(short).is_ok() {}
        fs::remove_file(&paths.bin_dir).unwrap();
        symlink("bin-2", &paths.bin_dir).unwrap();
        wait(long).unwrap();
    }
}
