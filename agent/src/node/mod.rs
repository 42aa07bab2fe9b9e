//! The node's own loop: looks at the ports, makes functions where it may, keeps the chain entry, publishes, reports. One
//! pass after another, so that nothing of it runs twice at once.

mod status;
mod teardown;
mod watch;

use std::{sync::Arc, time::Duration};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use railhead_crds::{NodeNetwork, NodeNetworkStatus, VfManagement};
use railhead_host::FunctionLock;
use railhead_plan::AttachmentPlan;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

pub use watch::{Selection, watch_node_network, watch_slices};

use crate::{
    agent::{Agent, Phase},
    chain::Chain,
    conditions::Finding,
    functions::Host,
    inventory::{self, Inventory},
    plans,
    publish::{Offer, Publisher},
};

/// Field manager of the status.
const MANAGER: &str = "railhead/agent";
/// How often the ports are looked at when all is well.
const CALM: Duration = Duration::from_secs(15);
/// How often while something is not as it should be: a link comes up within seconds.
const EAGER: Duration = Duration::from_secs(2);

/// How long Prepare, or another agent that makes functions, may hold the node's lock.
const NODE_LOCK: Duration = Duration::from_secs(30);

/// What one look at the ports found.
#[derive(Clone, Debug, Default)]
struct Seen {
    inventory: Inventory,
    plans: Vec<AttachmentPlan>,
    problems: Vec<String>,
}

/// Runs until `stop`. `selections` holds what the API server last said of the node.
pub async fn run(agent: Arc<Agent>, mut selections: Receiver<Selection>, mut chain: Chain, stop: CancellationToken) {
    let mut registered = agent.registered.subscribe();
    let mut publisher = Publisher::default();
    loop {
        let selection = selections.borrow_and_update().clone();
        registered.borrow_and_update();
        let calm = match selection {
            Selection::Unknown => true,
            Selection::None => teardown::leave(&agent, &mut chain).await,
            Selection::Fabric(network) if network.spec.teardown => teardown::pass(&agent, &network, &mut chain).await,
            Selection::Fabric(network) => pass(&agent, &network, &mut chain, &mut publisher).await,
        };
        let pause = if calm { CALM } else { EAGER };
        tokio::select! {
            () = stop.cancelled() => return,
            () = agent.node_changed.notified() => {}
            changed = selections.changed() => if changed.is_err() { return },
            changed = registered.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One pass. Returns whether all is well.
async fn pass(agent: &Arc<Agent>, network: &NodeNetwork, chain: &mut Chain, publisher: &mut Publisher) -> bool {
    let seen = match look(agent, network).await {
        Ok(seen) => seen,
        Err(message) => {
            tracing::error!(error = message, "the node's ports could not be looked at");
            let finding = Finding::no("Ready", "NotReadable", message);
            let status = NodeNetworkStatus::default();
            report(agent, network, status, vec![finding]).await;
            return false;
        }
    };
    let taken = plans::functions_taken(&seen.plans, &agent.boot_id);
    for port in &seen.inventory.ports {
        let used = port
            .functions
            .iter()
            .filter(|function| taken.contains(function.pci_address.as_str()))
            .count();
        agent
            .metrics
            .port(port.rail.id, port.carrier, port.functions.len(), used);
    }
    agent.inventory.send_replace(Some(Arc::new(seen.inventory.clone())));
    let alone = !crate::kubelet::others_serve(&agent.sockets);
    let chained = chain.ensure(alone).await;
    agent.metrics.chain(chain.status().loaded);
    // Only now: kubelet may send claims as soon as it knows the plugin.
    agent.phase.send_replace(Phase::Serving);
    let registered = agent.registered.borrow().accepted;
    let offer = Offer {
        inventory: &seen.inventory,
        taken: &taken,
        chained: chained.holds,
    };
    if registered && let Err(error) = publisher.publish(&agent.client, &agent.node, &offer).await {
        tracing::warn!(%error, "the ports could not be published");
    }
    let mut status = status::ports(&seen.inventory, &taken);
    status.chain = Some(chain.status().clone());
    let ready = status::ready(&seen.inventory, &status, &seen.problems, &chained, registered);
    let calm = ready.holds;
    report(agent, network, status, vec![ready, chained]).await;
    calm
}

/// Looks at the ports; where Railhead manages functions, makes them first.
async fn look(agent: &Arc<Agent>, network: &NodeNetwork) -> Result<Seen, String> {
    let (agent, spec) = (agent.clone(), network.spec.clone());
    let previous = agent.inventory.borrow().clone();
    let looked = tokio::task::spawn_blocking(move || {
        let sysfs = agent.sysfs();
        let observe = || inventory::observe(&sysfs, &spec, previous.as_deref());
        let mut seen = Seen {
            inventory: observe().map_err(|error| error.to_string())?,
            plans: plans::all(&agent.layout).map_err(|error| error.to_string())?,
            problems: Vec::new(),
        };
        if spec.vf_management == VfManagement::Managed {
            // Two agents of a rolling update do not make them twice: the second looks again under the lock.
            let path = agent.layout.node_lock();
            let _lock = FunctionLock::take(&path, NODE_LOCK).map_err(|error| error.to_string())?;
            seen.inventory = observe().map_err(|error| error.to_string())?;
            let mut host = Host::open(agent.sysfs()).map_err(|error| error.to_string())?;
            let originals = agent.originals();
            for port in &seen.inventory.ports {
                let made = inventory::create_functions(&mut host, &originals, port, spec.mtu);
                if let Err(error) = made {
                    tracing::error!(%error, rail = port.rail.name, "a port's functions could not be made");
                    seen.problems.push(error.to_string());
                }
            }
            seen.inventory = observe().map_err(|error| error.to_string())?;
        }
        Ok(seen)
    });
    looked
        .await
        .unwrap_or_else(|_| Err("looking at the node's ports panicked; see the log".to_owned()))
}

/// Writes the status if it differs from the one that the API server has.
async fn report(agent: &Agent, network: &NodeNetwork, mut status: NodeNetworkStatus, findings: Vec<Finding>) {
    let previous = network.status.clone().unwrap_or_default();
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
