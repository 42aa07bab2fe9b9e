//! The status of a NetworkAttachment: pure.

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{AttachedRail, AttachmentState, NetworkAttachmentStatus, reasons::Reason};
use railhead_plan::{AttachmentPlan, AttachmentRecord, GidIndex, RailPlan, RailRecord, Vlan};

use crate::{
    conditions::{self, Finding},
    drift::words,
};

const WIRED: &str = "Wired";
const DEGRADED: &str = "Degraded";

/// Whether a status says that the pod is wired.
pub(super) fn is_wired(status: &NetworkAttachmentStatus) -> bool {
    status
        .conditions
        .iter()
        .any(|condition| condition.type_ == WIRED && condition.status == "True")
}

/// What has happened to a pod since it was wired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What is not as it was wired, the first first.
    pub(super) drift: Vec<String>,
    /// Why a container may lock little memory.
    pub(super) memlock: Option<String>,
    /// Who else uses its claim.
    pub(super) shared: Option<String>,
    /// Which settings of NCCL are wrong in it.
    pub(super) nccl: Option<String>,
    /// Of which container the image's `nccl.conf` is not read.
    pub(super) hidden: Option<String>,
}

/// What people are to be told of between two statuses: a warning with its reason, or that it is over.
pub(super) fn degraded_news(
    previous: &NetworkAttachmentStatus,
    now: &NetworkAttachmentStatus,
) -> Option<(Reason, String)> {
    let trouble = |status: &NetworkAttachmentStatus| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == DEGRADED)?;
        let told = [
            Reason::ClaimShared,
            Reason::RailDown,
            Reason::Drifted,
            Reason::MemlockLow,
        ];
        let reason = told.into_iter().find(|reason| condition.reason == *reason)?;
        Some((reason, condition.message.clone()))
    };
    match (trouble(previous), trouble(now)) {
        (before, Some(now)) if before.as_ref() != Some(&now) => Some(now),
        // What is wrong with a pod also ends with its sandbox.
        (Some(_), None) if is_wired(now) => {
            Some((Reason::Recovered, "its rails are as they were wired again".to_owned()))
        }
        _ => None,
    }
}

/// What people are to be told of NCCL in a pod, beside its status, which has worse to say or nothing: warnings with their reasons.
/// That ours is mounted over an image's `nccl.conf` is only an event, since nothing is wrong with the pod.
/// Without a condition that remembers, whoever `told` nothing yet tells all.
pub(super) fn nccl_news(told: Option<&Trouble>, now: &Trouble) -> Vec<(Reason, String)> {
    let news = |reason, before: Option<&String>, now: &Option<String>| {
        let now = now.clone().filter(|now| before != Some(now))?;
        Some((reason, now))
    };
    let nccl = told.and_then(|told| told.nccl.as_ref());
    let hidden = told.and_then(|told| told.hidden.as_ref());
    news(Reason::NcclOverridden, nccl, &now.nccl)
        .into_iter()
        .chain(news(Reason::NcclConfHidden, hidden, &now.hidden))
        .collect()
}

/// The status of a pod with this plan and, when it is wired, this record. `generation` is that of the attachment.
pub(super) fn status(
    plan: &AttachmentPlan,
    record: Option<&AttachmentRecord>,
    trouble: &Trouble,
    previous: &NetworkAttachmentStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> NetworkAttachmentStatus {
    let rails: Vec<AttachedRail> = plan
        .rails
        .iter()
        .map(|rail| {
            let wired = record.and_then(|record| record.rails.iter().find(|found| found.rail == rail.rail));
            attached_rail(rail, wired)
        })
        .collect();
    let wired = rails.iter().filter(|rail| rail.state == AttachmentState::Wired).count();
    let findings = vec![
        wired_finding(plan, record, wired, previous),
        degraded_finding(plan, trouble),
    ];
    NetworkAttachmentStatus {
        observed_generation: generation,
        prepared_at: previous.prepared_at.clone(),
        summary: Some(format!("{wired}/{}", plan.rails.len())),
        rails,
        conditions: conditions::merge(&previous.conditions, findings, generation, now),
    }
}

/// A wired rail as the kernel reported it, another one as it is planned.
fn attached_rail(plan: &RailPlan, record: Option<&RailRecord>) -> AttachedRail {
    let text = |addresses: &[ipnet::IpNet]| addresses.iter().map(ToString::to_string).collect();
    match record {
        Some(record) => AttachedRail {
            id: record.rail,
            vf: record.vf.to_string(),
            addresses: text(&record.addresses),
            mac: record.mac.to_string(),
            vlan: record.vlan.map(Vlan::id),
            rdma_device: record.rdma.as_ref().map(|rdma| rdma.device.to_string()),
            gid_index: record.rdma.as_ref().map(|rdma| rdma.gid_index),
            state: AttachmentState::Wired,
        },
        None => AttachedRail {
            id: plan.rail,
            vf: plan.vf.pci_address.to_string(),
            addresses: text(&plan.addresses),
            mac: plan.mac.to_string(),
            vlan: plan.vf.vlan.map(Vlan::id),
            rdma_device: None,
            gid_index: None,
            state: AttachmentState::Prepared,
        },
    }
}

fn wired_finding(
    plan: &AttachmentPlan,
    record: Option<&AttachmentRecord>,
    wired: usize,
    previous: &NetworkAttachmentStatus,
) -> Finding {
    match record {
        Some(record) if wired == plan.rails.len() => Finding::yes(WIRED, Reason::Wired, wired_note(record)),
        Some(_) => {
            let message = format!("{wired} of {} rails are wired", plan.rails.len());
            Finding::no(WIRED, Reason::NotWired, message)
        }
        None => {
            let was = is_wired(previous)
                || previous
                    .conditions
                    .iter()
                    .any(|condition| condition.type_ == WIRED && condition.reason == Reason::NotWired);
            if was {
                Finding::no(WIRED, Reason::NotWired, "the pod's sandbox is gone")
            } else {
                Finding::no(WIRED, Reason::Prepared, "waiting for the pod's sandbox")
            }
        }
    }
}

/// The worst first. The guarantee is admitted by the scheduler; whether the port also enforces it on the wire is another matter.
fn degraded_finding(plan: &AttachmentPlan, trouble: &Trouble) -> Finding {
    if let Some(shared) = &trouble.shared {
        return Finding::yes(DEGRADED, Reason::ClaimShared, shared.clone());
    }
    if let Some((reason, message)) = words::told(&trouble.drift) {
        return Finding::yes(DEGRADED, reason, message);
    }
    if let Some(memlock) = &trouble.memlock {
        return Finding::yes(DEGRADED, Reason::MemlockLow, memlock.clone());
    }
    let ports: Vec<String> = plan
        .rails
        .iter()
        .filter(|rail| rail.vf.min_rate_mbps == 0)
        .map(|rail| format!("{} (port {})", rail.name, rail.vf.pf_pci_address))
        .collect();
    if !ports.is_empty() {
        let message = format!(
            "the guaranteed bandwidth is admitted but not enforced: no minimum rate on {}",
            ports.join(", ")
        );
        return Finding::yes(DEGRADED, Reason::QosNotEnforced, message);
    }
    match &trouble.nccl {
        Some(nccl) => Finding::yes(DEGRADED, Reason::NcclOverridden, nccl.clone()),
        None => Finding::no(DEGRADED, Reason::AsPlanned, ""),
    }
}

/// `2 rails in 310ms, GID 1 on all, MTU 9000`.
pub(super) fn wired_note(record: &AttachmentRecord) -> String {
    let without: Vec<String> = record
        .rails
        .iter()
        .filter(|rail| rail.rdma.is_none())
        .map(|rail| format!(", none on {}", rail.name))
        .collect();
    let gid = match GidIndex::of(&record.rails) {
        GidIndex::None => "no RDMA".to_owned(),
        GidIndex::Same(index) if without.is_empty() => format!("GID {index} on all"),
        GidIndex::Same(index) => format!("GID {index}{}", without.concat()),
        GidIndex::Differs(each) => format!("GID {each}{}", without.concat()),
    };
    let mut mtus: Vec<String> = record.rails.iter().map(|rail| rail.mtu.to_string()).collect();
    mtus.dedup();
    format!(
        "{} rails in {}ms, {gid}, MTU {}",
        record.rails.len(),
        record.wired_in_ms,
        mtus.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use railhead_plan::RdmaRecord;

    use super::*;
    use crate::claims::plans::tests::plan;

    fn record(plan: &AttachmentPlan, gids: [u32; 2]) -> AttachmentRecord {
        AttachmentRecord {
            version: 1,
            container_id: "c1".to_owned(),
            pod: plan.pod.clone(),
            network: plan.network.clone(),
            slice_name: plan.slice_name.clone(),
            index: plan.index,
            pods: plan.pods,
            wired_in_ms: 310,
            rails: plan
                .rails
                .iter()
                .zip(gids)
                .map(|(rail, gid_index)| RailRecord {
                    rail: rail.rail,
                    name: rail.name.clone(),
                    vf: rail.vf.pci_address.clone(),
                    mac: rail.mac,
                    mtu: rail.mtu,
                    addresses: rail.addresses.clone(),
                    vlan: rail.vf.vlan,
                    max_rate_mbps: 400,
                    min_rate_mbps: 0,
                    spoof_check: true,
                    rdma: Some(RdmaRecord {
                        device: "rxe0".parse().unwrap(),
                        uverbs: "/dev/infiniband/uverbs0".to_owned(),
                        gid_index,
                        gid: "::ffff:10.0.64.5".to_owned(),
                    }),
                })
                .collect(),
        }
    }

    fn status(
        plan: &AttachmentPlan,
        record: Option<&AttachmentRecord>,
        trouble: &Trouble,
        previous: &NetworkAttachmentStatus,
        now: Timestamp,
    ) -> NetworkAttachmentStatus {
        let status = super::status(plan, record, trouble, previous, Some(1), now);
        let observed = status.conditions.iter().map(|condition| condition.observed_generation);
        assert!(
            observed
                .chain([status.observed_generation])
                .all(|generation| generation == Some(1))
        );
        status
    }

    fn reason<'a>(status: &'a NetworkAttachmentStatus, kind: &str) -> &'a str {
        let condition = status.conditions.iter().find(|c| c.type_ == kind);
        condition.unwrap().reason.as_str()
    }

    #[test]
    fn a_pod_goes_from_prepared_to_wired_and_a_lost_sandbox_is_told_from_a_new_one() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let now = Timestamp::now();
        let prepared = status(
            &plan,
            None,
            &Trouble::default(),
            &NetworkAttachmentStatus::default(),
            now,
        );
        assert_eq!(prepared.summary.as_deref(), Some("0/2"));
        assert_eq!(reason(&prepared, "Wired"), "Prepared");
        let record = record(&plan, [1, 1]);
        let wired = status(&plan, Some(&record), &Trouble::default(), &prepared, now);
        assert!(is_wired(&wired));
        assert_eq!(wired.summary.as_deref(), Some("2/2"));
        assert_eq!(wired.rails[1].gid_index, Some(1));
        assert_eq!(wired.rails[0].addresses, ["10.0.64.5/16"]);
        let lost = status(&plan, None, &Trouble::default(), &wired, now);
        assert_eq!(reason(&lost, "Wired"), "NotWired");
        assert_eq!(
            reason(&status(&plan, None, &Trouble::default(), &lost, now), "Wired"),
            "NotWired"
        );
    }

    #[test]
    fn a_record_that_lacks_a_rail_is_not_wired() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let mut record = record(&plan, [1, 1]);
        record.rails.pop();
        let previous = NetworkAttachmentStatus::default();
        let status = status(&plan, Some(&record), &Trouble::default(), &previous, Timestamp::now());
        assert!(!is_wired(&status));
        assert_eq!(status.summary.as_deref(), Some("1/2"));
    }

    #[test]
    fn a_guarantee_that_the_port_does_not_enforce_is_said() {
        let mut plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        plan.rails[0].vf.min_rate_mbps = 200;
        let previous = NetworkAttachmentStatus::default();
        let degraded = status(&plan, None, &Trouble::default(), &previous, Timestamp::now());
        assert_eq!(reason(&degraded, "Degraded"), "QosNotEnforced");
        assert!(degraded.conditions[1].message.contains("rail1 (port 0000:18:00.0)"));
        plan.rails[1].vf.min_rate_mbps = 200;
        let enforced = status(&plan, None, &Trouble::default(), &previous, Timestamp::now());
        assert_eq!(reason(&enforced, "Degraded"), "AsPlanned");
    }

    #[test]
    fn what_was_lost_since_is_degraded_with_the_first_difference_and_clears_again() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let (record, now) = (record(&plan, [1, 1]), Timestamp::now());
        let wired = status(
            &plan,
            Some(&record),
            &Trouble::default(),
            &NetworkAttachmentStatus::default(),
            now,
        );
        let of = |drift: &[&str]| Trouble {
            drift: drift.iter().map(|&text| text.to_owned()).collect(),
            ..Trouble::default()
        };
        let pulled = of(&["rail1: it has no carrier", "rail1: RDMA device rxe1 has no GID"]);
        let down = status(&plan, Some(&record), &pulled, &wired, now);
        assert_eq!(reason(&down, "Degraded"), "RailDown");
        assert_eq!(down.conditions[1].message, "rail1: it has no carrier (and 1 more)");
        assert!(is_wired(&down), "a job may run on without it");
        assert_eq!(degraded_news(&wired, &down).unwrap().0, "RailDown");
        assert_eq!(degraded_news(&down, &down), None, "said once");
        let gone = status(&plan, Some(&record), &of(&["interface rail0 is gone"]), &down, now);
        assert_eq!(reason(&gone, "Degraded"), "RailDown");
        assert!(degraded_news(&down, &gone).unwrap().1.contains("rail0 is gone"));
        let other = status(
            &plan,
            Some(&record),
            &of(&["rail0: its MTU is 1500 and not 9000"]),
            &gone,
            now,
        );
        assert_eq!(reason(&other, "Degraded"), "Drifted");
        let again = status(&plan, Some(&record), &Trouble::default(), &other, now);
        assert_eq!(reason(&again, "Degraded"), "QosNotEnforced");
        assert_eq!(degraded_news(&other, &again).unwrap().0, Reason::Recovered);
        assert_eq!(degraded_news(&wired, &again), None);
    }

    #[test]
    fn a_container_that_may_lock_little_memory_is_said() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let trouble = Trouble {
            memlock: Some("container c: it may lock 8388608 bytes".to_owned()),
            ..Trouble::default()
        };
        let previous = NetworkAttachmentStatus::default();
        let low = status(&plan, None, &trouble, &previous, Timestamp::now());
        assert_eq!(reason(&low, "Degraded"), "MemlockLow");
        let (reason, note) = degraded_news(&previous, &low).unwrap();
        assert_eq!(reason, "MemlockLow");
        assert!(note.contains("8388608"), "{note}");
    }

    #[test]
    fn a_setting_of_nccl_that_is_wrong_here_is_said_once_and_hides_nothing_that_is_worse() {
        let mut plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        let trouble = Trouble {
            nccl: Some("the environment of container c sets NCCL_IB_GID_INDEX=0".to_owned()),
            hidden: Some("container c: its image has an /etc/nccl.conf".to_owned()),
            ..Trouble::default()
        };
        let previous = NetworkAttachmentStatus::default();
        let of = |plan: &AttachmentPlan| status(plan, None, &trouble, &previous, Timestamp::now());
        assert_eq!(reason(&of(&plan), "Degraded"), "QosNotEnforced", "no minimum rate");
        for rail in &mut plan.rails {
            rail.vf.min_rate_mbps = 200;
        }
        let wrong = of(&plan);
        assert_eq!(reason(&wrong, "Degraded"), "NcclOverridden");
        assert_eq!(
            degraded_news(&previous, &wrong),
            None,
            "the event does not depend on the condition"
        );
        let both = nccl_news(None, &trouble);
        assert_eq!(
            both.iter().map(|told| told.0).collect::<Vec<_>>(),
            ["NcclOverridden", "NcclConfHidden"]
        );
        assert!(both[0].1.contains("NCCL_IB_GID_INDEX=0"), "{both:?}");
        assert_eq!(nccl_news(Some(&trouble), &trouble), [], "said once");
        assert_eq!(nccl_news(Some(&trouble), &Trouble::default()), []);
        let low = Trouble {
            memlock: Some("it may lock 8388608 bytes".to_owned()),
            ..trouble.clone()
        };
        let worse = status(&plan, None, &low, &wrong, Timestamp::now());
        assert_eq!(reason(&worse, "Degraded"), "MemlockLow");
    }

    #[test]
    fn an_nccl_conf_of_the_image_that_ours_hides_makes_no_pod_degraded() {
        let mut plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        for rail in &mut plan.rails {
            rail.vf.min_rate_mbps = 200;
        }
        let trouble = Trouble {
            hidden: Some("container c: its image has an /etc/nccl.conf".to_owned()),
            ..Trouble::default()
        };
        let previous = NetworkAttachmentStatus::default();
        let hidden = status(&plan, None, &trouble, &previous, Timestamp::now());
        assert_eq!(reason(&hidden, "Degraded"), "AsPlanned");
        assert_eq!(nccl_news(Some(&Trouble::default()), &trouble)[0].0, "NcclConfHidden");
    }

    #[test]
    fn the_wired_event_says_rails_time_gid_and_mtu() {
        let plan = plan("u", "b", ["0000:01:10.0", "0000:02:10.0"]);
        assert_eq!(
            wired_note(&record(&plan, [1, 1])),
            "2 rails in 310ms, GID 1 on all, MTU 9000"
        );
        assert_eq!(
            wired_note(&record(&plan, [1, 3])),
            "2 rails in 310ms, GID 1 on rail0, 3 on rail1, MTU 9000"
        );
        let mut without = record(&plan, [1, 1]);
        without.rails[1].rdma = None;
        assert_eq!(wired_note(&without), "2 rails in 310ms, GID 1, none on rail1, MTU 9000");
        for rail in &mut without.rails {
            rail.rdma = None;
        }
        assert_eq!(wired_note(&without), "2 rails in 310ms, no RDMA, MTU 9000");
    }
}
