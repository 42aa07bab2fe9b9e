//! kubelet's side: the registration socket, the DRA plugin socket, and the two services behind them; and what kubelet itself
//! tells of other plugins.
//!
//! What a claim means is not known here; it comes in as [`Claims`].

mod claim_ref;
mod devices;
mod plugin;
mod registration;
mod server;
mod socket;

use std::{future::Future, path::PathBuf};

pub use claim_ref::{ClaimRef, NoClaim};
pub use devices::{DevicesError, by_id, plugin_devices};
pub use plugin::Plugin;
pub use registration::{Registered, Registration};
pub use server::{ServeError, Sockets};
pub use socket::SocketError;

/// A device that was prepared for a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedDevice {
    /// The claim's request that it answers.
    pub request: String,
    /// Pool, as in the allocation.
    pub pool: String,
    /// Device, as in the allocation.
    pub device: String,
    /// Which share of the device, as in the allocation.
    pub share_id: Option<String>,
    /// Fully qualified CDI device names.
    pub cdi_device_ids: Vec<String>,
}

/// What is done for a claim. Errors are texts for kubelet, which shows them as events of the pod.
pub trait Claims: Send + Sync + 'static {
    /// Makes a claim's devices ready. Idempotent; kubelet gives up after 45 s and comes back after 60 to 90 s.
    fn prepare(&self, claim: ClaimRef) -> impl Future<Output = Result<Vec<PreparedDevice>, String>> + Send;

    /// Gives a claim's devices back. Idempotent; the claim and its pod may be gone from the API.
    fn unprepare(&self, claim: ClaimRef) -> impl Future<Output = Result<(), String>> + Send;
}

/// Where the sockets are.
#[derive(Clone, Debug)]
pub struct SocketPaths {
    /// The plugin's own socket; kubelet learns it at registration.
    pub plugin: PathBuf,
    /// The socket that kubelet finds by itself.
    pub registration: PathBuf,
    /// kubelet's own socket, on which it tells what device plugins serve.
    pub pod_resources: PathBuf,
}

impl SocketPaths {
    /// The sockets of the agent pod `pod_uid` below kubelet's root folder.
    ///
    /// The `@` is for kubelet: it dials the registration socket with the percent-encoded path as `:authority`, which Rust's
    /// HTTP/2 refuses, but leaves an `@` as it is, and what stands before it then reads as user info.
    pub fn new(kubelet: &std::path::Path, driver: &str, pod_uid: Option<&str>) -> Self {
        let suffix = pod_uid.map(|uid| format!("-{uid}")).unwrap_or_default();
        Self {
            plugin: kubelet
                .join("plugins")
                .join(driver)
                .join(format!("{PLUGIN_SOCKET}{suffix}.sock")),
            registration: kubelet
                .join("plugins_registry")
                .join(format!("{driver}{suffix}@reg.sock")),
            pod_resources: kubelet.join("pod-resources/kubelet.sock"),
        }
    }
}

/// Whether another agent serves kubelet on this node: in a rolling update two run side by side for a while.
pub fn others_serve(paths: &SocketPaths) -> bool {
    socket::others_listen(&paths.plugin, PLUGIN_SOCKET)
}

/// Removes the plugin's folder unless another agent's socket is in it.
pub fn remove_folder(paths: &SocketPaths) {
    if let Some(folder) = paths.plugin.parent() {
        let _ = std::fs::remove_dir(folder);
    }
}

/// How the names of plugin sockets begin.
const PLUGIN_SOCKET: &str = "dra";

#[cfg(test)]
mod tests;
