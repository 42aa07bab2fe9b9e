//! Command line and environment. Every flag has an environment variable, so that the DaemonSet needs no arguments.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use railhead_service::LogArgs;

/// The node agent of Railhead.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// What to do; the agent runs when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Logs.
    #[command(flatten)]
    pub log: LogArgs,

    /// Name of the node that the agent runs on (downward API: spec.nodeName).
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,

    /// UID of the agent's pod (downward API: metadata.uid). Two agents of a rolling update then have sockets of their own.
    #[arg(long, env = "POD_UID")]
    pub pod_uid: Option<String>,

    /// Name of the agent's pod, shown as the reporting instance of events.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// The CNI binary to install, a path inside the agent's image.
    #[arg(long, env = "RAILHEAD_CNI_SOURCE", default_value = "/railhead")]
    pub cni_source: PathBuf,

    /// Where the container runtime looks for CNI binaries.
    #[arg(long, env = "RAILHEAD_CNI_BIN_DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,

    /// The folder of the node that is mounted and holds the former; that folder itself when nothing is said. With the parent
    /// mounted, a symlink that the folder is may move.
    #[arg(long, env = "RAILHEAD_CNI_BIN_MOUNT")]
    pub cni_bin_mount: Option<PathBuf>,

    /// Where the container runtime looks for CDI specs.
    #[arg(long, env = "RAILHEAD_CDI_DIR", default_value = "/var/run/cdi")]
    pub cdi_dir: PathBuf,

    /// Where the container runtime looks for CNI configurations.
    #[arg(long, env = "RAILHEAD_CNI_CONF_DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,

    /// The folder of the node that is mounted and holds the former; that folder itself when nothing is said.
    #[arg(long, env = "RAILHEAD_CNI_CONF_MOUNT")]
    pub cni_conf_mount: Option<PathBuf>,

    /// Socket of the container runtime (CRI v1), asked whether it has loaded the chain entry.
    #[arg(long, env = "RAILHEAD_CRI_SOCKET", default_value = "/run/containerd/containerd.sock")]
    pub cri_socket: PathBuf,

    /// kubelet's root folder.
    #[arg(long, env = "RAILHEAD_KUBELET_DIR", default_value = "/var/lib/kubelet")]
    pub kubelet_dir: PathBuf,

    /// Address of /metrics, /healthz and /readyz.
    #[arg(long, env = "RAILHEAD_HTTP", default_value = "0.0.0.0:9809")]
    pub http: SocketAddr,

    /// Unix socket with the same pages, for probes: on the node's network another agent might answer.
    #[arg(
        long,
        env = "RAILHEAD_HEALTH_SOCKET",
        default_value = "/run/railhead-agent/health.sock"
    )]
    pub health_socket: PathBuf,
}

/// What else the binary can do.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Asks the agent of the same pod how it is; exit code 0 is good. For the pod's probes.
    Probe {
        /// What to ask for.
        question: Question,
    },
}

/// What a probe asks for.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Question {
    /// Whether the agent answers at all.
    Live,
    /// Whether kubelet can use it, or there is nothing to use it for.
    Ready,
}
