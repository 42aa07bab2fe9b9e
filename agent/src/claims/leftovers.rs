//! Files that nobody needs any more, or that somebody has lost: of writers that were killed, of earlier boots, of claims that
//! were given back; and CDI specs of claims that were not.

use std::{fs, path::Path, sync::Arc, time::Duration};

use railhead_host::{ABANDONED, remove_abandoned};
use railhead_plan::Layout;

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
    for plan in plans::all(&agent.layout)? {
        if plan.boot_id != agent.boot_id {
            let _lock = release::lock(agent, &plan.claim_uid).await?;
            // Its CDI spec has no plan then, and goes with the others.
            if plans::remove_earlier(&agent.layout, &plan.pod.uid, &agent.boot_id)? {
                tracing::info!(pod = plan.pod.name, "removed a plan of an earlier boot");
            }
        }
    }
    release::sandboxes::earlier_journals(agent).await
}

/// Removes specs without a plan, and writes those again that a tool or a cleaner of temporary files took away: kubelet does
/// not ask for them a second time, and without one no container of the pod can be created any more.
pub(super) async fn specs(agent: &Arc<Agent>) -> Result<(), ReleaseError> {
    for claim in claims_with_spec(&agent.layout) {
        // While the claim is prepared or given back its spec comes and goes.
        let Some(_turn) = agent.turns.try_take(&agent.layout, &claim) else {
            continue;
        };
        let held = release::lock(agent, &claim).await?;
        // Looked for under the lock: Prepare writes the plan before the spec, and holds the lock over both. A plan that cannot be
        // read may be this claim's, of a pod that runs.
        if plans::of_claim(&agent.layout, &claim)?.is_none() && !plans::any_damaged(&agent.layout)? {
            cdi::remove(&agent.layout, &claim)?;
            held.remove();
        }
    }
    for plan in plans::all(&agent.layout)? {
        if plan.boot_id != agent.boot_id || agent.layout.cdi_spec(&plan.claim_uid).exists() {
            continue;
        }
        // While the claim is prepared or given back its spec comes and goes.
        let Some(_turn) = agent.turns.try_take(&agent.layout, &plan.claim_uid) else {
            continue;
        };
        let _lock = release::lock(agent, &plan.claim_uid).await?;
        let same = plans::of_claim(&agent.layout, &plan.claim_uid)?.is_some_and(|now| now == plan);
        if !same || agent.layout.cdi_spec(&plan.claim_uid).exists() {
            continue;
        }
        match cdi::of_plan(agent, &plan) {
            Ok(spec) => {
                cdi::write(&agent.layout, &plan.claim_uid, &spec)?;
                tracing::warn!(
                    pod = format!("{}/{}", plan.pod.namespace, plan.pod.name),
                    claim = plan.claim_uid,
                    "the claim's CDI spec was gone; wrote it again"
                );
            }
            Err(error) => tracing::warn!(claim = plan.claim_uid, %error, "a lost CDI spec cannot be written again yet"),
        }
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
