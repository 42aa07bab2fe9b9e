//! A small cluster for tests: a fabric of two rails on two nodes, a network of two pods of which one is attached.

use serde_json::{Value, json};

use crate::cluster::{self, Cluster};

/// The moment at which it is looked at.
pub(crate) const NOW: &str = "2026-01-01T00:10:00Z";
/// When things were made.
const MADE: &str = "2026-01-01T00:00:00Z";

/// These objects, in namespace `team-a`.
pub(crate) fn cluster(objects: Vec<Value>) -> Cluster {
    cluster::of_objects(objects, Some("team-a"), NOW)
}

/// All of the objects below.
pub(crate) fn all() -> Vec<Value> {
    vec![
        fabric(),
        node("gpu-0", "True"),
        node("gpu-1", "True"),
        node_network("gpu-0"),
        node_network("gpu-1"),
        network("llama", 2),
        slice("llama", 2),
        pod("llama-0", 0, Some("gpu-0")),
        attachment("llama", 0, "llama-0", "gpu-0"),
        ledger(),
    ]
}

pub(crate) fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": MADE})
}

fn meta(namespace: Option<&str>, name: &str) -> Value {
    json!({"name": name, "namespace": namespace, "uid": format!("uid-of-{name}"), "creationTimestamp": MADE})
}

pub(crate) fn fabric() -> Value {
    let rail = |id: u32| {
        json!({"id": id, "name": format!("rail{id}"), "ports": [{"netdev": format!("eth_r{id}")}],
            "pools": [{"cidr": format!("10.{id}.0.0/16")}]})
    };
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric", "metadata": meta(None, "backend"),
        "spec": {"default": true, "vlan": {"range": {"min": 1000, "max": 1999}}, "rails": [rail(0), rail(1)]},
        "status": {"nodes": "2/2", "rails": 2, "ipv4Used": "1%", "vlansFree": 999,
            "pools": [{"rail": 0, "used": "1%", "largestFree": "/17"}, {"rail": 1, "used": "1%", "largestFree": "/17"}],
            "conditions": [
                condition("Ready", "True", "AllReady", "2/2 nodes have all ports"),
                condition("NodesReady", "True", "AllReady", "2/2 nodes have all ports"),
                condition("Default", "True", "Default", "networks that name no fabric get this one"),
            ]},
    })
}

pub(crate) fn node(name: &str, ready: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": meta(None, name),
        "status": {"conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:04:00Z",
            "message": "Kubelet stopped posting node status."}]},
    })
}

pub(crate) fn node_network(name: &str) -> Value {
    let port = |rail: u32| {
        json!({"rail": rail, "pciAddress": format!("0000:18:00.{rail}"), "netdev": format!("eth_r{rail}"), "driver": "mlx5_core",
            "speed": "400G", "rdmaDevice": format!("mlx5_{rail}"), "vfs": {"used": 1, "total": 8}, "state": "Healthy"})
    };
    let rail = |id: u32| json!({"id": id, "name": format!("rail{id}"), "netdev": format!("eth_r{id}"), "vfs": 8});
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": meta(None, name),
        "spec": {"fabricName": "backend", "vfManagement": "Observed", "mtu": 9000, "rails": [rail(0), rail(1)]},
        "status": {"ports": [port(0), port(1)], "conditions": [condition("Ready", "True", "Ready", "2/2 rails are healthy")]},
    })
}

pub(crate) fn network(name: &str, pods: u32) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork", "metadata": meta(Some("team-a"), name),
        "spec": {"pods": pods},
        "status": {"fabricName": "backend", "qosClassName": "production", "summary": {"attached": format!("1/{pods}"),
            "rails": 2, "prefix": "10.0.0.0/31", "vlan": "1000", "stability": "Network"}, "conditions": [
            condition("Ready", "True", "Usable", "pods get claims"),
            condition("Reserved", "True", "Reserved", "2 addresses per rail"),
            condition("Attached", "False", "WaitingForPods", &format!("1/{pods} attached, index 1 waits")),
            condition("Degraded", "False", "AsDeclared", "no pod reports less than was declared"),
        ]},
    })
}

pub(crate) fn slice(network: &str, pods: u32) -> Value {
    let rail = |id: u32| {
        json!({"id": id, "name": format!("rail{id}"), "vlan": 1000,
            "prefixes": [{"prefix": format!("10.{id}.0.0/31"), "pool": format!("10.{id}.0.0/16")}]})
    };
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice", "metadata": meta(Some("team-a"), &format!("{network}-0a1b2c3d")),
        "spec": {
            "network": {"name": network, "uid": format!("uid-of-{network}")},
            "fabric": {"name": "backend", "uid": "uid-of-backend", "mtu": 9000, "linkType": "RoCE", "softRoCE": "Never"},
            "pods": pods, "base": 0, "capacity": pods, "ledgerSequence": 1,
            "qos": {"className": "production", "dscp": 26, "priority": 3, "guaranteed": "10G", "trust": false, "spoofCheck": true},
            "rails": [rail(0), rail(1)],
        },
    })
}

pub(crate) fn pod(name: &str, index: u32, node: Option<&str>) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": meta(Some("team-a"), name),
        "spec": {"nodeName": node}, "status": {"phase": "Pending"},
    });
    let number = index.to_string();
    pod["metadata"]["labels"] =
        json!({"railhead.dev/network": "llama", "batch.kubernetes.io/job-completion-index": number, "team": "x"});
    pod["metadata"]["annotations"] = json!({"railhead.dev/attach": "llama", "other": "x"});
    pod
}

pub(crate) fn attachment(network: &str, index: u32, pod: &str, node: &str) -> Value {
    let rail = |id: u32| {
        json!({"id": id, "vf": format!("0000:18:0{id}.3"), "addresses": [format!("10.{id}.0.{index}/16")],
            "mac": format!("02:00:00:0{id}:00:00"), "vlan": 1000, "rdmaDevice": format!("mlx5_1{id}"), "gidIndex": 3, "state": "Wired"})
    };
    let slice = format!("{network}-0a1b2c3d");
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment", "metadata": meta(Some("team-a"), &format!("{slice}-{index}")),
        "spec": {"sliceName": slice, "index": index, "podName": pod, "podUID": format!("uid-of-{pod}"), "claimUID": "c", "nodeName": node},
        "status": {"summary": "2/2", "preparedAt": "2026-01-01T00:01:00Z", "rails": [rail(0), rail(1)],
            "conditions": [condition("Wired", "True", "Wired", "2 rails")]},
    })
}

pub(crate) fn ledger() -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": meta(None, "backend"),
        "spec": {"version": 1, "sequence": 1, "entries": [{"base": 0, "size": 2, "vlan": 1000, "sequence": 1, "state": "Held",
            "owner": {"namespace": "team-a", "name": "llama", "uid": "uid-of-llama"}}]},
    })
}
