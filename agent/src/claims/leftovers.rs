//! Files that nobody needs any more, or that somebody has lost: of writers that were killed, of earlier boots, of claims that
//! were given back; and CDI specs of claims that were not.

use std::{fs, path::Path, sync::Arc, time::Duration};

use railhead_host::{ABANDONED, remove_abandoned};
use railhead_plan::{AttachmentPlan, Layout};

use super::{
    cdi, plans,
    release::{self, ReleaseError},
};
use crate::agent::Agent;

/// How long a spoilt journal is kept for people to look at.
const SPOILT: Duration = Duration::from_hours(7 * 24);
/// How the CNI binary names a journal that it could not read.
const SET_ASIDE: &str = ".damaged";

/// Temporary files of writers that were killed.
pub(super) fn abandoned(layout: &Layout) {
    let folders = [
        (layout.plans(), ""),
        (layout.journals(), ""),
        (layout.former_journals(), ""),
        (layout.originals(), ""),
        (layout.cdi(), "railhead.dev-"),
    ];
    for (folder, prefix) in folders {
        if let Err(error) = remove_abandoned(&folder, prefix, ABANDONED) {
            tracing::warn!(folder = %folder.display(), %error, "temporary files could not be removed");
        }
    }
    // ADD makes a pod's folder under such a name, DEL takes it away under one.
    remove_older(&layout.attachments(), ABANDONED, |name| name.starts_with('.'));
    for folder in [layout.journals(), layout.former_journals()] {
        remove_older(&folder, SPOILT, |name| name.ends_with(SET_ASIDE));
    }
}

/// Removes what is in `folder`, has a name that `is` one of these and has not been changed for `age`.
fn remove_older(folder: &Path, age: Duration, is: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let old = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|changed| changed.elapsed().is_ok_and(|since| since >= age));
        if !old || !entry.file_name().to_str().is_some_and(&is) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Ok(()) => tracing::info!(path = %path.display(), "removed a leftover"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a leftover could not be removed"),
        }
    }
}

/// Plans and journals that describe kernel state of an earlier boot. Indices stay with their pods: kubelet prepares the claims
/// of living pods again.
pub(super) async fn earlier_boots(agent: &Arc<Agent>) -> Result<(), ReleaseError> {
    let mut failed = Ok(());
    for plan in plans::all(&agent.layout)? {
        // One claim's trouble must not keep what another left.
        if plan.boot_id != agent.boot_id
            && let Err(error) = earlier_plan(agent, &plan).await
        {
            failed = failed.and(Err(error));
        }
    }
    failed.and(release::sandboxes::earlier_journals(agent).await)
}

async fn earlier_plan(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), ReleaseError> {
    let _lock = release::lock(agent, &plan.claim_uid).await?;
    // Its CDI spec has no plan then, and goes with the others.
    if plans::remove_earlier(&agent.layout, &plan.pod.uid, &agent.boot_id)? {
        tracing::info!(pod = plan.pod.name, "removed a plan of an earlier boot");
    }
    Ok(())
}

/// Removes specs without a plan, and writes those again that a tool or a cleaner of temporary files took away, or whose RDMA
/// devices are not those of the wired pod: kubelet does not ask for them a second time, and without one no container of the
/// pod can be created any more.
pub(super) async fn specs(agent: &Arc<Agent>) -> Result<(), ReleaseError> {
    let mut failed = Ok(());
    // One claim's trouble must not keep another's spec.
    for claim in claims_with_spec(&agent.layout) {
        if let Err(error) = without_plan(agent, &claim).await {
            failed = failed.and(Err(error));
        }
    }
    for plan in plans::all(&agent.layout)? {
        if plan.boot_id == agent.boot_id
            && is_to_be_written(agent, &plan)
            && let Err(error) = write_again(agent, &plan).await
        {
            failed = failed.and(Err(error));
        }
    }
    failed
}

/// Removes a claim's spec if it has no plan.
async fn without_plan(agent: &Arc<Agent>, claim: &str) -> Result<(), ReleaseError> {
    // While the claim is prepared or given back its spec comes and goes.
    let Some(_turn) = agent.turns.try_take(&agent.layout, claim) else {
        return Ok(());
    };
    let held = release::lock(agent, claim).await?;
    // Looked for under the lock: Prepare writes the plan before the spec, and holds the lock over both. A plan that cannot be
    // read may be this claim's, of a pod that runs.
    if plans::of_claim(&agent.layout, claim)?.is_none() && !plans::any_damaged(&agent.layout)? {
        cdi::remove(&agent.layout, claim)?;
        held.remove();
    }
    Ok(())
}

/// Whether a claim's spec is not there, cannot be read, or names other RDMA devices than the wired pod has. What ADD has named before
/// it ended is told by nothing else.
fn is_to_be_written(agent: &Agent, plan: &AttachmentPlan) -> bool {
    let Some(found) = cdi::read(&agent.layout, &plan.claim_uid) else {
        return true;
    };
    let is_wired = agent.layout.record(&plan.pod.uid).exists();
    is_wired && cdi::of_plan(agent, plan).is_ok_and(|wanted| cdi::nodes(&wanted) != cdi::nodes(&found))
}

async fn write_again(agent: &Arc<Agent>, plan: &AttachmentPlan) -> Result<(), ReleaseError> {
    let claim = &plan.claim_uid;
    // While the claim is prepared or given back its spec comes and goes.
    let Some(_turn) = agent.turns.try_take(&agent.layout, claim) else {
        return Ok(());
    };
    let _lock = release::lock(agent, claim).await?;
    // Under these locks an ADD names the devices of the sandbox that it wires, and records them.
    let _vfs = release::lock_vfs(agent, plan).await?;
    let same = plans::of_claim(&agent.layout, claim)?.is_some_and(|now| now == *plan);
    if !same || !is_to_be_written(agent, plan) {
        return Ok(());
    }
    match cdi::of_plan(agent, plan) {
        Ok(spec) => {
            cdi::write(&agent.layout, claim, &spec)?;
            tracing::warn!(
                pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
                claim,
                "the claim's CDI spec was gone, spoilt or named other RDMA devices than the pod's; wrote it again"
            );
        }
        Err(error) => tracing::warn!(claim, %error, "a lost CDI spec cannot be written again yet"),
    }
    Ok(())
}

fn claims_with_spec(layout: &Layout) -> Vec<String> {
    let entries = fs::read_dir(layout.cdi());
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let claim = name.to_str()?.strip_prefix("railhead.dev-")?.strip_suffix(".json")?;
            Some(claim.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn half_folders_and_spoilt_journals_go_and_what_is_in_use_stays() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        plans::make_folders(&layout).unwrap();
        let half = layout.attachments().join(".uid-1.4711");
        let pod = layout.attachment("uid-2");
        let spoilt = layout.journals().join(".c1.damaged");
        let journal = layout.journal("c2");
        for folder in [&half, &pod] {
            fs::create_dir_all(folder).unwrap();
            fs::write(folder.join("attachment.json"), "{}").unwrap();
        }
        for file in [&spoilt, &journal] {
            fs::write(file, "{").unwrap();
        }
        abandoned(&layout);
        assert!(half.exists() && spoilt.exists(), "somebody may be at it");
        let days_ago = SystemTime::now() - Duration::from_hours(8 * 24);
        for path in [&half, &pod, &spoilt, &journal] {
            fs::File::open(path).unwrap().set_modified(days_ago).unwrap();
        }
        abandoned(&layout);
        assert!(!half.exists() && !spoilt.exists());
        assert!(pod.exists() && journal.exists());
    }
}
