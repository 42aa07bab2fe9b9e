//! Gives back what a claim holds on this node: for Unprepare, for the garbage collector and for a Prepare that failed.
//!
//! Order: the sandbox (through the CNI binary), the functions, the CDI spec, the index, the plan. The plan goes last: while
//! it exists its functions are nobody else's, and whatever was interrupted is found again. Nothing fails because something
//! is gone already.

mod damaged;
mod error;
pub(crate) mod index;
pub(crate) mod lost;
pub(crate) mod sandboxes;
mod vfs;

use std::sync::Arc;

use railhead_crds::names;
use railhead_host::FunctionLock;

pub(crate) use error::ReleaseError;

use super::{cdi, plans};
use crate::{agent::Agent, limits::CLAIM_LOCK};

/// Holds off everybody else who would work on the same claim.
pub(super) async fn lock(agent: &Arc<Agent>, claim_uid: &str) -> Result<FunctionLock, ReleaseError> {
    // Sixteen locks are enough to keep claims apart, and as many files stay in the folder.
    let shard = claim_uid.chars().last().filter(char::is_ascii_alphanumeric);
    let path = agent
        .layout
        .locks()
        .join(format!("claim-{}.lock", shard.unwrap_or('x')));
    tokio::task::spawn_blocking(move || FunctionLock::take(&path, CLAIM_LOCK))
        .await
        .map_err(|_| ReleaseError::Panicked)?
        .map_err(|source| ReleaseError::Lock {
            claim: claim_uid.to_owned(),
            source,
        })
}

/// Gives back everything of a claim. Without a plan there is nothing but perhaps a CDI spec, or a plan that cannot be read.
pub(super) async fn claim(agent: &Arc<Agent>, claim_uid: &str) -> Result<(), ReleaseError> {
    let _lock = lock(agent, claim_uid).await?;
    let Some(plan) = plans::of_claim(&agent.layout, claim_uid)? else {
        damaged::release(agent, claim_uid).await?;
        return Ok(cdi::remove(&agent.layout, claim_uid)?);
    };
    sandboxes::unwire(agent, &plan.pod).await?;
    vfs::restore(agent, &plan).await?;
    cdi::remove(&agent.layout, claim_uid)?;
    let name = names::attachment(&plan.slice_name, plan.index);
    index::give_back(&agent.client, &plan.pod.namespace, &name, &plan.pod.uid).await?;
    plans::remove(&agent.layout, &plan.pod.uid)?;
    tracing::info!(
        pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
        claim = claim_uid,
        index = plan.index,
        "gave back index and functions"
    );
    agent.attachments_changed.notify_one();
    agent.node_changed.notify_one();
    Ok(())
}
