//! Whether Railhead's `nccl.conf` is mounted over one of the container's image. It must not vanish silently: a note in the pod's
//! folder says so, and the agent tells the pod.
//!
//! The runtime has the container's root in its own mount namespace, where the container's mounts are not, so what is below them is
//! still to be seen. For a mount over nothing it makes an empty file.

use std::path::{Path, PathBuf};

use railhead_host::{file_size_in_root, read_state_file, replace};
use railhead_plan::{Layout, NCCL_CONF};
use serde::Deserialize;

use super::State;

/// Where runtimes say how the pod calls the container: containerd's and CRI-O's annotations.
const NAMES: [&str; 2] = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];

/// What is looked at of the container's configuration (opencontainers/runtime-spec, config.md).
#[derive(Deserialize)]
struct Config {
    root: Root,
    #[serde(default)]
    mounts: Vec<Mount>,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Mount {
    destination: PathBuf,
    #[serde(default)]
    source: PathBuf,
}

/// Leaves the note if there is something to say and none yet: whatever is new in it is told as news, and containers start again
/// and again. What cannot be read says nothing.
pub(super) fn note(layout: &Layout, pod_uid: &str, state: &State) {
    let path = layout.nccl_hidden_note(pod_uid);
    if path.exists() {
        return;
    }
    let Some(size) = hidden(layout, pod_uid, state) else {
        return;
    };
    let name = NAMES.iter().find_map(|name| state.annotations.as_ref()?.get(*name));
    let text = format!(
        "container {}: its image has an {NCCL_CONF} of {size} bytes, which NCCL does not read, since Railhead's is mounted over it; write what it says into spec.nccl.settings, or have both read with spec.nccl.inject: FileAndEnv\n",
        name.unwrap_or(&state.id)
    );
    // Without a folder the pod is not wired, and its containers do not start.
    let _ = replace(&path, text.as_bytes(), 0o644);
}

/// The size of the file below the mount.
fn hidden(layout: &Layout, pod_uid: &str, state: &State) -> Option<u64> {
    let bundle = state.bundle.as_deref()?;
    let config = read_state_file(&bundle.join("config.json")).ok()?;
    let config: Config = serde_json::from_slice(&config).ok()?;
    let ours = layout.nccl_conf(pod_uid);
    let is_ours = |mount: &Mount| mount.destination == Path::new(NCCL_CONF) && mount.source == ours;
    if !config.mounts.iter().any(is_ours) {
        return None;
    }
    let root = bundle.join(config.root.path);
    let size = file_size_in_root(&root, Path::new(NCCL_CONF)).ok()?;
    size.filter(|size| *size > 0)
}
