//! What the container runtime says of itself (CRI v1, `Status` with `verbose`): the chains that it has loaded, and the folders
//! that it reads.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use thiserror::Error;

use super::binary::BINARY;
use crate::{
    proto::cri::{StatusRequest, StatusResponse, runtime_service_client::RuntimeServiceClient},
    unix_channel,
};

/// How long the runtime may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Key of the CNI configuration in containerd's answer (`internal/cri/server/status.go`; the content is go-cni's
/// `ConfigResult`).
const CNI_CONFIG: &str = "cniconfig";
/// Key of containerd's own configuration in its answer.
const CONFIG: &str = "config";

/// What the runtime says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeView {
    /// The networks that it has loaded.
    pub networks: Vec<LoadedNetwork>,
    /// Where it looks for CNI binaries, in this order; empty when it does not say.
    pub bin_dirs: Vec<PathBuf>,
    /// Where it looks for CNI configurations, if it says.
    pub conf_dir: Option<PathBuf>,
    /// Where it looks for CDI specs; `None` when it does not say.
    pub cdi: Option<CdiSettings>,
}

/// A network that the runtime has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedNetwork {
    /// Name of the list.
    pub name: String,
    /// The version of the protocol that it speaks with the list's plugins.
    pub version: String,
    /// Types of the plugins, in the order of the chain.
    pub plugins: Vec<String>,
}

/// The runtime's settings of CDI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CdiSettings {
    /// Whether it resolves CDI devices at all.
    pub enabled: bool,
    /// The folders of specs.
    pub dirs: Vec<PathBuf>,
}

impl RuntimeView {
    /// Reads the runtime's answer; `None` for one of another shape.
    pub fn of(status: &StatusResponse) -> Option<Self> {
        let info = |key| status.info.get(key).and_then(|text| serde_json::from_str(text).ok());
        info(CNI_CONFIG).and_then(|chains: Value| view(&chains, info(CONFIG).as_ref()))
    }

    /// Whether the runtime calls our plugin.
    pub fn has_entry(&self) -> bool {
        self.networks
            .iter()
            .any(|network| network.plugins.iter().any(|plugin| plugin == BINARY))
    }

    /// The version of the protocol that the runtime speaks in a network, if it has loaded it.
    pub fn version_of(&self, network: &str) -> Option<&str> {
        self.networks
            .iter()
            .find(|loaded| loaded.name == network)
            .map(|loaded| loaded.version.as_str())
    }
}

/// Why the runtime's answer is not known.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The socket.
    #[error("connect to the container runtime at {socket}: {source}; is the socket mounted into the agent?")]
    Connect {
        /// Which socket.
        socket: PathBuf,
        /// What happened.
        #[source]
        source: tonic::transport::Error,
    },
    /// The call.
    #[error("ask the container runtime at {socket} for its status: {source}")]
    Call {
        /// Which socket.
        socket: PathBuf,
        /// What it answered.
        #[source]
        source: Box<tonic::Status>,
    },
    /// An answer of another shape.
    #[error(
        "the container runtime at {socket} does not tell its CNI configuration (no usable {CNI_CONFIG} in its status)"
    )]
    NotTold {
        /// Which socket.
        socket: PathBuf,
    },
}

/// Asks the runtime.
pub(super) async fn ask(socket: &Path) -> Result<RuntimeView, RuntimeError> {
    let channel = unix_channel::connect(socket, ANSWER)
        .await
        .map_err(|source| RuntimeError::Connect {
            socket: socket.to_owned(),
            source,
        })?;
    let status = RuntimeServiceClient::new(channel)
        .status(StatusRequest { verbose: true })
        .await
        .map_err(|source| RuntimeError::Call {
            socket: socket.to_owned(),
            source: Box::new(source),
        })?
        .into_inner();
    RuntimeView::of(&status).ok_or_else(|| RuntimeError::NotTold {
        socket: socket.to_owned(),
    })
}

/// Reads the answer: `Networks[].Config.{Name, CNIVersion, Plugins[].Network.type}` and the folders. `None` for an answer of
/// another shape.
fn view(chains: &Value, config: Option<&Value>) -> Option<RuntimeView> {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let paths = |value: &Value| {
        let list = value.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(PathBuf::from).collect::<Vec<_>>()
    };
    let networks = match chains.get("Networks")? {
        // No network is loaded yet: null in Go's JSON.
        Value::Null => Vec::new(),
        networks => networks
            .as_array()?
            .iter()
            .map(|network| LoadedNetwork {
                name: text(network, "/Config/Name").unwrap_or_default(),
                version: text(network, "/Config/CNIVersion").unwrap_or_default(),
                plugins: network
                    .pointer("/Config/Plugins")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|plugin| text(plugin, "/Network/type"))
                    .collect(),
            })
            .collect(),
    };
    let cdi = config.and_then(|config| {
        Some(CdiSettings {
            dirs: paths(config.get("cdiSpecDirs")?),
            // Releases without the switch always resolve CDI devices.
            enabled: config.get("enableCDI").and_then(Value::as_bool).unwrap_or(true),
        })
    });
    Some(RuntimeView {
        networks,
        bin_dirs: chains.get("PluginDirs").map(paths).unwrap_or_default(),
        conf_dir: text(chains, "/PluginConfDir")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from),
        cdi,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// containerd's answer with one network of these plugins, as `crictl info` shows it.
    pub(crate) fn chains(version: &str, plugins: &[&str]) -> Value {
        let plugins: Vec<Value> = plugins.iter().map(|kind| json!({"Network": {"type": kind}})).collect();
        json!({
            "PluginDirs": ["/opt/cni/bin"], "PluginConfDir": "/etc/cni/net.d", "PluginMaxConfNum": 1, "Prefix": "eth",
            "Networks": [
                {"Config": {"Name": "cni-loopback", "CNIVersion": "0.3.1", "Plugins": [{"Network": {"type": "loopback"}}]}, "IFName": "lo"},
                {"Config": {"Name": "pod", "CNIVersion": version, "Plugins": plugins}, "IFName": "eth0"}
            ]
        })
    }

    #[test]
    fn the_plugin_is_looked_for_where_containerd_lists_loaded_chains() {
        let entry = |plugins: &[&str]| view(&chains("1.0.0", plugins), None).unwrap().has_entry();
        assert!(entry(&["ptp", "railhead"]));
        assert!(!entry(&["ptp", "portmap"]));
        assert!(!view(&json!({"Networks": null}), None).unwrap().has_entry());
        assert_eq!(view(&json!({}), None), None);
        assert_eq!(view(&json!({"Networks": "none"}), None), None);
    }

    #[test]
    fn folders_and_versions_are_those_that_the_runtime_tells() {
        let config = json!({"enableCDI": false, "cdiSpecDirs": ["/etc/cdi", "/var/cdi/dynamic"]});
        let view = view(&chains("0.3.1", &["ptp"]), Some(&config)).unwrap();
        assert_eq!(view.bin_dirs, [Path::new("/opt/cni/bin")]);
        assert_eq!(view.conf_dir.as_deref(), Some(Path::new("/etc/cni/net.d")));
        assert_eq!(view.version_of("pod"), Some("0.3.1"));
        assert_eq!(view.version_of("other"), None);
        let cdi = view.cdi.unwrap();
        assert!(!cdi.enabled && cdi.dirs.contains(&PathBuf::from("/var/cdi/dynamic")));
    }

    #[test]
    fn a_runtime_that_tells_no_cdi_settings_is_told_from_one_that_has_none() {
        assert_eq!(view(&chains("1.0.0", &[]), Some(&json!({}))).unwrap().cdi, None);
        let always_on = view(&chains("1.0.0", &[]), Some(&json!({"cdiSpecDirs": []}))).unwrap();
        assert!(always_on.cdi.unwrap().enabled);
    }
}
