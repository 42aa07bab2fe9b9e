//! Attachments: each has a slice, a pod and a node that are there, and the addresses of its index.

use std::collections::BTreeMap;

use ipnet::IpNet;
use railhead_crds::{AttachedRail, NetworkAttachment, NetworkSlice, names};
use railhead_planner::attachment::address_of;

use super::{
    finding::{self, Check, Finding, Remedy},
    repair::{Kind, Repair},
    seen::Seen,
    twice::Twice,
};
use crate::cluster::key;

/// What a person does about a pod that must not go on.
pub(super) const DELETE_POD: &str = "delete the pod; its workload makes it anew";

pub(super) fn check(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let mut twice = Twice::default();
    for attachment in &seen.cluster.attachments {
        let namespace = key(&attachment.metadata).0;
        let slice = seen.slice(namespace, &attachment.spec.slice_name);
        match slice {
            Some(slice) => place(attachment, slice, found),
            None => without_slice(seen, attachment, found),
        }
        pod(seen, attachment, found);
        marks(attachment, found);
        twice.note(attachment, slice);
    }
    twice.tell(found);
}

pub(super) fn rails(attachment: &NetworkAttachment) -> &[AttachedRail] {
    attachment.status.as_ref().map_or(&[], |status| &status.rails)
}

/// The index lies in the slice, and gives the addresses.
fn place(attachment: &NetworkAttachment, slice: &NetworkSlice, found: &mut Vec<Finding>) {
    let index = attachment.spec.index;
    if index >= slice.spec.capacity {
        found.push(Finding::new(
            Check::IndexOutOfRange,
            finding::attachment(&attachment.metadata),
            format!(
                "index {index} is beyond the {} that {} has",
                slice.spec.capacity,
                finding::slice(&slice.metadata)
            ),
            DELETE_POD,
            Remedy::by_hand("its pod may use an address of another network"),
        ));
        return;
    }
    for rail in rails(attachment) {
        let Some(of_slice) = slice.spec.rails.iter().find(|of_slice| of_slice.id == rail.id) else {
            let text = format!("its pod has rail {}, and its slice does not", rail.id);
            other(attachment, text, found);
            return;
        };
        let wanted = of_slice.prefixes.iter().filter_map(|block| match block.prefix {
            IpNet::V4(prefix) => address_of(prefix, index).map(|address| address.to_string()),
            IpNet::V6(_) => None,
        });
        let wanted: Vec<String> = wanted.collect();
        let host = |address: &String| address.split('/').next().unwrap_or_default().to_owned();
        // Of addresses of a later release nothing is known here.
        let has: Vec<String> = rail
            .addresses
            .iter()
            .map(host)
            .filter(|address| !address.contains(':'))
            .collect();
        if has.iter().any(|address| !wanted.contains(address)) || rail.vlan != of_slice.vlan {
            let vlan = |vlan: Option<u16>| vlan.map_or("no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"));
            let text = format!(
                "its pod has {} and {} on {}; index {index} has {} and {}",
                has.join(", "),
                vlan(rail.vlan),
                of_slice.name,
                wanted.join(", "),
                vlan(of_slice.vlan)
            );
            other(attachment, text, found);
            return;
        }
    }
}

fn other(attachment: &NetworkAttachment, text: String, found: &mut Vec<Finding>) {
    found.push(Finding::new(
        Check::AttachmentOtherAddress,
        finding::attachment(&attachment.metadata),
        text,
        DELETE_POD,
        Remedy::by_hand("a pod's addresses do not change while it runs"),
    ));
}

fn without_slice(seen: &Seen<'_>, attachment: &NetworkAttachment, found: &mut Vec<Finding>) {
    // Of one whose pod is gone that is told.
    if seen.pod(&attachment.spec.pod_uid).is_none() {
        return;
    }
    found.push(Finding::new(
        Check::AttachmentWithoutSlice,
        finding::attachment(&attachment.metadata),
        format!(
            "its NetworkSlice {} is gone, and its addresses may be another's, while pod {} runs on {}",
            attachment.spec.slice_name, attachment.spec.pod_name, attachment.spec.node_name
        ),
        DELETE_POD,
        Remedy::by_hand("its pod runs, and is not ended from here"),
    ));
}

/// Pod and node are there, and agree.
fn pod(seen: &Seen<'_>, attachment: &NetworkAttachment, found: &mut Vec<Finding>) {
    let spec = &attachment.spec;
    let node = seen.node(&spec.node_name);
    let Some(pod) = seen.pod(&spec.pod_uid) else {
        let (text, remedy) = match node {
            None => (
                "its pod and its node are gone",
                Remedy::by_itself("the operator takes it away, within a minute"),
            ),
            Some(node) if node.is_out_of_service() => (
                "its pod is gone, and its node is out of service",
                Remedy::by_itself("the operator takes it away, within a minute"),
            ),
            Some(node) if node.not_ready().is_some() => (
                "its pod is gone, and its node does not answer",
                Remedy::by_hand(
                    "the pod may still run there with its address; only somebody who knows that the node is off can say otherwise",
                ),
            ),
            Some(_) if seen.node_network(&spec.node_name).is_none() => (
                "its pod is gone, and its node is in no Fabric any more",
                Remedy::by_hand("no agent looks after the node, and its functions may be as the pod left them"),
            ),
            Some(_) => (
                "its pod is gone",
                Remedy::by_itself(
                    "the node's agent unwires what is left and gives the index back, within two minutes of its start or within an hour",
                ),
            ),
        };
        found.push(Finding::new(
            Check::PodGone,
            finding::attachment(&attachment.metadata),
            format!("{text} (pod {}, UID {}, node {})", spec.pod_name, spec.pod_uid, spec.node_name),
            "kubectl get pods -n railhead-system -o wide shows whether the operator and the node's agent run; a node that does not come back \
             is deleted, or gets the taint node.kubernetes.io/out-of-service",
            remedy,
        ));
        return;
    };
    if node.is_none() {
        found.push(Finding::new(
            Check::NodeGone,
            finding::attachment(&attachment.metadata),
            format!(
                "node {} is gone, and pod {} is still there as an object",
                spec.node_name, spec.pod_name
            ),
            "nothing: Kubernetes deletes pods of nodes that are gone, and the operator takes the attachment away then",
            Remedy::by_itself("Kubernetes' pod collector deletes the pod within minutes"),
        ));
    } else if pod.spec.node_name.as_ref() != Some(&spec.node_name) {
        let runs = pod.spec.node_name.as_deref().unwrap_or("no node");
        found.push(Finding::new(
            Check::AttachmentOtherNode,
            finding::attachment(&attachment.metadata),
            format!(
                "it says that pod {} is on {}, and the pod is on {runs}",
                spec.pod_name, spec.node_name
            ),
            DELETE_POD,
            Remedy::by_hand("a function of the other node may be held for it"),
        ));
    }
}

/// What others find it and hold it by.
fn marks(attachment: &NetworkAttachment, found: &mut Vec<Finding>) {
    let metadata = &attachment.metadata;
    if metadata.deletion_timestamp.is_some() {
        return;
    }
    let spec = &attachment.spec;
    let wanted = [
        (names::SLICE_LABEL, names::slice_label(&spec.slice_name)),
        (names::NODE_LABEL, names::node_label(&spec.node_name)),
    ];
    let has = |key: &str| {
        metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
    };
    let wrong: BTreeMap<String, String> = wanted
        .into_iter()
        .filter(|(key, value)| has(key) != Some(value))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if !wrong.is_empty() {
        let keys: Vec<&str> = wrong.keys().map(String::as_str).collect();
        found.push(Finding::new(
            Check::AttachmentLabels,
            finding::attachment(metadata),
            format!(
                "its label {} is missing or wrong: its node's agent and the operator do not find it",
                keys.join(" and ")
            ),
            "kubectl railhead fsck --repair",
            Remedy::Repair(Repair::label(Kind::Attachment, metadata, wrong)),
        ));
    }
    let mut finalizers = metadata.finalizers.iter().flatten();
    if !finalizers.any(|finalizer| finalizer == names::ATTACHMENT_FINALIZER) {
        found.push(Finding::new(
            Check::AttachmentUnguarded,
            finding::attachment(metadata),
            format!(
                "the finalizer {} is not on it: deleted now, its index could be another's while its pod is wired",
                names::ATTACHMENT_FINALIZER
            ),
            "nothing, while the agent of the node runs",
            Remedy::by_itself("the node's agent puts it back when it looks at the pod next"),
        ));
    }
}
