//! What is mounted into the agent, and whether it still is what the node has there.

use std::path::{Path, PathBuf};

use super::folders::FolderError;

/// What lay under the agent's mounts when it was first looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Mounts {
    before: Vec<(PathBuf, String)>,
}

impl Mounts {
    /// Whether the host's folder under a mount is still the one that was there at the first look. A path that is no mount
    /// point says nothing.
    pub(super) fn check(&mut self, mount: &Path, mountinfo: &str) -> Result<(), FolderError> {
        let Some(now) = root_of(mount, mountinfo) else {
            return Ok(());
        };
        let known = self.before.iter().find(|(known, _)| known == mount);
        let before = known.map_or_else(|| now.clone(), |(_, before)| before.clone());
        if known.is_none() {
            self.before.push((mount.to_owned(), now.clone()));
        }
        if before == now && !now.ends_with(DELETED) {
            return Ok(());
        }
        Err(FolderError::Moved {
            mount: mount.to_owned(),
            before,
            now: now.replace(DELETED, " (removed)"),
        })
    }
}

/// What the kernel appends to the name of a mounted folder that was removed (`fs/d_path.c`).
const DELETED: &str = "//deleted";

/// The folder of its file system that is mounted at `mount`: the fourth column of `/proc/self/mountinfo`, which the kernel
/// makes anew from the folder's present name at each reading (proc_pid_mountinfo(5)).
fn root_of(mount: &Path, mountinfo: &str) -> Option<String> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let mut columns = line.split(' ').skip(3);
            let (root, point) = (columns.next()?, columns.next()?);
            (Path::new(point) == mount).then(|| root.to_owned())
        })
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_moved_or_removed_under_its_mount_is_told() {
        let line = |root: &str| {
            format!(
                "36 35 98:0 /other /mnt rw - ext4 /dev/a rw\n40 35 98:0 {root} /opt/cni rw,noatime - ext4 /dev/a rw\n"
            )
        };
        let mount = Path::new("/opt/cni");
        let mut mounts = Mounts::default();
        assert_eq!(mounts.check(mount, &line("/opt/cni")), Ok(()));
        assert_eq!(mounts.check(mount, &line("/opt/cni")), Ok(()));
        let moved = mounts.check(mount, &line("/opt/cni-old")).unwrap_err().to_string();
        assert!(
            moved.contains("/opt/cni-old") && moved.contains("delete the agent's pod"),
            "{moved}"
        );
        assert!(mounts.check(mount, &line("/opt/cni//deleted")).is_err());
        assert!(Mounts::default().check(mount, &line("/opt/cni//deleted")).is_err());
        assert_eq!(mounts.check(Path::new("/not/mounted"), &line("/x")), Ok(()));
    }
}
