//! NodePrepareResources: from a claim to a taken index, programmed functions, a plan and a CDI spec.
//!
//! Time budget: kubelet gives up after 45 s and comes back only after 60 to 90 s, so whatever may clear up soon (a slice
//! that is being reserved, an index that is being given back) is waited for inside, up to 35 s.

mod entitled;
mod error;
mod functions;
mod index;

use std::{sync::Arc, time::Instant};

use railhead_crds::names;
use railhead_plan::{AttachmentPlan, PodRef, RdmaPlan};
use railhead_planner::claim::RailAllocation;

pub(super) use error::PrepareError;

use super::{cdi, plans, release};
use crate::{
    agent::Agent,
    kubelet::{ClaimRef, PreparedDevice},
    limits::PREPARE,
};

/// Prepares a claim. Repeating it is fine: what exists is checked and used.
pub(super) async fn prepare(agent: &Arc<Agent>, reference: &ClaimRef) -> Result<Vec<PreparedDevice>, PrepareError> {
    let deadline = Instant::now() + PREPARE;
    if agent.phase.borrow().is_teardown() {
        return Err(PrepareError::TearingDown {
            node: agent.node.clone(),
        });
    }
    let entitled = entitled::entitled(agent, reference, deadline).await?;
    let pod = entitled.pod_ref();
    let prepared = attach(agent, reference, &entitled, deadline).await;
    match &prepared {
        Ok((plan, fresh)) if *fresh => {
            tracing::info!(
                pod = format!("{}/{}", pod.namespace, pod.name),
                place = place(plan),
                "took index and functions"
            );
            agent.attachments_changed.notify_one();
            agent.node_changed.notify_one();
        }
        Ok(_) => {}
        Err(error) => {
            agent.events.warning(&pod, error.reason(), error.to_string()).await;
        }
    }
    let (plan, _) = prepared?;
    Ok(answer(&plan, &entitled.rails))
}

/// Returns the plan and whether it is new.
async fn attach(
    agent: &Arc<Agent>,
    reference: &ClaimRef,
    entitled: &entitled::Entitled,
    deadline: Instant,
) -> Result<(AttachmentPlan, bool), PrepareError> {
    let known = plans::of_claim(&agent.layout, &reference.uid)?;
    let pod = entitled.pod_ref();
    if let Some(plan) = known.filter(|plan| plan.boot_id == agent.boot_id && plan.pod.uid == pod.uid) {
        index::hold(agent, entitled, &reference.uid, plan.index, deadline).await?;
        let _lock = release::lock(agent, &reference.uid).await?;
        let plan = functions::program(agent, plan).await?;
        write_cdi(agent, &plan).await?;
        return Ok((plan, false));
    }
    let index = index::take(agent, entitled, &reference.uid, deadline).await?;
    let made = make(agent, entitled, &reference.uid, index).await;
    if made.is_err() {
        // Whatever was done for this pod is undone, so that neither index nor function waits for a retry that may happen
        // on another node. If that fails too, the garbage collector does it.
        if let Err(error) = undo(agent, &reference.uid, &pod, entitled.slice_name(), index).await {
            tracing::warn!(claim = reference.uid, %error, "a failed Prepare could not be undone yet");
        }
    }
    made.map(|plan| (plan, true))
}

/// Functions first. While a plan of the pod is left, by this claim or another, something may still use the index.
async fn undo(
    agent: &Arc<Agent>,
    claim_uid: &str,
    pod: &PodRef,
    slice: &str,
    index: u32,
) -> Result<(), release::ReleaseError> {
    release::claim(agent, claim_uid).await?;
    if agent.layout.plan(&pod.uid).exists() {
        return Ok(());
    }
    release::index::give_back(
        &agent.client,
        &pod.namespace,
        &names::attachment(slice, index),
        &pod.uid,
    )
    .await
}

async fn make(
    agent: &Arc<Agent>,
    entitled: &entitled::Entitled,
    claim_uid: &str,
    index: u32,
) -> Result<AttachmentPlan, PrepareError> {
    let _lock = release::lock(agent, claim_uid).await?;
    // The plan is on disk before the first function is touched: it is the journal of what follows.
    let plan = functions::choose(agent, entitled, claim_uid, index).await?;
    let plan = functions::program(agent, plan).await?;
    write_cdi(agent, &plan).await?;
    Ok(plan)
}

async fn write_cdi(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), PrepareError> {
    let (agent, plan) = (agent.clone(), plan.clone());
    let written = tokio::task::spawn_blocking(move || {
        let sysfs = agent.sysfs();
        let mut uverbs = Vec::new();
        for rail in &plan.rails {
            if let RdmaPlan::Function { device } = &rail.rdma {
                let node = sysfs.uverbs(device.as_str()).map_err(PrepareError::Sysfs)?;
                uverbs.push(node.ok_or_else(|| PrepareError::NoUverbs {
                    rail: rail.name.clone(),
                    device: device.clone(),
                })?);
            }
        }
        let path = agent.layout.cdi_spec(&plan.claim_uid);
        // A wired pod's spec was completed by ADD, and must stay so.
        let wired = agent.layout.record(&plan.pod.uid).exists();
        if wired && path.exists() {
            return Ok(());
        }
        let spec = cdi::spec(&agent.layout, &plan, &uverbs, &agent.cni_binary);
        Ok(cdi::write(&agent.layout, &plan.claim_uid, &spec)?)
    });
    written.await.map_err(|_| PrepareError::Panicked)?
}

fn answer(plan: &AttachmentPlan, rails: &[RailAllocation]) -> Vec<PreparedDevice> {
    rails
        .iter()
        .map(|rail| PreparedDevice {
            request: rail.request.clone(),
            pool: rail.pool.clone(),
            device: rail.device.clone(),
            share_id: rail.share_id.clone(),
            // The same device on each: a container that names one request only still gets its mounts, and runtimes
            // apply a name that comes twice once.
            cdi_device_ids: vec![cdi::device_id(&plan.claim_uid)],
        })
        .collect()
}

/// `index 5, rails rail0 rail1, 10.0.64.5 10.1.64.5, VLAN 1012`.
fn place(plan: &AttachmentPlan) -> String {
    let names: Vec<&str> = plan.rails.iter().map(|rail| rail.name.as_str()).collect();
    let addresses: Vec<String> = plan
        .rails
        .iter()
        .filter_map(|rail| rail.addresses.first())
        .map(|address| address.addr().to_string())
        .collect();
    let vlan = plan
        .rails
        .first()
        .and_then(|rail| rail.vf.vlan)
        .map_or_else(|| "untagged".to_owned(), |vlan| format!("VLAN {}", vlan.id()));
    format!(
        "index {}, rails {}, addresses {}, {vlan}",
        plan.index,
        names.join(" "),
        addresses.join(" "),
    )
}

impl entitled::Entitled {
    /// The pod, as plans name it.
    fn pod_ref(&self) -> PodRef {
        let metadata = &self.pod.metadata;
        PodRef {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
        }
    }

    fn slice_name(&self) -> &str {
        self.slice.metadata.name.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_what_the_pod_got() {
        let plan = plans::tests::plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        assert_eq!(
            place(&plan),
            "index 5, rails rail0 rail1, addresses 10.0.64.5 10.1.64.5, VLAN 1012"
        );
    }
}
