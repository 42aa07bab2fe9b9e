//! NodePrepareResources: from a claim to a taken index, programmed functions, a plan and a CDI spec.
//!
//! kubelet gives up after 45 s and comes back only after 60 to 90 s. So whatever may clear up soon (an API server that
//! restarts, a slice that is being reserved, an index that is being given back, a lock, a driver that is busy, a function on its
//! way home) is tried again inside, up to 35 s, and what was reached is kept between the tries: the index by its attachment,
//! the functions by the plan. It is kept for kubelet's next call too. Only what will not clear up gives everything back.

mod choose;
mod entitled;
mod error;
mod holder;
mod index;
mod passes;
mod program;

use std::sync::Arc;

use railhead_crds::names;
use railhead_plan::{AttachmentPlan, PodRef};
use railhead_planner::claim::RailAllocation;
use tokio::time::Instant;

use self::{entitled::Entitled, index::Taken};
pub(super) use error::PrepareError;
pub(super) use passes::{cut_off_passes, originals_pass, passes, restore_passes};

use super::{cdi, plans, release};
use crate::{
    agent::Agent,
    kubelet::{ClaimRef, PreparedDevice},
    limits::{PREPARE_AGAIN, PREPARE_AGAIN_AT_MOST, jitter},
};

/// Prepares a claim until `deadline`. Repeating it is fine: what exists is checked and used.
pub(super) async fn prepare(
    agent: &Arc<Agent>,
    reference: &ClaimRef,
    deadline: Instant,
) -> Result<Vec<PreparedDevice>, PrepareError> {
    let mut reached = Reached::default();
    let mut pause = PREPARE_AGAIN;
    loop {
        let error = match Box::pin(attempt(agent, reference, deadline, &mut reached)).await {
            Ok(devices) => return Ok(devices),
            Err(error) => error,
        };
        let wait = jitter(pause);
        if error.is_transient() && Instant::now() + wait < deadline {
            tracing::info!(%error, "not yet prepared");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PREPARE_AGAIN_AT_MOST);
            continue;
        }
        if let Some(pod) = &reached.pod {
            agent.events.warning(pod, error.reason(), error.to_string());
        }
        if !error.is_transient()
            && let Err(left) = undo(agent, &reference.uid, &reached).await
        {
            // The garbage collector does it.
            tracing::warn!(claim = reference.uid, error = %left, "a refused Prepare could not be undone yet");
        }
        return Err(error);
    }
}

/// How far the tries have come.
#[derive(Debug, Default)]
struct Reached {
    pod: Option<PodRef>,
    /// Name of the attachment that holds the pod's index.
    attachment: Option<String>,
}

/// One try.
async fn attempt(
    agent: &Arc<Agent>,
    reference: &ClaimRef,
    deadline: Instant,
    reached: &mut Reached,
) -> Result<Vec<PreparedDevice>, PrepareError> {
    if agent.phase.borrow().is_teardown() {
        return Err(PrepareError::TearingDown {
            node: agent.node.clone(),
        });
    }
    let entitled = entitled::entitled(agent, reference, deadline).await?;
    let pod = entitled.pod_ref();
    reached.pod = Some(pod.clone());
    let known = plans::of_claim(&agent.layout, &reference.uid)?;
    let known = known.filter(|plan| plan.boot_id == agent.boot_id && plan.pod.uid == pod.uid);
    let taker = index::Taker::new(agent, &entitled, &reference.uid, deadline);
    if let Some(plan) = &known {
        reached.attachment = Some(names::attachment(&plan.slice_name, plan.index));
    }
    let (own, known) = match known {
        Some(plan) => keep(agent, &taker, plan).await?,
        None => (taker.take().await?, None),
    };
    let index = own.index;
    reached.attachment = Some(names::attachment(entitled.slice_name(), index));
    let made = make(agent, &entitled, &reference.uid, index, deadline).await;
    if let (Err(PrepareError::Overtaken { .. }), Some(attachment)) = (&made, &reached.attachment) {
        release::index::give_back(agent, &pod.namespace, attachment, &pod.uid).await?;
    }
    let plan = made?;
    taker.rely_on(&own).await?;
    if known.is_none() {
        tracing::info!(
            pod = format!("{}/{}", pod.namespace, pod.name),
            place = place(&plan),
            "took index and functions"
        );
        agent.attachments_changed.notify_one();
        agent.claims_changed.notify_one();
    }
    Ok(answer(&plan, &entitled.rails))
}

/// The index of an existing plan, with the plan. If another pod has it by now, the plan goes, and the pod takes an index as any
/// other does: what the plan programmed would be that pod's addresses. The plan of a wired pod stays: it ends as a whole.
async fn keep(
    agent: &Arc<Agent>,
    taker: &index::Taker<'_>,
    plan: AttachmentPlan,
) -> Result<(Taken, Option<AttachmentPlan>), PrepareError> {
    if let Some(own) = taker.hold(plan.index).await? {
        return Ok((own, Some(plan)));
    }
    if agent.layout.record(&plan.pod.uid).exists() {
        return Ok((taker.wait_for(plan.index).await?, Some(plan)));
    }
    tracing::warn!(
        pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
        claim = plan.claim_uid,
        index = plan.index,
        "another pod has the index of this plan; giving the plan back"
    );
    release::take_home(agent, &plan, release::Programs::Unknown).await?;
    Ok((taker.take().await?, None))
}

/// Functions first. An index on which a plan of the pod relies, by this claim or another, is not given back.
///
/// A pod that is wired keeps what it has: kubelet prepares its claim again when it has lost its own state, and what keeps the node
/// from that (a full disk, a role that was taken away) is no reason to take the rails from programs that run. It ends as a whole.
async fn undo(agent: &Arc<Agent>, claim_uid: &str, reached: &Reached) -> Result<(), release::ReleaseError> {
    let (Some(pod), Some(attachment)) = (&reached.pod, &reached.attachment) else {
        return Ok(());
    };
    if release::sandboxes::is_wired(&agent.layout, &pod.uid) {
        tracing::warn!(
            pod = format!("{}/{}", pod.namespace, pod.name),
            claim = claim_uid,
            "the pod is wired and keeps its rails, though its claim could not be prepared again"
        );
        return Ok(());
    }
    release::claim(agent, claim_uid, release::Programs::Ended).await?;
    release::index::give_back(agent, &pod.namespace, attachment, &pod.uid).await
}

/// What happens on the node, under the claim's lock.
async fn make(
    agent: &Arc<Agent>,
    entitled: &Entitled,
    claim_uid: &str,
    index: u32,
    deadline: Instant,
) -> Result<AttachmentPlan, PrepareError> {
    let _lock = release::lock_until(agent, claim_uid, deadline).await?;
    let pod = entitled.pod_ref();
    // Read under the lock: another agent may have made one since, and one that cannot be read holds functions all the same.
    let plan = match plans::of_pod(&agent.layout, &pod.uid)? {
        plans::Found::Plan(plan) if plan.boot_id == agent.boot_id && plan.claim_uid == claim_uid => {
            if plan.index != index {
                return Err(PrepareError::Overtaken {
                    taken: index,
                    planned: plan.index,
                });
            }
            *plan
        }
        plans::Found::Damaged => {
            release::take_damaged_home(agent, &pod).await?;
            choose::choose(agent, entitled, index, deadline).await?
        }
        // Of an earlier boot, or of another claim, which is refused.
        plans::Found::Plan(_) | plans::Found::Nothing => choose::choose(agent, entitled, index, deadline).await?,
    };
    // The plan is on disk before the first function is touched: it is the journal of what follows.
    let plan = program::program(agent, plan).await?;
    write_cdi(agent, &plan).await?;
    Ok(plan)
}

async fn write_cdi(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), PrepareError> {
    let (agent, plan) = (agent.clone(), plan.clone());
    let written = tokio::task::spawn_blocking(move || {
        let spec = cdi::of_plan(&agent, &plan)?;
        // Writing needs room, and has the runtime read all its specs again.
        if cdi::read(&agent.layout, &plan.claim_uid).as_ref() == Some(&spec) {
            return Ok(());
        }
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

impl Entitled {
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
