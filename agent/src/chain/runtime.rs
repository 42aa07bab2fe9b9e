//! Asks the container runtime which CNI plugins it has loaded (CRI v1, `Status` with `verbose`).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

use super::entry::BINARY;
use crate::proto::cri::{StatusRequest, runtime_service_client::RuntimeServiceClient};

/// How long the runtime may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Key of the CNI configuration in containerd's answer.
const CNI_CONFIG: &str = "cniconfig";

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

/// Whether the runtime has the chain entry loaded.
pub(super) async fn loaded(socket: &Path) -> Result<bool, RuntimeError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_timeout(ANSWER)
        .timeout(ANSWER)
        .connect_with_connector(connector)
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
    status
        .info
        .get(CNI_CONFIG)
        .and_then(|config| names_plugin(config))
        .ok_or_else(|| RuntimeError::NotTold {
            socket: socket.to_owned(),
        })
}

/// Whether our plugin is in a chain of the answer: `Networks[].Config.Plugins[].Network.type`. `None` for no networks at
/// all, which an answer of another shape would be too.
fn names_plugin(config: &str) -> Option<bool> {
    let config: Value = serde_json::from_str(config).ok()?;
    let networks = config.get("Networks")?;
    // No network is loaded yet: null in Go's JSON.
    let Some(networks) = networks.as_array() else {
        return networks.is_null().then_some(false);
    };
    Some(networks.iter().any(|network| {
        network
            .pointer("/Config/Plugins")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|plugin| plugin.pointer("/Network/type").and_then(Value::as_str) == Some(BINARY))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_is_looked_for_where_containerd_lists_loaded_chains() {
        let chain = |kind: &str| {
            format!(
                r#"{{"PluginDirs":["/opt/cni/bin"],"PluginConfDir":"/etc/cni/net.d","PluginMaxConfNum":1,"Prefix":"eth",
                "Networks":[{{"Config":{{"Name":"cni-loopback","Plugins":[{{"Network":{{"type":"loopback"}}}}]}},"IFName":"lo"}},
                {{"Config":{{"Name":"pod","Plugins":[{{"Network":{{"type":"ptp"}}}},{{"Network":{{"type":"{kind}"}}}}]}},"IFName":"eth0"}}]}}"#
            )
        };
        assert_eq!(names_plugin(&chain("railhead")), Some(true));
        assert_eq!(names_plugin(&chain("portmap")), Some(false));
        assert_eq!(names_plugin(r#"{"Networks":null}"#), Some(false));
        assert_eq!(names_plugin("{}"), None);
        assert_eq!(names_plugin("not json"), None);
    }
}
