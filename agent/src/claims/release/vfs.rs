//! The functions of a plan, given back as they were found.

use std::{path::PathBuf, sync::Arc};

use railhead_host::{FunctionLock, PciAddress};
use railhead_plan::AttachmentPlan;
use railhead_vf::{self as vf, Host, OriginalsError};

use super::ReleaseError;
use crate::{agent::Agent, limits::FUNCTION_LOCK};

/// Restores all functions of a plan. A reboot has done it already for plans of an earlier boot.
pub(super) async fn restore(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), ReleaseError> {
    if plan.boot_id != agent.boot_id {
        return Ok(());
    }
    let tasks: Vec<_> = plan
        .rails
        .iter()
        .map(|rail| {
            let (agent, plan) = (agent.clone(), agent.layout.plan(&plan.pod.uid));
            let function = rail.vf.pci_address.clone();
            tokio::task::spawn_blocking(move || restore_function(&agent, function, plan))
        })
        .collect();
    let mut failed = None;
    for task in tasks {
        match task.await.map_err(|_| ReleaseError::Panicked) {
            Ok(Ok(())) => {}
            Ok(Err(error)) | Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn restore_function(agent: &Agent, function: PciAddress, plan: PathBuf) -> Result<(), ReleaseError> {
    let mut host = Host::open(agent.sysfs())?;
    if !host.sysfs.exists(&function) {
        return Ok(());
    }
    let path = agent.layout.function_lock(function.as_str());
    let _lock = FunctionLock::take(&path, FUNCTION_LOCK).map_err(|source| ReleaseError::Lock {
        claim: function.to_string(),
        source,
    })?;
    let original = agent
        .originals()
        .vf(&function)?
        .ok_or(OriginalsError::Missing { vf: function, plan })?;
    let owed = vf::restore(&mut host, &original)?;
    Ok(agent.originals().owe_rate(&original, owed)?)
}
