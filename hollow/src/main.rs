//! `hollow-node`: a node that has no machine. The agent and the CNI binary are the real ones; ports are veth pairs and files, and
//! what kubelet and the container runtime do around them is played as far as Railhead notices it.
//!
//! It is one process with a network namespace of its own, which stands for the node's. Pods are namespaces in which nothing runs.

mod kubelet;
mod ports;
mod relay;
mod runtime;
mod sandbox;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, value_parser};
use kube::{Client, Config, config::Kubeconfig};
use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use railhead_agent::{
    args::Args,
    run::{self, Machine},
};
use railhead_service::LogArgs;
use railhead_standin::{call, pf::PfFiles};

use self::{kubelet::Kubelet, ports::Ports};

/// How long the API server may take to answer the part that stands for kubelet.
const ANSWER: Duration = Duration::from_secs(20);

/// A node without a machine. Needs root.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    log: LogArgs,
    /// Name of the Node, which is there already.
    #[arg(long)]
    node: String,
    /// Who the agent is: a kubeconfig with a token that is bound to a pod on the node.
    #[arg(long)]
    agent_kubeconfig: PathBuf,
    /// Who kubelet is.
    #[arg(long)]
    kubelet_kubeconfig: PathBuf,
    /// The folder that stands for `/`; it outlives the process, as a node's disk does. It is made where it is missing.
    #[arg(long)]
    root: PathBuf,
    /// Ports, rail 0 first; `0000:10:00.0` is the first one's PCI address.
    #[arg(long, default_value_t = 2, value_parser = value_parser!(u32).range(1..=8))]
    rails: u32,
    /// VFs of each port.
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u32).range(1..=128))]
    vfs: u32,
    /// Speed of each port, Mbit/s.
    #[arg(long, default_value_t = 1000)]
    speed: u32,
    /// Ends when the thread that started it does, however that ends.
    #[arg(long)]
    with_parent: bool,
}

fn main() -> ExitCode {
    // As the CNI binary, the program has no arguments of its own.
    if std::env::args().nth(1).is_some_and(|first| first == call::CHILD) {
        return match call::child() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => told(&error),
        };
    }
    match node(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => told(&error),
    }
}

fn told(error: &anyhow::Error) -> ExitCode {
    eprintln!("hollow-node: {error:#}");
    ExitCode::FAILURE
}

fn node(arguments: &Arguments) -> Result<()> {
    arguments.log.start()?;
    if arguments.with_parent {
        set_pdeathsig(Signal::SIGKILL).context("ask to end with the parent")?;
    }
    let agent = kubeconfig(&arguments.agent_kubeconfig)?;
    // Before any other thread is there: they are all to be in the new namespace.
    relay::leave_for_own_namespace(server(&agent)?)?;
    let ports = Ports::new(&arguments.root, arguments.rails, arguments.vfs, arguments.speed)?;
    runtime::write_folders(&arguments.root)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(serve(arguments, ports, agent))
}

async fn serve(arguments: &Arguments, ports: Ports, agent: Kubeconfig) -> Result<()> {
    let stop = run::until_signal()?;
    let root = &arguments.root;
    let runtime = runtime::serve(root, stop.clone())?;
    let machine = Machine {
        layout: ports.layout(),
        pf_side: Arc::new(PfFiles::below(root)),
    };
    let client = client(agent, run::ANSWER).await?;
    let agent = run::run(agent_arguments(arguments)?, machine, client, stop.clone());
    let client = client_of(&arguments.kubelet_kubeconfig).await?;
    let kubelet = Kubelet::new(&arguments.node, root, client).run(stop.clone());
    let ended = tokio::try_join!(agent, kubelet, async { Ok(runtime.await??) });
    stop.cancel();
    ended.map(|_| ())
}

/// The agent's arguments: its defaults, below the root.
fn agent_arguments(arguments: &Arguments) -> Result<Args> {
    let root = &arguments.root;
    let binary = runtime::binary(root, std::env::current_exe()?.as_path())?;
    let below = |path: &str| root.join(path).into_os_string();
    let words = [
        ("--node-name", arguments.node.clone().into()),
        ("--pod-name", format!("agent-of-{}", arguments.node).into()),
        ("--cni-source", binary.into_os_string()),
        ("--cni-bin-dir", below(runtime::CNI_BINARIES)),
        ("--cni-conf-dir", below(runtime::CNI_CONFIGURATIONS)),
        ("--cdi-dir", below(runtime::CDI_SPECS)),
        ("--cri-socket", below(runtime::SOCKET)),
        ("--kubelet-dir", below(kubelet::FOLDER)),
        ("--health-socket", below("run/railhead-agent/health.sock")),
    ];
    let words = words.into_iter().flat_map(|(name, value)| [name.into(), value]);
    Ok(Args::try_parse_from(
        std::iter::once("railhead-agent".into()).chain(words),
    )?)
}

fn kubeconfig(file: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(file).with_context(|| format!("read {}", file.display()))
}

async fn client_of(file: &Path) -> Result<Client> {
    client(kubeconfig(file)?, ANSWER).await
}

async fn client(kubeconfig: Kubeconfig, answer: Duration) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await?;
    Ok(railhead_service::client::with_config(config, answer)?)
}

/// Where the API server listens.
fn server(config: &Kubeconfig) -> Result<SocketAddr> {
    let cluster = config.clusters.first().and_then(|named| named.cluster.as_ref());
    let url = cluster
        .and_then(|cluster| cluster.server.as_deref())
        .context("the kubeconfig names no server")?;
    let address = url.trim_start_matches("https://").trim_end_matches('/');
    let address = address.replace("localhost", &Ipv4Addr::LOCALHOST.to_string());
    address
        .parse()
        .with_context(|| format!("{url} is no https://<address>:<port>"))
}
