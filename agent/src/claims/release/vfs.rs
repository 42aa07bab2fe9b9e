//! The functions of a plan, given back as they were found.

use std::{sync::Arc, time::Duration};

use railhead_host::FileLock;
use railhead_plan::{AttachmentPlan, VfPlan};
use railhead_vf::{self as vf};

use super::{Programs, ReleaseError};
use crate::{agent::Agent, limits::FUNCTION_LOCK};

/// How long a VF without a record is waited for.
const HOME: Duration = Duration::from_secs(10);

/// Takes the locks of all functions of a plan, under which ADD and DEL work. Whoever has them takes the plan away before they
/// go: an ADD that waits for them looks at its plan again when it has them, and must not find one whose functions are free.
/// In the order of their names, so that two callers never wait for each other.
pub(in crate::claims) async fn lock(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<Vec<FileLock>, ReleaseError> {
    let mut vfs: Vec<_> = plan.rails.iter().map(|rail| rail.vf.pci_address.clone()).collect();
    vfs.sort_unstable();
    let layout = agent.layout.clone();
    let locking = tokio::task::spawn_blocking(move || {
        vfs.iter()
            .map(|vf| {
                FileLock::take(&layout.function_lock(vf.as_str()), FUNCTION_LOCK).map_err(|source| ReleaseError::Lock {
                    claim: vf.to_string(),
                    source,
                })
            })
            .collect()
    });
    locking.await.map_err(|_| ReleaseError::Panicked)?
}

/// Restores all functions of a plan, whose locks the caller has. A reboot has done it already for plans of an earlier boot.
pub(super) async fn restore(agent: &Arc<Agent>, plan: &AttachmentPlan, programs: Programs) -> Result<(), ReleaseError> {
    if plan.boot_id != agent.boot_id {
        return Ok(());
    }
    let tasks: Vec<_> = plan
        .rails
        .iter()
        .map(|rail| {
            let (agent, vf) = (agent.clone(), rail.vf.clone());
            tokio::task::spawn_blocking(move || restore_vf(&agent, &vf, programs))
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

fn restore_vf(agent: &Agent, plan: &VfPlan, programs: Programs) -> Result<(), ReleaseError> {
    let function = &plan.pci_address;
    let mut host = agent.host()?;
    if !host.sysfs.exists(function) {
        return Ok(());
    }
    let original = match agent.originals().vf(function)? {
        Some(original) => original,
        None => agent.originals().assumed(&mut host, plan, HOME)?,
    };
    if programs == Programs::Unknown {
        vf::cut_off(&mut host, function, &plan.pf_pci_address, original.driver.as_deref())?;
    }
    vf::restore(&mut host, &original)?;
    Ok(())
}
