//! The attachment that takes an index.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use railhead_crds::{NetworkAttachment, NetworkAttachmentSpec, names};

use crate::claims::prepare::entitled::Entitled;

/// Owned by nobody: the slice's finalizer waits for it anyway, and a foreground deletion of the network would have the garbage
/// collector take it from a pod that still runs.
pub(super) fn wanted(entitled: &Entitled, index: u32, claim_uid: &str, node: &str) -> NetworkAttachment {
    let pod = entitled.pod_ref();
    let slice = entitled.slice_name();
    let labels = [
        (names::NETWORK_LABEL, entitled.slice.spec.network.name.as_str()),
        (names::SLICE_LABEL, names::slice_label(slice)),
        (names::NODE_LABEL, names::node_label(node)),
    ];
    NetworkAttachment {
        metadata: ObjectMeta {
            name: Some(names::attachment(slice, index)),
            namespace: Some(pod.namespace),
            finalizers: Some(vec![names::ATTACHMENT_FINALIZER.to_owned()]),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        spec: NetworkAttachmentSpec {
            slice_name: slice.to_owned(),
            index,
            pod_name: pod.name,
            pod_uid: pod.uid,
            claim_uid: claim_uid.to_owned(),
            node_name: node.to_owned(),
        },
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use railhead_planner::attachment::ClaimOfPod;
    use serde_json::json;

    use super::*;

    #[test]
    fn no_garbage_collector_takes_an_index_from_a_running_pod() {
        let slice = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice",
            "metadata": {"name": "llama-7f3a9c21", "namespace": "team-a", "uid": "s-1"},
            "spec": {
                "network": {"name": "llama", "uid": "n-1"},
                "fabric": {"name": "backend", "uid": "f-1", "mtu": 9000, "linkType": "RoCE", "softRoCE": "Never"},
                "pods": 8, "base": 64, "capacity": 8, "ledgerSequence": 1, "rails": [],
                "qos": {"className": "gold", "dscp": 26, "priority": 3, "guaranteed": "1G", "trust": false,
                    "spoofCheck": true},
            },
        });
        let network = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork", "metadata": {"name": "llama"},
            "spec": {"pods": 8},
        });
        let pod = json!({"metadata": {"name": "llama-7-x", "namespace": "team-a", "uid": "u1"}});
        let entitled = Entitled {
            pod: serde_json::from_value(pod).unwrap(),
            claim: ClaimOfPod {
                name: "llama-7-x-railhead-y".to_owned(),
                uid: "c1".to_owned(),
            },
            network: serde_json::from_value(network).unwrap(),
            slice: serde_json::from_value(slice).unwrap(),
            rails: Vec::new(),
        };
        let attachment = wanted(&entitled, 7, "c1", "gpu-3");
        assert_eq!(attachment.metadata.name.as_deref(), Some("llama-7f3a9c21-7"));
        assert_eq!(attachment.metadata.owner_references, None);
        let wanted: NetworkAttachmentSpec = serde_json::from_value(json!({"sliceName": "llama-7f3a9c21", "index": 7,
            "podName": "llama-7-x", "podUID": "u1", "claimUID": "c1", "nodeName": "gpu-3"}))
        .unwrap();
        assert_eq!(attachment.spec, wanted);
    }
}
