//! The plans on this node: the agent's only memory of which pod holds which function.

use std::{collections::BTreeSet, fs, io, os::unix::fs::DirBuilderExt, path::PathBuf};

use railhead_host::PciAddress;
use railhead_plan::{AttachmentPlan, Layout};
use railhead_store::{self as store, ReadError, WriteError};
use thiserror::Error;

/// Why plans could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PlansError {
    /// The folder or a file could not be read or made.
    #[error("read {path}: {source}")]
    Read {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A plan could not be read.
    #[error("the plan: {0}")]
    File(#[source] ReadError),
    /// A plan could not be written or removed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// All plans of this node, of this boot and of earlier ones. A file that cannot be read as a plan is logged and left out:
/// ADD refuses it too, and the pod has to be made again.
pub fn all(layout: &Layout) -> Result<Vec<AttachmentPlan>, PlansError> {
    let mut plans = Vec::new();
    for pod_uid in pods(layout)? {
        if let Found::Plan(plan) = of_pod(layout, &pod_uid)? {
            plans.push(*plan);
        }
    }
    plans.sort_by(|a, b| a.pod.uid.cmp(&b.pod.uid));
    Ok(plans)
}

/// UIDs of the pods that have plans, readable or not.
fn pods(layout: &Layout) -> Result<Vec<String>, PlansError> {
    let path = layout.plans();
    store::names(&path).map_err(|source| PlansError::Read { path, source })
}

/// Whether there is a plan that cannot be read: what it holds is not in [`vfs_taken`].
pub fn any_damaged(layout: &Layout) -> Result<bool, PlansError> {
    Ok(!damaged(layout)?.is_empty())
}

/// UIDs of the pods whose plans cannot be read: a plan's file is named by it.
pub fn damaged(layout: &Layout) -> Result<Vec<String>, PlansError> {
    let mut damaged = Vec::new();
    for pod_uid in pods(layout)? {
        if of_pod(layout, &pod_uid)? == Found::Damaged {
            damaged.push(pod_uid);
        }
    }
    Ok(damaged)
}

/// How many plans there are, readable or not.
pub fn files(layout: &Layout) -> Result<usize, PlansError> {
    Ok(pods(layout)?.len())
}

/// The plan of a claim.
pub fn of_claim(layout: &Layout, claim_uid: &str) -> Result<Option<AttachmentPlan>, PlansError> {
    Ok(all(layout)?.into_iter().find(|plan| plan.claim_uid == claim_uid))
}

/// What there is for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// No file.
    Nothing,
    /// Something that cannot be read as a plan: it was cut short or lost by the disk, is of a release too far away, or is no file.
    Damaged,
    /// Its plan, perhaps of an earlier boot.
    Plan(Box<AttachmentPlan>),
}

/// The plan of a pod.
pub fn of_pod(layout: &Layout, pod_uid: &str) -> Result<Found, PlansError> {
    match store::read(&layout.plan(pod_uid)) {
        Ok(plan) => Ok(Found::Plan(Box::new(plan))),
        Err(error) if error.is_absent() => Ok(Found::Nothing),
        Err(error) if error.is_damaged() => {
            tracing::error!(%error, "a plan cannot be read");
            Ok(Found::Damaged)
        }
        Err(error) => Err(PlansError::File(error)),
    }
}

/// The PCI addresses of all functions that a plan of this boot names.
pub fn vfs_taken(plans: &[AttachmentPlan], boot_id: &str) -> BTreeSet<PciAddress> {
    plans
        .iter()
        .filter(|plan| plan.boot_id == boot_id)
        .flat_map(|plan| plan.rails.iter().map(|rail| rail.vf.pci_address.clone()))
        .collect()
}

/// The same as the node's plans are now; `None` while one cannot be read, which may name any.
pub fn vfs_planned(layout: &Layout, boot_id: &str) -> Option<BTreeSet<PciAddress>> {
    let is_whole = damaged(layout).is_ok_and(|damaged| damaged.is_empty());
    is_whole
        .then(|| all(layout).ok())
        .flatten()
        .map(|plans| vfs_taken(&plans, boot_id))
}

/// Writes a pod's plan.
pub fn write(layout: &Layout, plan: &AttachmentPlan) -> Result<(), PlansError> {
    make_folders(layout)?;
    Ok(store::write(&layout.plan(&plan.pod.uid), plan)?)
}

/// Removes a pod's plan; an absent one is fine.
pub fn remove(layout: &Layout, pod_uid: &str) -> Result<(), PlansError> {
    Ok(store::remove(&layout.plan(pod_uid))?)
}

/// Removes a pod's plan if it is of an earlier boot; says whether it was. It is read again: kubelet may have prepared the claim
/// anew since it was listed.
pub fn remove_earlier(layout: &Layout, pod_uid: &str, boot_id: &str) -> Result<bool, PlansError> {
    let earlier = matches!(of_pod(layout, pod_uid)?, Found::Plan(plan) if plan.boot_id != boot_id);
    if earlier {
        remove(layout, pod_uid)?;
    }
    Ok(earlier)
}

/// Makes the folders that agent and CNI binary share, for root only. Pods reach their own attachment folder by a bind
/// mount, which asks for no permission on the way.
pub fn make_folders(layout: &Layout) -> Result<(), PlansError> {
    for path in [
        layout.plans(),
        layout.locks(),
        layout.attachments(),
        layout.journals(),
        layout.originals(),
    ] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|source| PlansError::Read { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use railhead_plan::{NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan, VfPlan, Vlan};

    use super::*;

    /// A plan on rails 0 and 1.
    pub(crate) fn plan(pod_uid: &str, boot_id: &str, functions: [&str; 2]) -> AttachmentPlan {
        let rail = |rail: u32, function: &str| RailPlan {
            rail,
            name: format!("rail{rail}").parse().unwrap(),
            vf: VfPlan {
                pci_address: function.parse().unwrap(),
                pf_pci_address: "0000:18:00.0".parse().unwrap(),
                index: 3,
                vlan: Some(Vlan::new(1012, 3).unwrap()),
                max_rate_mbps: 400,
                min_rate_mbps: 0,
                spoof_check: true,
                trust: false,
            },
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: 9000,
            addresses: vec![format!("10.{rail}.64.5/16").parse().unwrap()],
            on_link: Vec::new(),
            gateway: None,
            table: 1000 + rail,
            rdma: RdmaPlan::Soft {
                device: format!("rxe{pod_uid}r{rail}").parse().unwrap(),
            },
        };
        AttachmentPlan {
            version: PLAN_VERSION,
            boot_id: boot_id.to_owned(),
            pod: PodRef {
                namespace: "team-a".to_owned(),
                name: "llama-5".to_owned(),
                uid: pod_uid.to_owned(),
            },
            claim_uid: format!("claim-{pod_uid}"),
            claim_name: None,
            network: NetworkRef {
                name: "llama".to_owned(),
                uid: "7f3a9c21".to_owned(),
            },
            block: None,
            slice_name: "llama-7f3a9c21".to_owned(),
            index: 5,
            pods: 32,
            rails: vec![rail(0, functions[0]), rail(1, functions[1])],
            nccl_file: true,
            nccl_by_variable: false,
            nccl: Vec::new(),
            nccl_environment: Vec::new(),
            traffic_class: None,
        }
    }

    #[test]
    fn what_somebody_put_in_the_place_of_a_plan_is_damaged_and_keeps_nobody_waiting() {
        use std::os::unix::fs::symlink;

        use nix::{sys::stat::Mode, unistd::mkfifo};

        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        make_folders(&layout).unwrap();
        write(&layout, &plan("uid-1", "b", ["0000:18:00.3", "0000:19:00.3"])).unwrap();
        mkfifo(&layout.plan("uid-2"), Mode::S_IRUSR).unwrap();
        symlink("/dev/zero", layout.plan("uid-3")).unwrap();
        fs::File::create(layout.plan("uid-4"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        symlink("nowhere", layout.plan("uid-5")).unwrap();
        assert_eq!(all(&layout).unwrap().len(), 1);
        let mut found = damaged(&layout).unwrap();
        found.sort();
        assert_eq!(found, ["uid-2", "uid-3", "uid-4", "uid-5"]);
        assert!(any_damaged(&layout).unwrap());
        assert_eq!(of_pod(&layout, "uid-6").unwrap(), Found::Nothing);
    }

    #[test]
    fn a_plan_is_found_by_its_claim_and_a_damaged_one_hides_no_other() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        assert!(all(&layout).unwrap().is_empty());
        let written = plan("uid-1", "boot", ["0000:18:00.3", "0000:19:00.3"]);
        write(&layout, &written).unwrap();
        fs::write(layout.plan("half"), "{\"version\":1,").unwrap();
        assert_eq!(of_claim(&layout, "claim-uid-1").unwrap(), Some(written));
        assert_eq!(all(&layout).unwrap().len(), 1);
        remove(&layout, "uid-1").unwrap();
        remove(&layout, "uid-1").unwrap();
        assert!(of_claim(&layout, "claim-uid-1").unwrap().is_none());
    }

    #[test]
    fn a_plan_that_was_made_anew_since_it_was_listed_is_not_taken_for_one_of_an_earlier_boot() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        write(&layout, &plan("a", "before", ["0000:18:00.3", "0000:19:00.3"])).unwrap();
        let listed = all(&layout).unwrap();
        assert_eq!(listed[0].boot_id, "before");
        write(&layout, &plan("a", "now", ["0000:18:00.4", "0000:19:00.4"])).unwrap();
        assert!(!remove_earlier(&layout, &listed[0].pod.uid, "now").unwrap());
        assert_eq!(all(&layout).unwrap().len(), 1);
        assert!(remove_earlier(&layout, "a", "later").unwrap());
        assert!(!remove_earlier(&layout, "a", "later").unwrap());
    }

    #[test]
    fn plans_of_an_earlier_boot_hold_no_function() {
        let plans = [
            plan("a", "now", ["0000:18:00.3", "0000:19:00.3"]),
            plan("b", "before", ["0000:18:00.4", "0000:19:00.4"]),
        ];
        let taken = vfs_taken(&plans, "now");
        let taken: Vec<&str> = taken.iter().map(PciAddress::as_str).collect();
        assert_eq!(taken, ["0000:18:00.3", "0000:19:00.3"]);
    }
}
