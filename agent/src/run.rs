//! Puts the agent together and runs it.

use std::sync::Arc;

use kube::Client;
use railhead_crds::names;
use railhead_host::Sysfs;
use railhead_plan::Layout;
use railhead_service::Passes;
use railhead_vf::{KernelPfSide, PfSide};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    agent::{Agent, Phase},
    args::Args,
    attachments,
    chain::{self, Chain, ChainPaths},
    claims::{NodeClaims, Turns, gc, plans, release::lost},
    drift::{self, Drift},
    events::Events,
    http,
    kubelet::{self, Registered, SocketPaths, Sockets},
    metrics::Metrics,
    node,
};

/// How long an answer of the API server may take.
pub use crate::limits::ANSWER;

/// A token that SIGTERM and SIGINT cancel. In a runtime only.
pub fn until_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}

/// What the agent works on.
pub struct Machine {
    /// Folders of the node.
    pub layout: Layout,
    /// How PFs are reached.
    pub pf_side: Arc<dyn PfSide>,
}

impl Machine {
    /// The one that the process runs on.
    pub fn here() -> Self {
        let layout = Layout::default();
        let pf_side = Arc::new(KernelPfSide::new(Sysfs::new(layout.sysfs())));
        Self { layout, pf_side }
    }
}

/// Runs the agent until `stop`. Nothing on the node is cleaned up then: pods stay wired, and the next agent goes on.
pub async fn run(args: Args, machine: Machine, client: Client, stop: CancellationToken) -> anyhow::Result<()> {
    let Machine { layout, pf_side } = machine;
    plans::make_folders(&layout)?;
    if let Err(error) = chain::link_cdi(&layout.cdi(), &args.cdi_dir) {
        // Tried at every pass, and a condition until it holds; the rest of the agent is needed whatever it is.
        tracing::warn!(%error, "it cannot be said where the CDI specs are");
    }
    let paths = ChainPaths {
        source: args.cni_source,
        bin_mount: args.cni_bin_mount.unwrap_or_else(|| args.cni_bin_dir.clone()),
        bin_dir: args.cni_bin_dir,
        cdi_dir: args.cdi_dir,
        cdi_link: layout.cdi(),
        conf_mount: args.cni_conf_mount.unwrap_or_else(|| args.cni_conf_dir.clone()),
        conf_dir: args.cni_conf_dir,
        cri_socket: args.cri_socket,
    };
    let agent = Arc::new(Agent {
        events: Events::new(client.clone(), args.pod_name),
        client,
        boot_id: railhead_host::boot_id(Layout::boot_id())?,
        cni_binary: paths.binary(),
        sockets: SocketPaths::new(&args.kubelet_dir, names::DRIVER, args.pod_uid.as_deref()),
        metrics: Metrics::default(),
        pf_side,
        passes: Passes::default(),
        turns: Turns::default(),
        inventory: watch::Sender::new(None),
        shared: watch::Sender::default(),
        phase: watch::Sender::new(Phase::default()),
        registered: watch::Sender::new(Registered::default()),
        drift: watch::Sender::new(Drift::default()),
        node_changed: Notify::new(),
        claims_changed: Notify::new(),
        attachments_changed: Notify::new(),
        node: args.node_name,
        layout,
    });
    if let Err(error) = agent.originals().forget_earlier_boots() {
        // Each names its boot, and counts for no other.
        tracing::warn!(%error, "a record of an earlier boot could not be removed");
    }
    tracing::info!(node = agent.node, version = env!("CARGO_PKG_VERSION"), "agent");

    let (selection, latest) = watch::channel(node::Selection::default());
    let tasks = TaskTracker::new();
    tasks.spawn(http::serve(agent.clone(), args.http, stop.clone()));
    tasks.spawn(http::serve_probes(agent.clone(), args.health_socket, stop.clone()));
    chain::watch(agent.clone(), paths.clone());
    tasks.spawn(node::run(agent.clone(), latest, Chain::new(paths), stop.clone()));
    tasks.spawn(attachments::run(agent.clone(), stop.clone()));
    tasks.spawn(drift::run(agent.clone(), stop.clone()));
    tasks.spawn(gc::run(agent.clone(), stop.clone()));
    tasks.spawn(lost::run(agent.clone(), stop.clone()));
    tasks.spawn(serve_kubelet(agent.clone(), stop.clone()));
    tokio::select! {
        () = stop.cancelled() => {}
        // Watches end only with the process; when one does not, the agent would go blind.
        () = node::watch_node_network(agent.clone(), selection) => anyhow::bail!("the watch of the NodeNetwork ended"),
        () = node::watch_slices(agent.clone()) => anyhow::bail!("the watch of the ResourceSlice ended"),
    }
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// Serves kubelet from the moment at which the ports are known until everything was given back. An agent that starts while a
/// teardown waits for pods serves too: kubelet ends no pod with a claim without the driver.
async fn serve_kubelet(agent: Arc<Agent>, stop: CancellationToken) {
    let paths = agent.sockets.clone();
    let claims = Arc::new(NodeClaims::new(agent.clone()));
    let mut phase = agent.phase.subscribe();
    loop {
        let serving = phase.wait_for(|phase| matches!(phase, Phase::Serving | Phase::WaitingForPods));
        tokio::select! {
            () = stop.cancelled() => return,
            known = serving => if known.is_err() { return },
        }
        let served = stop.child_token();
        let running = match Sockets::open(paths.clone(), names::DRIVER) {
            Ok(sockets) => sockets.serve(claims.clone(), agent.registered.clone(), served.clone()),
            Err(error) => {
                tracing::error!(%error, "kubelet cannot be served");
                tokio::time::sleep(std::time::Duration::from_secs(5)).await;
                continue;
            }
        };
        tracing::info!(registration = %paths.registration.display(), "waiting for kubelet");
        let end = async {
            let _ = phase.wait_for(|phase| *phase == Phase::TornDown).await;
            served.cancel();
        };
        let (result, ()) = tokio::join!(
            async {
                let result = running.await;
                served.cancel();
                result
            },
            async {
                tokio::select! {
                    () = end => {}
                    () = served.cancelled() => {}
                }
            }
        );
        if let Err(error) = result {
            tracing::error!(%error, "kubelet is no longer served; starting again");
        }
        if *phase.borrow() == Phase::TornDown {
            kubelet::remove_folder(&paths);
        }
        if stop.is_cancelled() {
            return;
        }
    }
}
