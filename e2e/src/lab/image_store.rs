//! The nodes' images, unpacked once on this machine. Importing them on every node costs seconds per megabyte under emulation,
//! most of it for checksums; the pinned containerd does it here in a moment, and its folder goes onto the nodes' disks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::images::present_workspace_images;
use super::namespace::wait_while_alive;
use super::run::capture;

const LIMIT: Duration = Duration::from_mins(1);

/// Every image archive that a node starts with.
pub(super) fn archives(lab: &Lab) -> Vec<PathBuf> {
    let base = ["pause", "tools"].map(|image| lab.parts().images.join(format!("{image}.tar")));
    base.into_iter().chain(present_workspace_images()).collect()
}

/// Fills `<var_lib>/containerd` with all images.
pub(super) fn build(lab: &Lab, var_lib: &Path) -> Result<()> {
    let root = var_lib.join("containerd");
    fs::create_dir_all(&root)?;
    let run = lab.sockets().join("images");
    fs::create_dir_all(&run)?;
    let socket = run.join("containerd.sock");
    let config = run.join("config.toml");
    fs::write(&config, configuration(&root, &run, &socket))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let containerd = &lab.parts().containerd;
    // Mounts of its own, so that what it mounts while unpacking ends with it.
    let arguments = [
        "--mount".to_owned(),
        "--propagation=private".to_owned(),
        containerd.join("containerd").display().to_string(),
        format!("--config={}", config.display()),
    ];
    let log = lab.log("images");
    let mut daemon = [lab
        .namespace()
        .daemon("containerd", Path::new("unshare"), &arguments, &log)?];
    wait_while_alive(
        &mut daemon,
        "containerd listens",
        LIMIT,
        Duration::from_millis(50),
        || {
            ensure!(socket.exists(), "there is no {}", socket.display());
            Ok(())
        },
    )?;
    for archive in archives(lab) {
        let mut import = Command::new(containerd.join("ctr"));
        import
            .arg("--address")
            .arg(&socket)
            .args(["--namespace", "k8s.io", "images", "import"]);
        import.args(["--snapshotter", "overlayfs"]).arg(&archive);
        capture(&mut import, LIMIT)?.ok().with_context(|| {
            format!(
                "containerd cannot unpack {}: does this kernel have overlayfs?",
                archive.display()
            )
        })?;
    }
    let [mut daemon] = daemon;
    daemon.stop(LIMIT)?;
    // Each node finds an identity of its own.
    let identity = root.join("io.containerd.grpc.v1.introspection");
    fs::remove_dir_all(&identity).with_context(|| format!("cannot remove {}", identity.display()))
}

fn configuration(root: &Path, run: &Path, socket: &Path) -> String {
    let (root, run, socket) = (root.display(), run.display(), socket.display());
    format!(
        "version = 3\nroot = \"{root}\"\nstate = \"{run}\"\n\
         disabled_plugins = [\"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \
         \"io.containerd.grpc.v1.cri\", \"io.containerd.nri.v1.nri\"]\n\
         [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n"
    )
}
