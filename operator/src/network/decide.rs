//! What a network's status says. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::resource::v1::ResourceClaimTemplate, apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp,
};
use kube::ResourceExt;
use railhead_crds::{
    NetworkAttachment, NetworkSlice, NetworkSummary, Stability, TrainingNetwork, TrainingNetworkStatus,
    names::{self, NETWORK_LABEL},
    reasons::Reason,
};
use railhead_planner::{
    index::{self, Space},
    ledger::Kept,
    network::Resolved,
};

use super::{
    surplus::{beyond, next_step},
    wording::{listed, prefixes_of, ranges, still_attached, vlan_of},
};
use crate::{
    conditions::{self, Said},
    known::Pod,
    pod::has_ended,
};

/// Whether the network has its slice.
pub(super) enum Reservation<'a> {
    Held {
        slice: &'a NetworkSlice,
        /// Why it has fewer pods than the network asks for.
        short: Option<&'a str>,
    },
    Refused {
        reason: Reason,
        message: &'a str,
    },
}

/// What was observed.
pub(super) struct Seen<'a> {
    pub(super) network: &'a TrainingNetwork,
    pub(super) resolved: Option<&'a Resolved>,
    pub(super) reservation: Reservation<'a>,
    pub(super) attachments: &'a [Arc<NetworkAttachment>],
    pub(super) pods: &'a [Arc<Pod>],
    /// Those of them that the network has no place for.
    pub(super) surplus: &'a [Arc<Pod>],
}

/// The status of a network that is not being deleted.
pub(super) fn status(seen: &Seen<'_>, now: Timestamp) -> TrainingNetworkStatus {
    let generation = seen.network.metadata.generation;
    let before = seen
        .network
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.conditions);
    let said = vec![
        ready(seen),
        reserved(&seen.reservation),
        attached(seen),
        degraded(seen.attachments),
    ];
    let slice = match &seen.reservation {
        Reservation::Held { slice, .. } => Some(*slice),
        Reservation::Refused { .. } => None,
    };
    TrainingNetworkStatus {
        observed_generation: generation,
        slice_name: slice.map(ResourceExt::name_any),
        fabric_name: seen.resolved.map(|resolved| resolved.fabric.name_any()),
        qos_class_name: seen.resolved.map(|resolved| resolved.class.name_any()),
        summary: slice.map(|slice| summary(seen, slice)),
        conditions: conditions::merge(before, said, generation, now),
    }
}

/// The status of a network that is deleted while pods are attached: all as before, but Ready says for whom it waits.
pub(super) fn deleting(network: &TrainingNetwork, holders: &[String], now: Timestamp) -> TrainingNetworkStatus {
    let message = format!(
        "deletion waits for {}: {}; delete {} (or the Job) and the network goes too",
        still_attached(holders.len()),
        listed(holders),
        if holders.len() == 1 { "it" } else { "them" },
    );
    not_ready(network, Said::no("Ready", Reason::DeletingWaitingForPods, message), now)
}

/// The status of a network that is deleted while somebody's finalizers hold its claim template.
pub(super) fn deleting_template(
    network: &TrainingNetwork,
    template: &ResourceClaimTemplate,
    now: Timestamp,
) -> TrainingNetworkStatus {
    let message = format!(
        "deletion waits for ResourceClaimTemplate {}, from which pods still get claims: its finalizers ({}) are not Railhead's; \
         whoever put them there takes them away",
        template.name_any(),
        listed(template.finalizers()),
    );
    not_ready(
        network,
        Said::no("Ready", Reason::DeletingWaitingForTemplate, message),
        now,
    )
}

/// The status of a network that is deleted while a ledger keeps its reservation.
pub(super) fn deleting_kept(
    network: &TrainingNetwork,
    fabric: &str,
    kept: &Kept,
    now: Timestamp,
) -> TrainingNetworkStatus {
    let message = format!("deletion waits for Fabric {fabric}: {kept}");
    not_ready(
        network,
        Said::no("Ready", Reason::DeletingWaitingForLedger, message),
        now,
    )
}

/// All as before but Ready.
fn not_ready(network: &TrainingNetwork, ready: Said, now: Timestamp) -> TrainingNetworkStatus {
    let mut status = network.status.clone().unwrap_or_default();
    let ready = vec![ready];
    let generation = network.metadata.generation;
    let mut merged = conditions::merge(&status.conditions, ready, generation, now);
    status.conditions.retain(|condition| condition.type_ != "Ready");
    merged.append(&mut status.conditions);
    status.conditions = merged;
    status.observed_generation = generation;
    status
}

/// Whether pods can use the network: it has its slice, and its claim template is there. Pods that come, run or end change nothing
/// of that: whoever waits for it (`kubectl wait`, Helm, GitOps) does so before there is a pod.
fn ready(seen: &Seen<'_>) -> Said {
    match &seen.reservation {
        Reservation::Refused { reason, message } => Said::no("Ready", *reason, *message),
        Reservation::Held { .. } => {
            let network = seen.network.name_any();
            let message = format!(
                "pods with the label {NETWORK_LABEL}: {network} get claims from ResourceClaimTemplate {}",
                names::claim_template(&network)
            );
            Said::yes("Ready", Reason::Usable, message)
        }
    }
}

fn reserved(reservation: &Reservation<'_>) -> Said {
    match reservation {
        Reservation::Refused { reason, message } => Said::no("Reserved", *reason, *message),
        Reservation::Held { slice, short } => {
            let spec = &slice.spec;
            let vlan = vlan_of(&spec.rails);
            let rails: Vec<String> = spec
                .rails
                .iter()
                .map(|rail| format!("{} {}", rail.name, prefixes_of(rail)))
                .collect();
            let message = format!(
                "{} addresses per rail ({}), {vlan}, {} guaranteed per pod and rail",
                spec.capacity,
                listed(&rails),
                spec.qos.guaranteed,
            );
            match short {
                None => Said::yes("Reserved", Reason::Reserved, message),
                Some(short) => Said::yes("Reserved", Reason::CannotGrow, format!("{message}; {short}")),
            }
        }
    }
}

/// How many pods the network has; a network that cannot grow goes on with what it has, and one that has shrunk keeps its block.
fn pods_of(seen: &Seen<'_>) -> u32 {
    match &seen.reservation {
        Reservation::Held { slice, .. } => slice.spec.pods.min(seen.network.spec.pods),
        Reservation::Refused { .. } => seen.network.spec.pods,
    }
}

fn attached(seen: &Seen<'_>) -> Said {
    let pods = pods_of(seen);
    let network = seen.network.name_any();
    let wired = wired(seen.attachments, pods);
    let count = format!("{}/{pods} attached", wired.len());
    if let Some((reason, refused)) = without_index(seen, pods) {
        return Said::no("Attached", reason, format!("{count}; {refused}"));
    }
    if !seen.surplus.is_empty() {
        let names: Vec<String> = seen.surplus.iter().map(|pod| pod.name_any()).collect();
        let message = format!(
            "{count}; no index is left for {} of its pods, and each that has a node holds a port on every rail: {}; {}",
            names.len(),
            listed(&names),
            next_step(pods, names.len()),
        );
        return Said::no("Attached", Reason::Oversubscribed, message);
    }
    if !seen.pods.is_empty() && seen.pods.iter().all(|pod| has_ended(pod)) {
        let ended = seen.pods.len();
        let message = format!(
            "{count}; the network's pods have ended ({ended}), the network stays for others until it is deleted"
        );
        return Said::no("Attached", Reason::PodsEnded, message);
    }
    let waiting: Vec<u32> = (0..pods).filter(|index| !wired.contains(index)).collect();
    if waiting.is_empty() {
        return Said::yes("Attached", Reason::AllAttached, count);
    }
    let wait = if let [one] = waiting[..] {
        format!("index {one} waits{}", for_whom(seen, one))
    } else {
        format!("indices {} wait", ranges(&waiting))
    };
    let hint = if seen.pods.is_empty() {
        format!(": no pod carries the label {NETWORK_LABEL}: {network} yet")
    } else {
        String::new()
    };
    Said::no("Attached", Reason::WaitingForPods, format!("{count}, {wait}{hint}"))
}

/// Which pods can have no index, and why the first of them cannot.
fn without_index(seen: &Seen<'_>, pods: u32) -> Option<(Reason, String)> {
    let space = Space::new(seen.network, pods);
    let live = || seen.pods.iter().filter(|pod| !has_ended(pod));
    // One that has its index keeps it, also in a network that has shrunk.
    let beyond = beyond(seen.attachments, pods);
    let is_beyond = |pod: &Pod| pod.metadata.uid.as_deref().is_some_and(|uid| beyond.contains(uid));
    let mut reason = None;
    let refused = live().filter(|pod| !is_beyond(pod)).filter_map(|pod| {
        let error = index::of(&pod.metadata, &space).err()?;
        reason.get_or_insert(error.reason());
        Some(format!("pod {}: {error}", pod.name_any()))
    });
    let refused: Vec<String> = refused.collect();
    if let Some(reason) = reason {
        return Some((reason, listed(&refused)));
    }
    let split = index::split(live().map(|pod| &pod.metadata), &space)?;
    Some((split.reason(), split.to_string()))
}

fn for_whom(seen: &Seen<'_>, wanted: u32) -> String {
    if let Some(attachment) = seen.attachments.iter().find(|a| a.spec.index == wanted) {
        let spec = &attachment.spec;
        return format!(" (pod {} is being wired on {})", spec.pod_name, spec.node_name);
    }
    let pods = pods_of(seen);
    let space = Space::new(seen.network, pods);
    let is_it =
        |pod: &&Arc<Pod>| !has_ended(pod) && index::of(&pod.metadata, &space) == Ok(index::IndexChoice::Fixed(wanted));
    let Some(pod) = seen.pods.iter().find(is_it) else {
        return String::new();
    };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match node {
        Some(node) => format!(" (pod {} starts on {node})", pod.name_any()),
        None => format!(" (pod {} has no node yet)", pod.name_any()),
    }
}

fn wired(attachments: &[Arc<NetworkAttachment>], pods: u32) -> BTreeSet<u32> {
    attachments
        .iter()
        .filter(|attachment| is_wired(attachment))
        .map(|attachment| attachment.spec.index)
        .filter(|index| *index < pods)
        .collect()
}

/// Whether the pod is wired, as its agent says.
pub(crate) fn is_wired(attachment: &NetworkAttachment) -> bool {
    conditions::is_true(conditions_of(attachment), "Wired")
}

fn conditions_of(attachment: &NetworkAttachment) -> &[Condition] {
    attachment.status.as_ref().map_or(&[][..], |status| &status.conditions)
}

fn degraded(attachments: &[Arc<NetworkAttachment>]) -> Said {
    let mut degraded = attachments.iter().filter_map(|attachment| {
        let condition = conditions::find(conditions_of(attachment), "Degraded")?;
        (condition.status == "True").then_some((attachment, condition))
    });
    let Some((first, condition)) = degraded.next() else {
        return Said::no("Degraded", Reason::AsDeclared, "no pod reports less than was declared");
    };
    let others = degraded.count();
    let and_others = if others > 0 {
        format!(" (and {others} more)")
    } else {
        String::new()
    };
    Said::yes(
        "Degraded",
        condition,
        format!("{}{and_others}: {}", first.spec.pod_name, condition.message),
    )
}

fn summary(seen: &Seen<'_>, slice: &NetworkSlice) -> NetworkSummary {
    let pods = pods_of(seen);
    let first = slice.spec.rails.first();
    NetworkSummary {
        attached: format!("{}/{pods}", wired(seen.attachments, pods).len()),
        rails: i32::try_from(slice.spec.rails.len()).unwrap_or(i32::MAX),
        prefix: first.map(prefixes_of).unwrap_or_default(),
        vlan: first
            .map(|rail| rail.vlan.map_or_else(|| "none".to_owned(), |vlan| vlan.to_string()))
            .unwrap_or_default(),
        stability: Stability::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{fixtures, news::news, surplus::surplus};

    fn status_of(attachments: &[Arc<NetworkAttachment>], pods: &[Arc<Pod>]) -> TrainingNetworkStatus {
        let network = fixtures::network(2);
        let slice = fixtures::slice(2);
        status(
            &Seen {
                network: &network,
                resolved: Some(&fixtures::resolved(&network)),
                reservation: Reservation::Held {
                    slice: &slice,
                    short: None,
                },
                attachments,
                pods,
                surplus: &surplus(pods, attachments, 2),
            },
            Timestamp::UNIX_EPOCH,
        )
    }

    fn said<'a>(status: &'a TrainingNetworkStatus, type_: &str) -> (&'a str, &'a str, &'a str) {
        let condition = conditions::find(&status.conditions, type_).unwrap();
        (&condition.status, &condition.reason, &condition.message)
    }

    #[test]
    fn a_network_is_ready_before_its_pods_come_and_after_they_ended() {
        let mut ended = fixtures::pod(0);
        ended.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
        let pod = |index| Arc::new(fixtures::pod(index));
        let wired = [fixtures::attachment(0, true), fixtures::attachment(1, true)];
        for (attachments, pods, reason) in [
            (&[][..], vec![], "WaitingForPods"),
            (&wired[..1], vec![pod(0), pod(1)], "WaitingForPods"),
            (&wired[..], vec![pod(0), pod(1)], "AllAttached"),
            (&[], vec![Arc::new(ended)], "PodsEnded"),
        ] {
            let status = status_of(attachments, &pods);
            let (ready, why, message) = said(&status, "Ready");
            assert_eq!((ready, why), ("True", "Usable"));
            assert!(message.contains("ResourceClaimTemplate llama-rails"), "{message}");
            assert_eq!(said(&status, "Attached").1, reason);
        }
    }

    #[test]
    fn attached_counts_the_pods_that_are_wired() {
        let pods = [Arc::new(fixtures::pod(0)), Arc::new(fixtures::pod(1))];
        let half = status_of(&[fixtures::attachment(0, true), fixtures::attachment(1, false)], &pods);
        assert_eq!(
            said(&half, "Attached"),
            (
                "False",
                "WaitingForPods",
                "1/2 attached, index 1 waits (pod llama-1 is being wired on node1)"
            )
        );
        assert_eq!(half.summary.as_ref().unwrap().attached, "1/2");
        let all = status_of(&[fixtures::attachment(0, true), fixtures::attachment(1, true)], &pods);
        assert_eq!(said(&all, "Attached"), ("True", "AllAttached", "2/2 attached"));
        let (degraded, reason, _) = said(&all, "Degraded");
        assert_eq!((degraded, reason), ("False", "AsDeclared"));
    }

    #[test]
    fn a_network_that_cannot_grow_is_ready_with_the_pods_that_it_has_and_says_why() {
        let network = fixtures::network(4);
        let slice = fixtures::slice(2);
        let seen = Seen {
            network: &network,
            resolved: None,
            reservation: Reservation::Held {
                slice: &slice,
                short: Some("the network stays at 2 pods"),
            },
            attachments: &[fixtures::attachment(0, true), fixtures::attachment(1, true)],
            pods: &[Arc::new(fixtures::pod(0)), Arc::new(fixtures::pod(1))],
            surplus: &[],
        };
        let status = status(&seen, Timestamp::UNIX_EPOCH);
        assert_eq!(said(&status, "Ready").0, "True");
        let (reserved, reason, message) = said(&status, "Reserved");
        assert_eq!((reserved, reason), ("True", "CannotGrow"));
        assert!(message.ends_with("; the network stays at 2 pods"), "{message}");
        assert_eq!(status.summary.as_ref().unwrap().attached, "2/2");
        let said = news(None, &status);
        assert!(said.iter().any(|event| event.reason == "CannotGrow"), "{said:?}");
    }

    #[test]
    fn a_network_without_pods_says_which_label_they_need() {
        let status = status_of(&[], &[]);
        let (_, _, message) = said(&status, "Attached");
        assert_eq!(
            message,
            "0/2 attached, indices 0-1 wait: no pod carries the label railhead.dev/network: llama yet"
        );
        assert_eq!(said(&status, "Reserved").0, "True");
        let summary = status.summary.unwrap();
        assert_eq!(
            (summary.prefix.as_str(), summary.vlan.as_str(), summary.rails),
            ("10.0.0.2/31", "1000", 2)
        );
    }

    #[test]
    fn a_pod_beyond_the_network_is_named_with_the_field_to_change() {
        let status = status_of(&[], &[Arc::new(fixtures::pod(5))]);
        let (_, reason, message) = said(&status, "Attached");
        assert_eq!(reason, "IndexOutOfRange");
        assert!(
            message.contains("pod llama-5") && message.contains("pods: 2"),
            "{message}"
        );
    }

    #[test]
    fn pods_for_which_no_index_is_left_are_named_with_what_to_do() {
        let unnumbered = |number| {
            let mut pod = fixtures::pod(number);
            pod.labels_mut().remove(railhead_crds::names::JOB_COMPLETION_INDEX);
            Arc::new(pod)
        };
        let pods: Vec<_> = (0..4).map(unnumbered).collect();
        let wired = [fixtures::attachment(0, true), fixtures::attachment(1, true)];
        let status = status_of(&wired, &pods);
        let (attached, reason, message) = said(&status, "Attached");
        assert_eq!((attached, reason), ("False", "Oversubscribed"));
        assert!(
            message.starts_with("2/2 attached; no index is left for 2 of its pods")
                && message.contains("llama-2, llama-3"),
            "{message}"
        );
        assert!(message.ends_with("or apply a network with pods: 4"), "{message}");
        assert_eq!(said(&status, "Ready").0, "True", "the others can use it");
        assert_eq!(news(None, &status)[1].reason, "Oversubscribed");
    }

    #[test]
    fn a_refused_network_shows_the_refusal_as_its_reason_and_no_prefix() {
        let network = fixtures::network(2);
        let seen = Seen {
            network: &network,
            resolved: None,
            reservation: Reservation::Refused {
                reason: Reason::PoolExhausted,
                message: "no room",
            },
            attachments: &[],
            pods: &[],
            surplus: &[],
        };
        let status = status(&seen, Timestamp::UNIX_EPOCH);
        assert_eq!(said(&status, "Ready"), ("False", "PoolExhausted", "no room"));
        assert_eq!(said(&status, "Reserved").1, "PoolExhausted");
        assert!(status.summary.is_none());
        assert_eq!(news(None, &status)[0].reason, "PoolExhausted");
        assert!(news(Some(&status), &status).is_empty(), "said once");
    }

    #[test]
    fn a_network_deleted_under_running_pods_names_them_and_keeps_the_rest_of_its_status() {
        let mut network = fixtures::network(2);
        network.status = Some(status_of(&[fixtures::attachment(0, true)], &[]));
        let names = ["llama-0".to_owned(), "llama-1".to_owned()];
        let status = deleting(&network, &names, Timestamp::UNIX_EPOCH);
        let (ready, reason, message) = said(&status, "Ready");
        assert_eq!((ready, reason), ("False", "DeletingWaitingForPods"));
        assert!(message.contains("2 pods still attached: llama-0, llama-1"), "{message}");
        assert_eq!(said(&status, "Reserved").0, "True");
        assert_eq!(status.summary, network.status.unwrap().summary);
    }
}
