//! Gives back what a plan held that cannot be read any more: a file cut short by a full or broken disk.
//!
//! What the file no longer tells is asked of others. The NetworkAttachment tells whose claim it was, the file's name is the
//! pod's UID, and the functions are those that no readable plan names, that nobody on the host uses and that carry an address
//! of Railhead: restoring one that is somebody else's by now would cut off a service of the host.

use std::sync::Arc;

use kube::{Api, ResourceExt, api::ListParams};
use railhead_crds::{NetworkAttachment, names};
use railhead_host::{FileLock, MacAddress};
use railhead_plan::PodRef;
use railhead_vf::{Host, HostError, VfOriginal, cut_off, restore};

use super::{ReleaseError, index, lock, sandboxes};
use crate::{
    agent::Agent,
    claims::plans::{self, Found},
    inventory::{FoundFunction, FoundPort, is_given},
    limits::FUNCTION_LOCK,
};

/// How the addresses of rails begin (docs/architecture.md, "Slots").
const OURS: u8 = 0x02;

/// Gives back what the damaged plans of a claim hold, and an index that was taken before there was a plan. The index goes
/// last: by it the rest is found again.
pub(super) async fn release(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::all(agent.client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", names::NODE_LABEL, names::node_label(&agent.node)));
    let listed = api.list(&ours).await.map_err(|source| ReleaseError::List {
        node: agent.node.clone(),
        source: Box::new(source),
    })?;
    for attachment in listed {
        let spec = &attachment.spec;
        if spec.node_name != agent.node || spec.claim_uid != claim_uid {
            continue;
        }
        let Some((pod, _)) = index::holder(&attachment) else {
            continue;
        };
        let held = lock(agent, claim_uid).await?;
        match plans::of_pod(&agent.layout, &pod.uid)? {
            Found::Damaged => take_home(agent, &pod).await?,
            // Another claim's of the same pod.
            Found::Plan(_) => continue,
            Found::Nothing => {}
        }
        drop(held);
        index::give_back(agent, &pod.namespace, &attachment.name_any(), &pod.uid).await?;
        agent.attachments_changed.notify_one();
        agent.claims_changed.notify_one();
    }
    Ok(())
}

/// Gives back what the damaged plan of a pod holds that is gone, and whose attachment is gone too, so that its claim is not known.
/// While the plan is there, VFs that pods left are taken back by nobody else.
pub(in crate::claims) async fn of_nobody(agent: &Arc<Agent>, pod_uid: &str) -> Result<(), ReleaseError> {
    let held = lock(agent, pod_uid).await?;
    if plans::of_pod(&agent.layout, pod_uid)? == Found::Damaged {
        let pod = PodRef {
            namespace: String::new(),
            name: String::new(),
            uid: pod_uid.to_owned(),
        };
        take_home(agent, &pod).await?;
        agent.claims_changed.notify_one();
    }
    held.remove();
    Ok(())
}

/// Takes home what the damaged plan of `pod` held, and removes the plan. The caller holds the claim's lock.
pub(in crate::claims) async fn take_home(agent: &Arc<Agent>, pod: &PodRef) -> Result<(), ReleaseError> {
    let path = agent.layout.plan(&pod.uid);
    tracing::warn!(plan = %path.display(), pod = pod.name, "the plan cannot be read; giving back what no other plan names");
    sandboxes::unwire(agent, pod).await?;
    let worker = agent.clone();
    tokio::task::spawn_blocking(move || restore_unplanned(&worker))
        .await
        .map_err(|_| ReleaseError::Panicked)??;
    Ok(plans::remove(&agent.layout, &pod.uid)?)
}

/// Restores every recorded function that is at home, in no plan and left as Railhead programmed it. Without the node's lock, as
/// ports are asked: each under its own lock, under which a Prepare records and programs it.
fn restore_unplanned(agent: &Agent) -> Result<(), ReleaseError> {
    let mut host = agent.host()?;
    let inventory = agent.inventory.borrow().clone();
    for port in inventory.iter().flat_map(|inventory| &inventory.ports) {
        for function in functions_of(port, &host) {
            if is_planned(agent, &function)? {
                continue;
            }
            if !function.usable() {
                if function.home && agent.originals().is_lent(&function.pci_address) {
                    let used = function.use_by_host();
                    tracing::warn!(
                        used,
                        "the host uses a VF that a pod had and nobody gave back; it is left alone"
                    );
                }
                continue;
            }
            // It may be another pod's than the one whose plan this is, and keeps nobody from going. Its note stays, and the ports'
            // loop comes back to it.
            if let Err(error) = restore_left_over(agent, &mut host, port, &function) {
                tracing::warn!(vf = %function.pci_address, %error, "a function that a damaged plan may have named is not given back yet");
            }
        }
    }
    Ok(())
}

/// Whether a plan names the function at this moment.
fn is_planned(agent: &Agent, function: &FoundFunction) -> Result<bool, ReleaseError> {
    Ok(plans::vfs_taken(&plans::all(&agent.layout)?, &agent.boot_id).contains(&function.pci_address))
}

/// Programs of whichever pod had the function may still have it open: which pod that was is not known.
fn restore_left_over(
    agent: &Agent,
    host: &mut Host,
    port: &FoundPort,
    function: &FoundFunction,
) -> Result<(), ReleaseError> {
    let vf = &function.pci_address;
    let path = agent.layout.function_lock(vf.as_str());
    let _lock = FileLock::take(&path, FUNCTION_LOCK).map_err(|source| ReleaseError::Lock {
        claim: vf.to_string(),
        source,
    })?;
    // A pod may have got it since.
    if is_planned(agent, function)? {
        return Ok(());
    }
    let Some(original) = agent.originals().vf(vf)? else {
        return Ok(());
    };
    if is_left_over(agent, host, port, function, &original)? {
        cut_off(host, vf, &port.pci_address, original.driver.as_deref())?;
        restore(host, &original)?;
    }
    Ok(())
}

fn functions_of(port: &FoundPort, host: &Host) -> Vec<FoundFunction> {
    port.as_known(host.sysfs.virtual_functions(&port.pci_address).unwrap_or_default())
}

/// Whether the function is as a pod left it, and nobody has taken it since.
fn is_left_over(
    agent: &Agent,
    host: &mut Host,
    port: &FoundPort,
    function: &FoundFunction,
    original: &VfOriginal,
) -> Result<bool, ReleaseError> {
    let now = agent.originals().observe(
        host,
        &function.pci_address,
        &port.pci_address,
        function.index,
        std::time::Duration::ZERO,
    )?;
    let link = host.vf(&function.pci_address, std::time::Duration::ZERO)?;
    let addresses = host.route.addresses(link.index).map_err(HostError::from)?;
    let left = agent.originals().is_lent(&function.pci_address) || carries_ours(original, &now);
    let used = addresses.iter().any(is_given);
    if left && used {
        tracing::warn!(vf = %function.pci_address, "a VF that a pod had has an address of the host by now; it is left alone");
    }
    Ok(left && !used)
}

/// Whether one of the MAC addresses that the function did not have before is one that Railhead gives.
fn carries_ours(original: &VfOriginal, now: &VfOriginal) -> bool {
    let ours = |mac: Option<MacAddress>, before: Option<MacAddress>| {
        mac != before && mac.is_some_and(|mac| mac.bytes()[0] == OURS)
    };
    ours(now.link.mac, original.link.mac) || ours(now.enforced.mac, original.enforced.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_that_an_administrator_changed_is_not_taken_for_one_that_a_pod_left() {
        let original: VfOriginal = serde_json::from_value(serde_json::json!({
            "version": 1, "bootId": "b", "pciAddress": "0000:18:00.3", "pfPciAddress": "0000:18:00.0", "index": 2,
            "name": "ens1f0v2", "mac": "5e:00:00:00:00:09", "mtu": 1500, "up": false, "altnames": [], "alias": null,
            "enforced": {"mac": "00:00:00:00:00:00", "vlan": null, "minRateMbps": 0, "maxRateMbps": 0,
                "spoofCheck": true, "trust": false},
        }))
        .unwrap();
        let mut administrators = original.clone();
        administrators.enforced.max_rate_mbps = 100;
        administrators.link.mac = Some("5e:00:00:00:00:0a".parse().unwrap());
        assert!(!carries_ours(&original, &administrators));
        let mut pods = original.clone();
        pods.enforced.mac = Some("02:11:00:00:00:05".parse().unwrap());
        assert!(carries_ours(&original, &pods));
    }
}
