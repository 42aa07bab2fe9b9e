//! What is left out of the stored objects: at thousands of pods, what nobody reads would be most of the memory.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceClaimTemplate;
use kube::{Resource, ResourceExt as _};
use railhead_crds::{
    NetworkAttachment, NetworkAttachmentStatus, NodeNetwork,
    names::{ATTACH_ANNOTATION, NETWORK_LABEL, REQUEUE_ANNOTATION},
};
use railhead_planner::{claim, index};

use crate::known::{Namespace, Node, Pod};

/// Every object: who wrote which field is of no interest here.
pub(crate) fn metadata<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// A pod: node, phase, whether it was scheduled, claims, whose it is and what its workload numbers it by. Containers, volumes and environment are not even read.
pub(crate) fn pod(pod: &mut Pod) {
    metadata(pod);
    keep(pod.labels_mut(), |key| {
        key == NETWORK_LABEL || index::READ.contains(&key)
    });
    keep(pod.annotations_mut(), |key| {
        [ATTACH_ANNOTATION, REQUEUE_ANNOTATION].contains(&key) || index::READ.contains(&key)
    });
    pod.metadata.generate_name = None;
    if let Some(status) = &mut pod.status {
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|condition| condition.type_ == "PodScheduled");
            for condition in conditions.iter_mut() {
                condition.message = None;
            }
            conditions.shrink_to_fit();
        }
        if let Some(claims) = &mut status.resource_claim_statuses {
            claims.shrink_to_fit();
        }
    }
}

/// An attachment: of which pod it is, and whether that is wired as declared; nothing of its rails.
pub(crate) fn attachment(attachment: &mut NetworkAttachment) {
    metadata(attachment);
    attachment.metadata.owner_references = None;
    attachment.metadata.annotations = None;
    keep(attachment.labels_mut(), |key| key == NETWORK_LABEL);
    if let Some(status) = &mut attachment.status {
        let mut conditions = std::mem::take(&mut status.conditions);
        conditions.retain(|condition| ["Wired", "Degraded"].contains(&condition.type_.as_str()));
        conditions.shrink_to_fit();
        *status = NetworkAttachmentStatus {
            conditions,
            ..NetworkAttachmentStatus::default()
        };
    }
}

/// What a node should have, and of what it has: whether that is right, and how fast.
pub(crate) fn node_network(node: &mut NodeNetwork) {
    metadata(node);
    node.spec.rails.shrink_to_fit();
    if let Some(status) = &mut node.status {
        status.summary = None;
        status.chain = None;
        for port in &mut status.ports {
            port.pci_address = String::new();
            port.driver = String::new();
            port.rdma_device = None;
        }
        status.ports.shrink_to_fit();
        status
            .conditions
            .retain(|condition| ["Ready", "TornDown"].contains(&condition.type_.as_str()));
        status.conditions.shrink_to_fit();
    }
}

/// A Node: its labels, whether it is out of service, and which addresses it and its pods have.
pub(crate) fn node(node: &mut Node) {
    metadata(node);
    node.metadata.annotations = None;
    node.metadata.owner_references = None;
}

/// A Namespace: its labels.
pub(crate) fn namespace(namespace: &mut Namespace) {
    metadata(namespace);
    namespace.metadata.annotations = None;
    namespace.metadata.owner_references = None;
    namespace.metadata.finalizers = None;
}

/// A claim template: whose it is, and of a network's what it asks for.
pub(crate) fn template(template: &mut ResourceClaimTemplate) {
    metadata(template);
    template.metadata.annotations = None;
    template.spec.metadata = None;
    if claim::network_of_template(template).is_none() {
        template.spec.spec.devices = None;
    }
}

fn keep(map: &mut BTreeMap<String, String>, is_read: impl Fn(&str) -> bool) {
    map.retain(|key, _| is_read(key));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::fixtures;

    #[test]
    fn of_a_pod_is_kept_what_is_read_and_nothing_of_its_containers() {
        let mut found = fixtures::pod(1);
        found.metadata.annotations = Some([("other".to_owned(), "x".to_owned())].into());
        let jobset = "jobset.sigs.k8s.io/jobset-name";
        found.labels_mut().insert(jobset.to_owned(), "train".to_owned());
        found.labels_mut().insert("team".to_owned(), "a".to_owned());
        found.spec = serde_json::from_value(json!({"nodeName": "node1", "containers": [{"name": "train"}]})).unwrap();
        found.status = serde_json::from_value(json!({"phase": "Pending", "podIP": "10.0.0.1", "conditions": [
            {"type": "Ready", "status": "False"},
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/5000 nodes"}]}))
        .unwrap();
        pod(&mut found);
        let spec = found.spec.as_ref().unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("node1"));
        let status = found.status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Pending"));
        assert_eq!(status.conditions.unwrap().len(), 1);
        assert!(found.metadata.annotations.as_ref().unwrap().is_empty());
        let labels: Vec<String> = found.metadata.labels.unwrap().into_keys().collect();
        assert_eq!(
            labels,
            [
                "batch.kubernetes.io/job-completion-index",
                jobset,
                "railhead.dev/network"
            ]
        );
        assert!(
            found.metadata.owner_references.is_some(),
            "its Job is named in an event"
        );
    }

    #[test]
    fn an_attachment_still_says_whether_it_is_wired_and_as_declared() {
        let mut found = (*fixtures::attachment(0, true)).clone();
        let status = found.status.as_mut().unwrap();
        let mut other = status.conditions[0].clone();
        other.type_ = "Prepared".to_owned();
        status.conditions.push(other);
        status.summary = Some("8/8".to_owned());
        attachment(&mut found);
        assert!(crate::network::is_wired(&found));
        let status = found.status.unwrap();
        assert_eq!((status.conditions.len(), status.summary), (1, None));
    }
}
