//! Chooses a free VF per rail and writes the plan that names them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use railhead_crds::{NetworkSlice, TrainingNetworkSpec};
use railhead_host::{FileLock, LockError, PciAddress};
use railhead_plan::AttachmentPlan;
use railhead_planner::attachment::{self, ClaimOfPod, VfChoice};
use railhead_vf::{Host, HostError};
use tokio::time::Instant;

use super::{PrepareError, entitled::Entitled};
use crate::{
    agent::Agent,
    claims::plans,
    inventory::{FoundFunction, FoundPort, Inventory, is_given},
};

/// Chooses VFs and writes the plan that names them. Two agents of a rolling update, or two claims at once, never get the same
/// one: plans are written under the node's lock, and only of VFs that no plan names then.
///
/// In between the VFs are looked at and their original states recorded, under their own locks: a driver may ask its firmware for
/// every VF of the port, and the pods of a job that starts come to a node together. Those who choose meanwhile pass over VFs
/// whose lock is held.
pub(super) async fn choose(
    agent: &Arc<Agent>,
    entitled: &Entitled,
    index: u32,
    deadline: Instant,
) -> Result<AttachmentPlan, PrepareError> {
    let inventory = agent.inventory.borrow().clone();
    let inventory = inventory.ok_or_else(|| PrepareError::NoInventory {
        node: agent.node.clone(),
    })?;
    check_fabric(&agent.node, &inventory.fabric, &entitled.slice.spec.fabric.name)?;
    let chooser = Chooser {
        agent: agent.clone(),
        inventory,
        slice: entitled.slice.clone(),
        pod: entitled.pod.clone(),
        network: entitled.network.spec.clone(),
        claim: entitled.claim.clone(),
        index,
        deadline,
    };
    // VFs that a plan which cannot be read may have.
    let mut doubtful = BTreeSet::new();
    loop {
        let (worker, passed_over) = (chooser.clone(), doubtful.clone());
        let chosen = tokio::task::spawn_blocking(move || worker.propose(&passed_over))
            .await
            .map_err(|_| PrepareError::Panicked)??;
        let recording: Vec<_> = chosen
            .into_iter()
            .map(|(choice, lock)| {
                let agent = agent.clone();
                tokio::task::spawn_blocking(move || record(&agent, choice, lock))
            })
            .collect();
        let mut choices = Vec::new();
        let mut failed = None;
        let known = doubtful.len();
        for task in recording {
            match task.await.map_err(|_| PrepareError::Panicked) {
                Ok(Ok(Recorded::Free(choice))) => choices.push(choice),
                Ok(Ok(Recorded::Doubtful(vf))) => {
                    doubtful.insert(vf);
                }
                Ok(Err(error)) | Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if doubtful.len() > known {
            continue;
        }
        let worker = chooser.clone();
        let planned = tokio::task::spawn_blocking(move || worker.plan(&choices))
            .await
            .map_err(|_| PrepareError::Panicked)??;
        if let Some(plan) = planned {
            return Ok(plan);
        }
    }
}

/// What a look at a VF gave.
enum Recorded {
    /// It is nobody's, and how it is has been recorded.
    Free(VfChoice),
    /// A plan that cannot be read may have it.
    Doubtful(PciAddress),
}

/// Records how a VF is, which nobody else has while `_lock` is held.
fn record(agent: &Agent, choice: VfChoice, _lock: FileLock) -> Result<Recorded, PrepareError> {
    let mut host = agent.host()?;
    if plans::any_damaged(&agent.layout)? && is_changed(agent, &mut host, &choice)? {
        return Ok(Recorded::Doubtful(choice.vf_pci));
    }
    agent.originals().record_vf(
        &mut host,
        &choice.vf_pci,
        &choice.pf_pci,
        choice.vf_index,
        Duration::from_secs(2),
    )?;
    Ok(Recorded::Free(choice))
}

/// What VFs are chosen for.
#[derive(Clone)]
struct Chooser {
    agent: Arc<Agent>,
    inventory: Arc<Inventory>,
    slice: NetworkSlice,
    pod: Pod,
    network: TrainingNetworkSpec,
    claim: ClaimOfPod,
    index: u32,
    deadline: Instant,
}

impl Chooser {
    /// Takes the node's lock and finds out which VFs are taken.
    fn lock_node(&self) -> Result<(FileLock, BTreeSet<PciAddress>), PrepareError> {
        let agent = &self.agent;
        let patience = self.deadline.saturating_duration_since(Instant::now());
        let lock = FileLock::take(&agent.layout.node_lock(), patience).map_err(PrepareError::Lock)?;
        // Under the lock under which a teardown gives the ports back: it may have begun since this Prepare did.
        if agent.phase.borrow().is_teardown() {
            return Err(PrepareError::TearingDown {
                node: agent.node.clone(),
            });
        }
        let plans = plans::all(&agent.layout)?;
        let pod_uid = self.pod.metadata.uid.as_deref();
        refuse_second_claim(&plans, &agent.boot_id, pod_uid, &self.claim.uid)?;
        Ok((lock, plans::vfs_taken(&plans, &agent.boot_id)))
    }

    /// A free VF for every rail, none of them `doubtful`, each with its lock.
    fn propose(&self, doubtful: &BTreeSet<PciAddress>) -> Result<Vec<(VfChoice, FileLock)>, PrepareError> {
        let agent = &self.agent;
        plans::make_folders(&agent.layout)?;
        let (_lock, mut taken) = self.lock_node()?;
        let mut host = agent.host()?;
        let mut chosen = Vec::new();
        for rail in &self.slice.spec.rails {
            let port = port(agent, &self.inventory, rail.id, &rail.name)?;
            let (function, lock) = free(agent, &mut host, port, &taken, doubtful)?;
            taken.insert(function.pci_address.clone());
            let choice = VfChoice {
                rail: rail.id,
                vf_pci: function.pci_address,
                pf_pci: port.pci_address.clone(),
                vf_index: function.index,
                rdma_device: function.rdma_device,
                // Tried when it is programmed: drivers do not say it beforehand.
                min_rate: true,
            };
            chosen.push((choice, lock));
        }
        Ok(chosen)
    }

    /// Writes the plan, unless somebody else has planned with one of the VFs since they were proposed.
    fn plan(&self, choices: &[VfChoice]) -> Result<Option<AttachmentPlan>, PrepareError> {
        let agent = &self.agent;
        let (_lock, taken) = self.lock_node()?;
        if choices.iter().any(|choice| taken.contains(&choice.vf_pci)) {
            return Ok(None);
        }
        let plan = attachment::plan(
            &self.slice,
            &self.pod,
            &self.claim,
            &self.network,
            self.index,
            &agent.boot_id,
            choices,
        )?;
        plans::write(&agent.layout, &plan)?;
        Ok(Some(plan))
    }
}

/// Rails have the same numbers in every fabric, and a claim that was written by hand may ask for any port. On another fabric
/// the network's VLAN and addresses belong to others.
fn check_fabric(node: &str, found: &str, wanted: &str) -> Result<(), PrepareError> {
    if found == wanted {
        return Ok(());
    }
    Err(PrepareError::OtherFabric {
        node: node.to_owned(),
        found: found.to_owned(),
        wanted: wanted.to_owned(),
    })
}

/// A pod has one plan, and so one claim: a plan for a second one would replace the first, whose functions nobody would then
/// give back. One of an earlier boot holds nothing.
fn refuse_second_claim(
    plans: &[AttachmentPlan],
    boot_id: &str,
    pod_uid: Option<&str>,
    claim_uid: &str,
) -> Result<(), PrepareError> {
    let other = plans
        .iter()
        .find(|plan| plan.boot_id == boot_id && Some(plan.pod.uid.as_str()) == pod_uid && plan.claim_uid != claim_uid);
    match other {
        None => Ok(()),
        Some(plan) => Err(PrepareError::SecondClaim {
            namespace: plan.pod.namespace.clone(),
            name: plan.pod.name.clone(),
            claim: plan.claim_uid.clone(),
        }),
    }
}

fn port<'a>(agent: &Agent, inventory: &'a Inventory, rail: u32, name: &str) -> Result<&'a FoundPort, PrepareError> {
    inventory.port(rail).ok_or_else(|| PrepareError::NoPort {
        node: agent.node.clone(),
        rail: name.to_owned(),
    })
}

/// A VF of the port that no plan names, that is in the host's namespace now and that nobody uses there, with its lock.
fn free(
    agent: &Agent,
    host: &mut Host,
    port: &FoundPort,
    taken: &BTreeSet<PciAddress>,
    doubtful: &BTreeSet<PciAddress>,
) -> Result<(FoundFunction, FileLock), PrepareError> {
    let functions = host
        .sysfs
        .virtual_functions(&port.pci_address)
        .map_err(PrepareError::Sysfs)?;
    let functions = port.as_known(functions);
    let originals = agent.originals();
    let mut candidates: Vec<_> = candidates(&functions, taken).collect();
    // One that nobody gave back has to be given back first, and that may fail.
    candidates.sort_by_key(|function| originals.is_lent(&function.pci_address));
    for function in candidates {
        if doubtful.contains(&function.pci_address) || has_addresses(host, function)? {
            continue;
        }
        let path = agent.layout.function_lock(function.pci_address.as_str());
        match FileLock::take(&path, Duration::ZERO) {
            Ok(lock) => return Ok((function.clone(), lock)),
            // Somebody else is about to plan with it.
            Err(LockError::Held { .. }) => {}
            Err(error) => return Err(PrepareError::Lock(error)),
        }
    }
    let count = |of: &dyn Fn(&&FoundFunction) -> bool| functions.iter().filter(of).count();
    let planned = count(&|function| taken.contains(&function.pci_address));
    let away = count(&|function| !function.home && !taken.contains(&function.pci_address));
    let doubted = count(&|function| doubtful.contains(&function.pci_address));
    let used = (functions.len() - planned - away).saturating_sub(doubted);
    let unreadable = match doubted {
        0 => String::new(),
        some => format!(
            ", {some} perhaps by pods whose plans in {} cannot be read",
            agent.layout.plans().display()
        ),
    };
    Err(PrepareError::NoFreeFunction {
        rail: port.rail.name.clone(),
        port: port.pci_address.to_string(),
        total: functions.len(),
        busy: format!(
            "{planned} held by pods, {away} without interface on the host, {used} used by the host{unreadable}"
        ),
        node: agent.node.clone(),
    })
}

fn candidates<'a>(
    functions: &'a [FoundFunction],
    taken: &'a BTreeSet<PciAddress>,
) -> impl Iterator<Item = &'a FoundFunction> {
    functions
        .iter()
        .filter(|function| function.usable() && !taken.contains(&function.pci_address))
}

/// Whether a host service has given the function's interface an address since the node's loop looked.
fn has_addresses(host: &mut Host, function: &FoundFunction) -> Result<bool, PrepareError> {
    let Some(link) = host
        .route
        .function_link(&host.sysfs, &function.pci_address)
        .map_err(HostError::from)?
    else {
        return Ok(true);
    };
    let addresses = host.route.addresses(link.index).map_err(HostError::from)?;
    Ok(addresses.iter().any(is_given))
}

/// Whether the function is not as it was recorded. While a plan cannot be read, that may be because the plan's pod has it:
/// its sandbox may just be made again.
fn is_changed(agent: &Agent, host: &mut Host, choice: &VfChoice) -> Result<bool, PrepareError> {
    let Some(known) = agent.originals().vf(&choice.vf_pci)? else {
        return Ok(false);
    };
    let now = agent
        .originals()
        .observe(host, &choice.vf_pci, &choice.pf_pci, choice.vf_index, Duration::ZERO)?;
    Ok(now.differs_from(&known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(address: &str, home: bool, uppers: &[&str]) -> FoundFunction {
        FoundFunction {
            addresses: Vec::new(),
            foreign: None,
            programs: 0,
            driver: None,
            pci_address: address.parse().unwrap(),
            index: 0,
            home,
            rdma_device: None,
            uppers: uppers.iter().map(|&upper| upper.to_owned()).collect(),
        }
    }

    #[test]
    fn a_free_function_is_at_home_under_nothing_and_in_no_plan() {
        let functions = [
            function("0000:01:10.0", false, &[]),
            function("0000:01:10.2", true, &[]),
            function("0000:01:10.4", true, &["bond0"]),
            function("0000:01:10.6", true, &[]),
        ];
        let taken = BTreeSet::from(["0000:01:10.2".parse().unwrap()]);
        let free: Vec<&str> = candidates(&functions, &taken).map(|f| f.pci_address.as_str()).collect();
        assert_eq!(free, ["0000:01:10.6"]);
    }

    #[test]
    fn a_network_is_not_wired_to_the_ports_of_another_fabric() {
        assert!(check_fabric("gpu-1", "backend", "backend").is_ok());
        let error = check_fabric("gpu-1", "storage", "backend").unwrap_err();
        assert_eq!(error.reason(), "ClaimRefused");
        assert!(error.to_string().contains("storage"), "{error}");
    }

    #[test]
    fn a_pod_cannot_have_functions_by_two_claims() {
        let plans = [plans::tests::plan("u", "b", ["0000:01:10.0", "0000:02:10.0"])];
        let refused = |boot, pod, claim| refuse_second_claim(&plans, boot, Some(pod), claim).is_err();
        assert!(refused("b", "u", "another"));
        assert!(!refused("b", "u", "claim-u"), "the same claim once more");
        assert!(!refused("b", "v", "another"), "another pod");
        assert!(!refused("b2", "u", "another"), "before the last boot");
    }
}
