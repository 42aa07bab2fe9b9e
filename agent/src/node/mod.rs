//! The node's own loop: looks at the ports, makes functions where it may, keeps the chain entry, publishes, reports. One
//! pass after another, so that nothing of it runs twice at once.

mod give_back;
mod holdings;
mod left_over;
mod status;
mod teardown;
mod watch;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{api::core::v1::ObjectReference, jiff::Timestamp};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use railhead_crds::{NodeHolding, NodeNetwork, NodeNetworkSpec, NodeNetworkStatus, VfManagement, reasons::Reason};
use railhead_host::{FileLock, NetlinkError};
use railhead_plan::AttachmentPlan;
use railhead_vf::HostError;
use thiserror::Error;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

pub use left_over::take_back;
use teardown::Teardown;
pub use watch::{Selection, watch_node_network, watch_slices};

use crate::{
    agent::{Agent, Phase},
    chain::{Chain, Look},
    claims::plans::{self, PlansError},
    conditions::Finding,
    inventory::{self, ForeignVfs, Inventory, ObserveError},
    limits::PORTS_PASS,
    publish::{Offer, Publisher},
};

/// Field manager of the status.
const MANAGER: &str = "railhead/agent";
/// How often the ports are looked at when all is well.
const CALM: Duration = Duration::from_secs(15);
/// How long after a claim was prepared or given back: the pod's ADD comes right behind, or its next pod's Prepare, and what is
/// looked at here would take the processor and the API server from them. Pods that start together are one look.
const SETTLE: Duration = Duration::from_secs(2);
/// How often while something is not as it should be: a link comes up within seconds.
const EAGER: Duration = Duration::from_secs(2);
/// For how many passes. What has not come right by then wants a person, and every pass costs the API server a request.
const PATIENCE: u32 = 60;

/// How long Prepare, or another agent that makes functions, may hold the node's lock.
const NODE_LOCK: Duration = Duration::from_secs(30);

/// What one look at the ports found.
#[derive(Clone, Debug, Default)]
struct Seen {
    inventory: Inventory,
    plans: Vec<AttachmentPlan>,
    problems: Vec<String>,
}

/// What is known from one pass to the next.
#[derive(Debug)]
struct Known {
    publisher: Publisher,
    /// What device plugins serve, as kubelet last said.
    foreign: ForeignVfs,
    /// Whether kubelet said so the last time it was asked.
    asked: bool,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            publisher: Publisher::default(),
            foreign: ForeignVfs::default(),
            asked: true,
        }
    }
}

/// Why the ports could not be looked at.
#[derive(Debug, Error)]
enum LookError {
    #[error("take the node's lock: {0}")]
    Lock(#[from] railhead_host::LockError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error("look for addresses of functions: {0}")]
    Addresses(#[from] NetlinkError),
    #[error(transparent)]
    Plans(#[from] PlansError),
}

/// Runs until `stop`. `selections` holds what the API server last said of the node.
pub async fn run(agent: Arc<Agent>, mut selections: Receiver<Selection>, mut chain: Chain, stop: CancellationToken) {
    let round = agent.passes.begin("ports", PORTS_PASS);
    let mut registered = agent.registered.subscribe();
    let mut known = Known::default();
    let mut teardown = Teardown::default();
    // How many passes in a row did not find everything as it should be.
    let mut restless = 0;
    loop {
        let selection = selections.borrow_and_update().clone();
        registered.borrow_and_update();
        let calm = match selection {
            Selection::Unknown => true,
            Selection::None => teardown.leave(&agent, &mut chain).await,
            Selection::Fabric(network) if network.spec.teardown => teardown.pass(&agent, &network, &mut chain).await,
            Selection::Fabric(network) => pass(&agent, &network, &mut chain, &mut known).await,
        };
        round.done();
        restless = if calm { 0 } else { restless + 1 };
        let pause = if calm || restless > PATIENCE { CALM } else { EAGER };
        tokio::select! {
            () = stop.cancelled() => return,
            () = agent.node_changed.notified() => {}
            () = claims_settled(&agent) => {}
            changed = selections.changed() => if changed.is_err() { return },
            changed = registered.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Returns a while after a claim has changed, or when there is other news.
async fn claims_settled(agent: &Agent) {
    agent.claims_changed.notified().await;
    tokio::time::sleep(SETTLE).await;
}

/// One pass. Returns whether all is well.
async fn pass(agent: &Arc<Agent>, network: &NodeNetwork, chain: &mut Chain, known: &mut Known) -> bool {
    // First, whatever the ports are like: an entry that the runtime cannot carry out harms every pod of the node.
    let alone = !crate::kubelet::others_serve(&agent.sockets);
    let Look {
        chain: chained,
        cdi,
        news,
    } = chain.ensure(alone).await;
    if let Some((reason, what)) = news {
        agent.events.on(&reference(network), reason, what);
    }
    agent.metrics.chain(chain.status().loaded);
    match crate::kubelet::plugin_devices(&agent.sockets.pod_resources).await {
        Ok(foreign) => (known.foreign, known.asked) = (foreign, true),
        // What it said before is likelier than nothing. Said once: kubelet may be away for long.
        Err(error) if std::mem::take(&mut known.asked) => {
            tracing::warn!(%error, "it is not known which ports device plugins serve");
        }
        Err(_) => {}
    }
    let seen = match look(agent, network, known.foreign.clone()).await {
        Ok(seen) => seen,
        Err(message) => {
            tracing::error!(error = message, "the node's ports could not be looked at");
            let finding = Finding::no("Ready", Reason::NotReadable, message);
            let status = NodeNetworkStatus {
                chain: Some(chain.status().clone()),
                ..NodeNetworkStatus::default()
            };
            // The plans tell what pods hold, whatever the ports are like.
            report(
                agent,
                network,
                status,
                vec![finding, chained, cdi],
                holdings::held(agent, network),
            )
            .await;
            return false;
        }
    };
    let taken = plans::vfs_taken(&seen.plans, &agent.boot_id);
    for port in &seen.inventory.ports {
        let used = port
            .functions
            .iter()
            .filter(|function| taken.contains(&function.pci_address))
            .count();
        agent
            .metrics
            .port(port.rail.id, port.carrier, port.functions.len(), used);
    }
    agent.inventory.send_replace(Some(Arc::new(seen.inventory.clone())));
    // Only now: kubelet may send claims as soon as it knows the plugin.
    agent.phase.send_replace(Phase::Serving);
    let registered = agent.registered.borrow().accepted;
    let offer = Offer {
        inventory: &seen.inventory,
        taken: &taken,
        chained: chained.holds,
        cdi: cdi.holds,
    };
    if registered && let Err(error) = known.publisher.publish(&agent.client, &agent.node, &offer).await {
        tracing::warn!(%error, "the ports could not be published");
    }
    let mut status = status::ports(&seen.inventory, &taken);
    status.chain = Some(chain.status().clone());
    let ready = status::ready(&seen.inventory, &status, &seen.problems, [&chained, &cdi], registered);
    let calm = ready.holds;
    let mut findings = vec![ready, chained, cdi];
    findings.extend(status::rdma(seen.inventory.rdma));
    report(agent, network, status, findings, holdings::held(agent, network)).await;
    calm
}

/// Looks at the ports; where Railhead manages functions, makes them first.
async fn look(agent: &Arc<Agent>, network: &NodeNetwork, foreign: ForeignVfs) -> Result<Seen, String> {
    let (agent, spec) = (agent.clone(), network.spec.clone());
    let looked = tokio::task::spawn_blocking(move || {
        take_back(&agent);
        look_under_lock(&agent, &spec, &foreign).map_err(|error| error.to_string())
    });
    looked
        .await
        .unwrap_or_else(|_| Err("looking at the node's ports panicked; see the log".to_owned()))
}

/// Two agents of a rolling update do not make functions twice: the second looks again under the lock.
fn look_under_lock(agent: &Agent, spec: &NodeNetworkSpec, foreign: &ForeignVfs) -> Result<Seen, LookError> {
    let _lock = FileLock::take(&agent.layout.node_lock(), NODE_LOCK)?;
    let originals = agent.originals();
    let mut host = agent.host()?;
    let plans = plans::all(&agent.layout)?;
    let taken = plans::vfs_taken(&plans, &agent.boot_id);
    let previous = agent.inventory.borrow().clone();
    let mut problems = Vec::new();
    if spec.vf_management == VfManagement::Managed {
        for port in &inventory::observe(&host.sysfs, spec, previous.as_deref())?.ports {
            if let Err(error) = inventory::create_functions(&mut host, &originals, port, spec.mtu) {
                tracing::error!(%error, rail = port.rail.name, "a port's functions could not be made");
                problems.push(error.to_string());
            }
            inventory::probe_driverless(&host, port, &taken);
        }
    }
    let mut inventory = inventory::observe(&host.sysfs, spec, previous.as_deref())?;
    inventory::mark_addressed(&mut host.route, &mut inventory)?;
    inventory::mark_foreign(foreign, &mut inventory);
    inventory::mark_modes(&mut inventory);
    inventory::mark_programs(&mut inventory, &taken);
    Ok(Seen {
        inventory,
        plans,
        problems,
    })
}

/// What events about the whole node name.
fn reference(network: &NodeNetwork) -> ObjectReference {
    network.object_ref(&())
}

/// Writes the status if it differs from the one that the API server has. Where nobody can tell what pods hold, what was said of
/// that stays, and nothing is answered.
async fn report(
    agent: &Agent,
    network: &NodeNetwork,
    mut status: NodeNetworkStatus,
    findings: Vec<Finding>,
    held: Option<Vec<NodeHolding>>,
) {
    let previous = network.status.clone().unwrap_or_default();
    (status.networks, status.recount) = match held {
        Some(held) => (held, network.spec.recount.clone()),
        None => (previous.networks.clone(), previous.recount.clone()),
    };
    status.observed_generation = network.metadata.generation;
    status.conditions = crate::conditions::merge(
        &previous.conditions,
        findings,
        network.metadata.generation,
        Timestamp::now(),
    );
    if status == previous {
        return;
    }
    let api: Api<NodeNetwork> = Api::all(agent.client.clone());
    let patch = serde_json::json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "NodeNetwork",
        "metadata": { "name": agent.node },
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match api.patch_status(&agent.node, &params, &Patch::Apply(patch)).await {
        Ok(_) => {}
        // The fabric no longer selects the node.
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => tracing::warn!(%error, "the status of the NodeNetwork could not be written"),
    }
}
