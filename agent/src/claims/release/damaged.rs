//! Gives back what a plan held that cannot be read any more: a file cut short by a full or broken disk.
//!
//! What the file no longer tells is asked of others. The NetworkAttachment tells whose claim it was, the file's name is the
//! pod's UID, and the functions are those that no readable plan names: restoring one that nobody touched changes nothing.

use std::{path::Path, sync::Arc};

use kube::{Api, ResourceExt, api::ListParams};
use railhead_crds::{NetworkAttachment, names};
use railhead_host::{FunctionLock, PciAddress};
use railhead_plan::{AttachmentPlan, PodRef};
use railhead_vf::{Host, restore};

use super::{ReleaseError, index, sandboxes};
use crate::{agent::Agent, claims::plans, limits::NODE_LOCK};

/// Gives back what the damaged plans of a claim hold, if there are any. The caller holds the claim's lock and knows that no
/// readable plan is the claim's. The index goes last: by it the rest is found again.
pub(super) async fn release(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    let api: Api<NetworkAttachment> = Api::all(agent.client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", names::NODE_LABEL, names::node_label(&agent.node)));
    let listed = api.list(&ours).await.map_err(|source| ReleaseError::List {
        node: agent.node.clone(),
        source: Box::new(source),
    })?;
    for attachment in listed {
        let spec = &attachment.spec;
        let path = agent.layout.plan(&spec.pod_uid);
        if spec.node_name != agent.node || spec.claim_uid != claim_uid || !unreadable(&path) {
            continue;
        }
        let pod = PodRef {
            namespace: attachment.namespace().unwrap_or_default(),
            name: spec.pod_name.clone(),
            uid: spec.pod_uid.clone(),
        };
        tracing::warn!(plan = %path.display(), pod = pod.name, "the plan cannot be read; giving back what no other plan names");
        sandboxes::unwire(agent, &pod).await?;
        let worker = agent.clone();
        tokio::task::spawn_blocking(move || restore_unplanned(&worker))
            .await
            .map_err(|_| ReleaseError::Panicked)??;
        plans::remove(&agent.layout, &pod.uid)?;
        index::give_back(&agent.client, &pod.namespace, &attachment.name_any(), &pod.uid).await?;
        agent.attachments_changed.notify_one();
        agent.node_changed.notify_one();
    }
    Ok(())
}

/// Whether there is a plan that this release cannot read. A readable one is another claim's of the same pod, and stays.
fn unreadable(path: &Path) -> bool {
    match railhead_host::read_state_file(path) {
        Ok(bytes) => AttachmentPlan::parse(&bytes).is_err(),
        Err(error) => error.is_foreign(),
    }
}

/// Restores every recorded function that is at home and in no plan. Under the node's lock, so that none is chosen meanwhile.
fn restore_unplanned(agent: &Agent) -> Result<(), ReleaseError> {
    let path = agent.layout.node_lock();
    let _lock = FunctionLock::take(&path, NODE_LOCK).map_err(|source| ReleaseError::Lock {
        claim: path.display().to_string(),
        source,
    })?;
    let taken = plans::functions_taken(&plans::all(&agent.layout)?, &agent.boot_id);
    let mut host = Host::open(agent.sysfs())?;
    for function in home_functions(agent, &host) {
        if taken.contains(&function) {
            continue;
        }
        let uses = host.uses(&function)?;
        if !uses.is_empty() {
            tracing::info!(vf = %function, ?uses, "the host uses a VF that no plan names; it is left alone");
            continue;
        }
        if let Some(original) = agent.originals().vf(&function)? {
            let owed = restore(&mut host, &original)?;
            agent.originals().owe_rate(&original, owed)?;
        }
    }
    Ok(())
}

fn home_functions(agent: &Agent, host: &Host) -> Vec<PciAddress> {
    let inventory = agent.inventory.borrow().clone();
    let ports = inventory.iter().flat_map(|inventory| &inventory.ports);
    ports
        .filter_map(|port| host.sysfs.virtual_functions(&port.pci_address).ok())
        .flatten()
        .filter(|function| function.link.is_some())
        .map(|function| function.address)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plan_that_does_not_parse_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        assert!(!unreadable(&path), "an absent plan");
        let whole = serde_json::to_vec(&plans::tests::plan("a", "boot", ["0000:18:00.3", "0000:19:00.3"])).unwrap();
        std::fs::write(&path, &whole).unwrap();
        assert!(!unreadable(&path), "a plan of another claim of this pod");
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(unreadable(&path));
    }
}
