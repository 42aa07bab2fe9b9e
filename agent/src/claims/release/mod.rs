//! Gives back what a claim holds on this node: for Unprepare, for the garbage collector and for a Prepare that was refused.
//!
//! Order: the sandbox (through the CNI binary), the functions, the CDI spec, the plan, the index. The plan goes after all that
//! is on the node: while it exists its functions are nobody else's, and whatever was interrupted is found again. The index
//! goes last: its NetworkAttachment names claim, pod and node, so an index that is left is found by it. Nothing fails because
//! something is gone already.
//!
//! Callers have the claim's turn ([`super::Turns`]). Its lock is held for what is changed on the node, and not while the API
//! server is asked: an answer that does not come must keep nobody else from the claim.

mod damaged;
mod error;
pub(crate) mod index;
pub(crate) mod lost;
pub(crate) mod sandboxes;
pub(super) mod users;
mod vfs;

use std::sync::Arc;

use railhead_crds::names;
use railhead_host::FileLock;
use railhead_plan::AttachmentPlan;
use tokio::time::Instant;

pub(super) use damaged::{of_nobody as damaged_of_nobody, take_home as take_damaged_home};
pub(crate) use error::ReleaseError;
pub(super) use vfs::lock as lock_vfs;

use super::{cdi, lock::ClaimLock, plans};
use crate::{agent::Agent, limits::CLAIM_LOCK};

/// How many sandboxes of a pod are unwired that appear while it is given back.
const UNWIRINGS: usize = 3;

/// Holds off everybody else who would change what the claim has on the node.
pub(super) async fn lock(agent: &Agent, claim_uid: &str) -> Result<ClaimLock, ReleaseError> {
    lock_until(agent, claim_uid, Instant::now() + CLAIM_LOCK).await
}

/// The same, waiting until `deadline`.
pub(super) async fn lock_until(agent: &Agent, claim_uid: &str, deadline: Instant) -> Result<ClaimLock, ReleaseError> {
    ClaimLock::take(&agent.layout, claim_uid, deadline)
        .await
        .map_err(|source| ReleaseError::Lock {
            claim: claim_uid.to_owned(),
            source,
        })
}

/// What is known of a pod's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    /// kubelet has ended them, or never started them.
    Ended,
    /// Nobody says: they may have RDMA devices of the pod's functions open.
    Unknown,
}

/// Gives back everything of a claim. Without a plan there is nothing but perhaps an index, a CDI spec, or a plan that cannot
/// be read.
pub(super) async fn claim(agent: &Arc<Agent>, claim_uid: &str, programs: Programs) -> Result<(), ReleaseError> {
    let start = Instant::now();
    let Some(plan) = plans::of_claim(&agent.layout, claim_uid)? else {
        return without_plan(agent, claim_uid).await;
    };
    let (namespace, name) = (&plan.pod.namespace, names::attachment(&plan.slice_name, plan.index));
    // The version that the deletion names is older than the look that finds no plan.
    let (home, seen) = tokio::join!(take_home(agent, &plan, programs), index::see(agent, namespace, &name));
    if home?.is_none() {
        return without_plan(agent, claim_uid).await;
    }
    let home = Instant::now();
    index::give_back_seen(agent, namespace, &name, &plan.pod.uid, seen).await?;
    tracing::info!(
        pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
        claim = claim_uid,
        index = plan.index,
        functions_seconds = home.duration_since(start).as_secs_f64(),
        index_seconds = home.elapsed().as_secs_f64(),
        "gave back index and functions"
    );
    agent.attachments_changed.notify_one();
    agent.claims_changed.notify_one();
    Ok(())
}

/// Gives back what a claim's plan holds on this node, and the plan: all but the index. All under the claim's lock, so that
/// nobody finds a plan whose functions or whose CDI spec are gone. `seen` is read again under it; `None` if it is gone by then.
/// An error as long as another pod uses the claim.
pub(super) async fn take_home(
    agent: &Arc<Agent>,
    seen: &AttachmentPlan,
    programs: Programs,
) -> Result<Option<AttachmentPlan>, ReleaseError> {
    let claim_uid = &seen.claim_uid;
    let users = users::of_plan(agent, seen).await?;
    users.tell(agent, seen);
    let hindering = users.hindering(programs);
    if !hindering.is_empty() {
        return Err(ReleaseError::Shared {
            claim: seen.claim_name.as_ref().unwrap_or(claim_uid).clone(),
            pods: hindering.join(", "),
        });
    }
    let held = lock(agent, claim_uid).await?;
    let Some(plan) = plans::of_claim(&agent.layout, claim_uid)? else {
        return Ok(None);
    };
    let vfs_held = unwire(agent, &plan).await?;
    vfs::restore(agent, &plan, programs).await?;
    cdi::remove(&agent.layout, claim_uid)?;
    plans::remove(&agent.layout, &plan.pod.uid)?;
    drop(vfs_held);
    held.remove();
    users::forget(agent, &plan.pod.uid);
    Ok(Some(plan))
}

/// Takes the functions from the pod's sandboxes and returns their locks. An ADD that had the locks meanwhile has wired a
/// sandbox, which is unwired as well.
async fn unwire(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<Vec<FileLock>, ReleaseError> {
    for _ in 0..UNWIRINGS {
        sandboxes::unwire(agent, &plan.pod).await?;
        let held = vfs::lock(agent, plan).await?;
        if !sandboxes::is_wired(&agent.layout, &plan.pod.uid) {
            return Ok(held);
        }
    }
    Err(ReleaseError::WiredAgain {
        pod: format!("{}/{}", plan.pod.namespace, plan.pod.name),
    })
}

async fn without_plan(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    damaged::release(agent, claim_uid).await?;
    let held = lock(agent, claim_uid).await?;
    if plans::of_claim(&agent.layout, claim_uid)?.is_none() {
        cdi::remove(&agent.layout, claim_uid)?;
        held.remove();
    }
    Ok(())
}
