//! The container runtime, as far as the agent asks it: its CNI chain and its folders (CRI `Status`).

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use railhead_agent::proto::cri::{
    StatusRequest, StatusResponse,
    runtime_service_server::{RuntimeService, RuntimeServiceServer},
};
use railhead_standin::call::{CHILD, ROOT};
use serde_json::{Value, json};
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

/// Where the runtime finds CNI binaries, below the root.
pub(crate) const CNI_BINARIES: &str = "opt/cni/bin";
/// Where it finds CNI configurations.
pub(crate) const CNI_CONFIGURATIONS: &str = "etc/cni/net.d";
/// Where it finds CDI specs.
pub(crate) const CDI_SPECS: &str = "var/run/cdi";
/// Where it listens.
pub(crate) const SOCKET: &str = "run/containerd/containerd.sock";
/// The version of CNI that it speaks.
pub(crate) const CNI_VERSION: &str = "1.0.0";
/// Name of the cluster's network.
pub(crate) const NETWORK: &str = "pod";
/// The plugin that makes a pod's first interface; nothing runs there.
const FIRST_PLUGIN: &str = "ptp";

/// Makes the runtime's folders, and the cluster network's configuration in them.
pub(crate) fn write_folders(root: &Path) -> Result<()> {
    for folder in [CNI_BINARIES, CNI_CONFIGURATIONS, CDI_SPECS] {
        fs::create_dir_all(root.join(folder))?;
    }
    let list = json!({"cniVersion": CNI_VERSION, "name": NETWORK, "plugins": [{"type": FIRST_PLUGIN}]});
    Ok(fs::write(
        root.join(CNI_CONFIGURATIONS).join("10-pod.conflist"),
        list.to_string(),
    )?)
}

/// The CNI binary that the agent is to install: this program, told where the node's root is.
pub(crate) fn binary(root: &Path, program: &Path) -> Result<PathBuf> {
    let file = root.join("railhead-cni");
    let script = format!(
        "#!/bin/sh\n{ROOT}='{}' exec '{}' {CHILD}\n",
        root.display(),
        program.display()
    );
    fs::write(&file, script)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    Ok(file)
}

/// Whether pods that start now are given to Railhead's binary.
pub(crate) fn has_entry(root: &Path) -> bool {
    root.join(CNI_CONFIGURATIONS)
        .join(NETWORK)
        .join("99-railhead.conf")
        .is_file()
}

/// Answers until `stop`.
pub(crate) fn serve(root: &Path, stop: CancellationToken) -> Result<JoinHandle<Result<(), tonic::transport::Error>>> {
    let socket = root.join(SOCKET);
    fs::create_dir_all(socket.parent().context("the socket has no folder")?)?;
    // What a process before this one left.
    fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).with_context(|| format!("listen on {}", socket.display()))?;
    let service = RuntimeServiceServer::new(Runtime { root: root.to_owned() });
    let stopped = async move { stop.cancelled().await };
    Ok(tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped),
    ))
}

/// It reads its configuration at every question, as containerd does after every change.
struct Runtime {
    root: PathBuf,
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let mut plugins = vec![FIRST_PLUGIN];
        plugins.extend(has_entry(&self.root).then_some("railhead"));
        let plugins: Vec<Value> = plugins.iter().map(|kind| json!({"Network": {"type": kind}})).collect();
        let chains = json!({
            "PluginDirs": [self.root.join(CNI_BINARIES)],
            "PluginConfDir": self.root.join(CNI_CONFIGURATIONS),
            "Networks": [{"Config": {"Name": NETWORK, "CNIVersion": CNI_VERSION, "Plugins": plugins}, "IFName": "eth0"}],
        });
        let config = json!({"enableCDI": true, "cdiSpecDirs": [self.root.join(CDI_SPECS)]});
        let info = [
            ("cniconfig".to_owned(), chains.to_string()),
            ("config".to_owned(), config.to_string()),
        ];
        Ok(Response::new(StatusResponse { info: info.into() }))
    }
}
