//! The objects that the tests start from. Each is valid; a test changes what it is about.

use serde_json::{Value, json};

/// A Fabric with two rails for the nodes that [`crate::simulated_node`] labels with its name.
pub(crate) fn fabric(name: &str) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "Fabric",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test.railhead.dev/fabric": name}},
            "vlan": {"mode": "PerNetwork", "range": {"min": 1000, "max": 1999}},
            "rails": [
                {"id": 0, "name": "rail0", "ports": [{"pciAddress": "0000:18:00.0"}], "pools": [{"cidr": "10.100.0.0/16"}]},
                {"id": 1, "name": "rail1", "ports": [{"pciAddress": "0000:18:00.1"}], "pools": [{"cidr": "10.101.0.0/16"}]},
            ],
        },
    })
}

/// A TrainingNetwork on a fabric.
pub(crate) fn network(namespace: &str, name: &str, fabric: &str, pods: u32) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "TrainingNetwork",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"pods": pods, "fabricName": fabric},
    })
}

/// A pod with the one label, as an index of an Indexed Job.
pub(crate) fn pod(namespace: &str, name: &str, network: &str, index: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"railhead.dev/network": network, "batch.kubernetes.io/job-completion-index": index.to_string()},
            "annotations": {"batch.kubernetes.io/job-completion-index": index.to_string()},
        },
        "spec": {"containers": [{"name": "train", "image": "train"}]},
    })
}

/// The record by which an agent takes an index.
pub(crate) fn attachment(namespace: &str, slice: &str, index: u32, node: &str) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "NetworkAttachment",
        "metadata": {
            "name": format!("{slice}-{index}"),
            "namespace": namespace,
            "labels": {"railhead.dev/slice": slice, "railhead.dev/node": node, "railhead.dev/network": "test"},
        },
        "spec": {
            "sliceName": slice,
            "index": index,
            "podName": format!("pod-{index}"),
            "podUID": "00000000-0000-4000-8000-000000000001",
            "claimUID": "00000000-0000-4000-8000-000000000002",
            "nodeName": node,
        },
    })
}
