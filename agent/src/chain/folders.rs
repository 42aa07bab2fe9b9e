//! What the agent sees through its mounts and what the container runtime sees are compared: a bind mount keeps showing the
//! folder that was there when the agent started, whatever a symlink on the way to it says now.

use std::{
    fmt, fs, io,
    path::{Component, Path, PathBuf},
};

use thiserror::Error;

use super::runtime::RuntimeView;

/// As many symlinks as the kernel follows.
const LINKS: usize = 40;

/// Why a folder that both read is not the same for both.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FolderError {
    /// A symlink leads out of what is mounted into the agent.
    #[error(
        "the runtime's folder {folder} leads over the symlink {link} to {target}, which is outside of {mount}, the folder that is mounted into the agent: nothing can be kept there; set agent.paths.{value} to a folder that holds both"
    )]
    Leaves {
        /// The chart's value.
        value: &'static str,
        /// The folder as the runtime names it.
        folder: PathBuf,
        /// The symlink.
        link: PathBuf,
        /// Where it points to.
        target: PathBuf,
        /// What is mounted.
        mount: PathBuf,
    },
    /// Too many symlinks.
    #[error("{folder} is a circle of symlinks; correct it on the node")]
    Circle {
        /// The folder as the runtime names it.
        folder: PathBuf,
    },
    /// It cannot be read.
    #[error("{path}: {detail}")]
    Read {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        detail: String,
    },
    /// The host's folder was moved or removed under the mount.
    #[error(
        "{mount} is mounted into the agent from what is now {now} on the node and was {before}: the runtime reads another folder; delete the agent's pod on this node, so that it is mounted anew"
    )]
    Moved {
        /// Mount point.
        mount: PathBuf,
        /// What was mounted when the agent started, as a path in its file system.
        before: String,
        /// That same folder now.
        now: String,
    },
    /// The runtime looks for CNI binaries elsewhere.
    #[error(
        "the runtime looks for CNI binaries in {runtime}, the agent keeps its own in {agent}; set agent.paths.cniBinaries to the runtime's folder"
    )]
    OtherBinaries {
        /// The agent's.
        agent: PathBuf,
        /// The runtime's.
        runtime: Paths,
    },
    /// The runtime looks for CNI configurations elsewhere.
    #[error(
        "the runtime reads CNI configurations from {runtime}, the agent puts its entry into {agent}; set agent.paths.cniConfig to the runtime's folder"
    )]
    OtherConfig {
        /// The agent's.
        agent: PathBuf,
        /// The runtime's.
        runtime: PathBuf,
    },
}

/// Several paths in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl fmt::Display for Paths {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(|path| path.display().to_string()).collect();
        formatter.write_str(&texts.join(", "))
    }
}

/// The chart's value for what is mounted to reach the CNI binaries, and the same for the configurations.
pub(super) const BINARIES_MOUNT: &str = "cniBinariesMount";
pub(super) const CONFIG_MOUNT: &str = "cniConfigMount";

/// The real folder behind `folder`, which is `mount` or lies below it; `value` is how the chart calls the mount. The folder need
/// not exist yet.
pub(super) fn resolve(folder: &Path, mount: &Path, value: &'static str) -> Result<PathBuf, FolderError> {
    let mut left = LINKS;
    let mut real = PathBuf::new();
    let mut ahead: Vec<PathBuf> = components(folder);
    while let Some(part) = ahead.pop() {
        if part == Path::new("..") {
            real.pop();
            continue;
        }
        let path = real.join(&part);
        // What lies above the mount is the agent's own image.
        if !path.starts_with(mount) || path == mount {
            real = path;
            continue;
        }
        match fs::read_link(&path) {
            Ok(target) => {
                left = left.checked_sub(1).ok_or_else(|| FolderError::Circle {
                    folder: folder.to_owned(),
                })?;
                let mut whole = components(&real.join(&target));
                if !lexical(&real.join(&target)).starts_with(mount) {
                    return Err(FolderError::Leaves {
                        value,
                        folder: folder.to_owned(),
                        link: path,
                        target,
                        mount: mount.to_owned(),
                    });
                }
                ahead.append(&mut whole);
                real = PathBuf::new();
            }
            // Not a symlink, or not there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => real = path,
            Err(error) => {
                return Err(FolderError::Read {
                    path,
                    detail: error.to_string(),
                });
            }
        }
    }
    Ok(real)
}

/// The parts of a path, last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    let mut parts: Vec<PathBuf> = parts.map(|part| PathBuf::from(part.as_os_str())).collect();
    parts.reverse();
    parts
}

/// The path without `.` and `..`, as if it had no symlinks; a doubled slash and one at the end go too.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part.as_os_str()),
        }
    }
    plain
}

/// The same folder under another name: `/var/run` has been a link to `/run` for ages.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| {
        let path = lexical(path);
        path.strip_prefix("/var/run")
            .map_or_else(|_| path.clone(), |rest| Path::new("/run").join(rest))
    };
    plain(one) == plain(other)
}

/// Whether the runtime looks for our binary where it is kept: in `agent`, which leads to `real`.
pub(super) fn check_binaries(agent: &Path, real: &Path, view: &RuntimeView) -> Result<(), FolderError> {
    let is_ours = |dir: &PathBuf| same(dir, agent) || same(dir, real);
    if view.bin_dirs.is_empty() || view.bin_dirs.iter().any(is_ours) {
        return Ok(());
    }
    Err(FolderError::OtherBinaries {
        agent: agent.to_owned(),
        runtime: Paths(view.bin_dirs.clone()),
    })
}

/// Whether the runtime reads the folder that the entry is put into: `agent`, which leads to `real`.
pub(super) fn check_config(agent: &Path, real: &Path, view: &RuntimeView) -> Result<(), FolderError> {
    match &view.conf_dir {
        Some(runtime) if !same(runtime, agent) && !same(runtime, real) => Err(FolderError::OtherConfig {
            agent: agent.to_owned(),
            runtime: runtime.clone(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symlink_inside_the_mount_is_followed_and_one_that_leaves_it_is_named() {
        let root = tempfile::tempdir().unwrap();
        let mount = root.path().join("opt/cni");
        fs::create_dir_all(mount.join("bin-1")).unwrap();
        let bin = mount.join("bin");
        assert_eq!(resolve(&bin, &mount, BINARIES_MOUNT).unwrap(), bin, "it need not exist");
        symlink("bin-1", &bin).unwrap();
        assert_eq!(resolve(&bin, &mount, BINARIES_MOUNT).unwrap(), mount.join("bin-1"));
        fs::remove_file(&bin).unwrap();
        symlink(mount.join("current/bin"), &bin).unwrap();
        symlink("bin-1/..", mount.join("current")).unwrap();
        let circle = resolve(&bin, &mount, BINARIES_MOUNT).unwrap_err();
        assert!(matches!(circle, FolderError::Circle { .. }), "{circle}");
        for target in ["/var/lib/rancher/k3s/data/1a2b/bin", "../../elsewhere"] {
            fs::remove_file(&bin).unwrap();
            symlink(target, &bin).unwrap();
            let text = resolve(&bin, &mount, BINARIES_MOUNT).unwrap_err().to_string();
            assert!(
                text.contains(target) && text.contains(&mount.display().to_string()),
                "{text}"
            );
            assert!(text.contains("cniBinariesMount"), "{text}");
        }
    }

    #[test]
    fn a_runtime_that_reads_other_folders_is_told_by_both_names() {
        let view = RuntimeView {
            bin_dirs: vec!["/usr/libexec/cni".into(), "/opt/cni/bin/".into()],
            conf_dir: Some("/etc/cni/net.d".into()),
            ..RuntimeView::default()
        };
        let binaries = |agent: &str, view: &RuntimeView| check_binaries(Path::new(agent), Path::new(agent), view);
        assert_eq!(binaries("/opt/cni/bin", &view), Ok(()));
        let link = Path::new("/opt/plugins");
        assert_eq!(
            check_binaries(link, Path::new("/usr/libexec/cni"), &view),
            Ok(()),
            "behind a link"
        );
        assert_eq!(
            check_config(Path::new("/etc/cni/net.d/"), Path::new("/etc/cni/net.d/"), &view),
            Ok(())
        );
        let text = binaries("/home/kubernetes/bin", &view).unwrap_err().to_string();
        assert!(
            text.contains("/usr/libexec/cni, /opt/cni/bin/") && text.contains("/home/kubernetes/bin"),
            "{text}"
        );
        let text = check_config(Path::new("/etc/other"), Path::new("/etc/other"), &view)
            .unwrap_err()
            .to_string();
        assert!(text.contains("/etc/cni/net.d") && text.contains("/etc/other"), "{text}");
        // One that does not say where it looks is believed to look where it should.
        let silent = RuntimeView::default();
        assert_eq!(binaries("/opt/cni/bin", &silent), Ok(()));
        assert_eq!(
            check_config(Path::new("/etc/cni/net.d"), Path::new("/etc/cni/net.d"), &silent),
            Ok(())
        );
    }
}
