//! Objects as kubelets, the scheduler and agents write them, of a size as on nodes with eight ports of 400G.

use serde_json::{Value, json};

/// Ports of a node, and rails of the fabric.
pub(crate) const RAILS: usize = 8;
/// The fabric of all nodes.
pub(crate) const FABRIC: &str = "backend";
/// Its class, which lets a network ask for a whole port.
pub(crate) const CLASS: &str = "scale";
/// What a pod is guaranteed of each port.
const GUARANTEE: &str = "50G";
const TIME: &str = "2026-01-01T00:00:00Z";

pub(crate) fn node_name(number: usize) -> String {
    format!("gpu-node-{number:05}")
}

pub(crate) fn fabric() -> Value {
    let rails: Vec<Value> = (0..RAILS)
        .map(|rail| {
            json!({
                "id": rail, "name": format!("rail{rail}"),
                "ports": [{"pciAddress": pci(rail, 0)}],
                "pools": [{"cidr": format!("10.{}.0.0/14", 4 * rail)}],
            })
        })
        .collect();
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric", "metadata": {"name": FABRIC},
        "spec": {
            "nodeSelector": {"matchLabels": {"scale.railhead.dev/rails": "8"}},
            "vlan": {"mode": "PerNetwork", "range": {"min": 1, "max": 4094}},
            "rails": rails,
        },
    })
}

pub(crate) fn class() -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": CLASS},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": GUARANTEE}},
    })
}

/// A Node with as many labels as feature discovery and a cloud give it.
pub(crate) fn node(number: usize) -> Value {
    let name = node_name(number);
    let mut labels = json!({
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
        "node.kubernetes.io/instance-type": "gpu.8x.large", "topology.kubernetes.io/zone": "zone-a",
        "topology.kubernetes.io/region": "region-1", "scale.railhead.dev/rails": "8",
        "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8", "nvidia.com/gpu.memory": "81559",
    });
    for feature in 0..30 {
        labels[format!("feature.node.kubernetes.io/cpu-cpuid.FEATURE{feature}")] = json!("true");
    }
    let resources = json!({"cpu": "192", "memory": "2Ti", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels},
        "status": {
            "capacity": resources, "allocatable": resources,
            "nodeInfo": {"kernelVersion": "6.12.0", "osImage": "Linux", "containerRuntimeVersion": "containerd://2.1.0",
                "kubeletVersion": "v1.36.3", "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
                "machineID": "", "systemUUID": "", "bootID": ""},
            "conditions": heartbeat(TIME),
        },
    })
}

/// The conditions that a kubelet writes every five minutes.
pub(crate) fn heartbeat(time: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "kubelet says so",
            "lastHeartbeatTime": time, "lastTransitionTime": TIME})
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ])
}

fn pci(rail: usize, function: usize) -> String {
    format!("0000:{:02x}:{:02x}.{}", 0x18 + 0x10 * rail, function / 8, function % 8)
}

/// What an agent reports: `used` VFs of each port have a pod.
pub(crate) fn report(node: &str, used: usize) -> Value {
    let ports: Vec<Value> = (0..RAILS)
        .map(|rail| {
            json!({
                "rail": rail, "pciAddress": pci(rail, 0), "netdev": format!("ens{rail}f0np0"), "driver": "mlx5_core",
                "speed": "400G", "rdmaDevice": format!("mlx5_{rail}"), "numaNode": rail / 4,
                "vfs": {"used": used, "total": 8}, "state": "Healthy",
            })
        })
        .collect();
    let conditions: Vec<Value> = ["Ready", "PortsReady", "ChainReady", "CdiReady", "RdmaReady"]
        .iter()
        .map(|kind| {
            json!({"type": kind, "status": "True", "reason": "AsDeclared", "observedGeneration": 1,
                "message": "8/8 rails have a port with a signal and free functions", "lastTransitionTime": TIME})
        })
        .collect();
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": node},
        "status": {
            "observedGeneration": 1,
            "summary": {"rails": format!("{RAILS}/{RAILS}"), "vfs": format!("{}/{}", used * RAILS, 8 * RAILS)},
            "ports": ports, "chain": {"network": "kindnet", "loaded": true}, "conditions": conditions,
        },
    })
}

/// The ports of a node for the scheduler; rail 0 as fast as is said.
pub(crate) fn devices(speed_of_rail0: &str) -> Value {
    (0..RAILS)
        .map(|rail| {
            let speed = if rail == 0 { speed_of_rail0 } else { "400G" };
            json!({
                "name": format!("rail{rail}"),
                "allowMultipleAllocations": true,
                "attributes": {
                    "railhead.dev/rail": {"int": rail}, "railhead.dev/fabric": {"string": FABRIC},
                    "resource.kubernetes.io/pciBusID": {"string": pci(rail, 0)},
                    "resource.kubernetes.io/pcieRoot": {"string": format!("pci0000:{:02x}", 0x18 + 0x10 * rail)},
                    "resource.kubernetes.io/numaNode": {"int": rail / 4},
                },
                "capacity": {
                    "bandwidth": {"value": speed,
                        "requestPolicy": {"default": "1M", "validRange": {"min": "1M", "step": "1M"}}},
                    "vfs": {"value": "8", "requestPolicy": {"default": "1", "validRange": {"min": "1", "max": "1"}}},
                },
            })
        })
        .collect()
}

pub(crate) fn resource_slice(node: &str) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": format!("railhead-{node}")},
        "spec": {
            "driver": "railhead.dev", "nodeName": node,
            "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
            "devices": devices("400G"),
        },
    })
}

pub(crate) fn network(namespace: &str, name: &str, pods: usize) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"pods": pods, "fabricName": FABRIC, "qosClassName": CLASS},
    })
}

/// A pod of an Indexed Job, with what a training pod usually carries.
pub(crate) fn pod(namespace: &str, network: &str, index: usize, node: Option<&str>) -> Value {
    let environment: Vec<Value> = (0..20)
        .map(|number| json!({"name": format!("SETTING_{number}"), "value": "a value of some length, as they are"}))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod_name(network, index), "namespace": namespace,
            "labels": {"railhead.dev/network": network, "batch.kubernetes.io/job-completion-index": index.to_string(),
                "batch.kubernetes.io/job-name": network, "batch.kubernetes.io/controller-uid": UID, "team": namespace},
            "annotations": {"batch.kubernetes.io/job-completion-index": index.to_string()},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": network, "uid": UID, "controller": true}],
        },
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "containers": [{"name": "train", "image": "registry.example.com/train:1", "env": environment,
                "resources": {"requests": {"cpu": "100m"}}}],
        },
    });
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

const UID: &str = "00000000-0000-4000-8000-000000000001";

/// As the pods of an Indexed Job are named.
pub(crate) fn pod_name(network: &str, index: usize) -> String {
    format!("{network}-{index}-x7k2p")
}

pub(crate) fn claim_name(pod: &str) -> String {
    format!("{pod}-railhead-x7k2p")
}

/// The claim that Kubernetes makes for a pod from its network's template, whose spec is `spec`.
pub(crate) fn claim(namespace: &str, pod: &str, pod_uid: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {
            "name": claim_name(pod), "namespace": namespace,
            "annotations": {"resource.kubernetes.io/pod-claim-name": "railhead"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": pod_uid, "controller": true,
                "blockOwnerDeletion": true}],
        },
        "spec": spec,
    })
}

/// What the scheduler writes into it.
pub(crate) fn allocation(node: &str, pod: &str, pod_uid: &str, spec: &Value, number: usize) -> Value {
    let results: Vec<Value> = (0..RAILS)
        .map(|rail| {
            json!({
                "request": format!("rail{rail}"), "driver": "railhead.dev", "pool": node, "device": format!("rail{rail}"),
                "shareID": format!("00000000-0000-4000-8000-{number:011x}{rail:01x}"),
                "consumedCapacity": {"bandwidth": GUARANTEE, "vfs": "1"},
            })
        })
        .collect();
    let mut config = spec["devices"]["config"].clone();
    for entry in config.as_array_mut().into_iter().flatten() {
        entry["source"] = json!("FromClaim");
    }
    json!({"status": {
        "allocation": {
            "devices": {"results": results, "config": config},
            "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": [node]}]}]},
        },
        "reservedFor": [{"resource": "pods", "name": pod, "uid": pod_uid}],
    }})
}

/// What a kubelet says of a pod that runs.
pub(crate) fn running(pod: &str) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": TIME});
    json!({"status": {
        "phase": "Running", "podIP": "10.200.1.1", "podIPs": [{"ip": "10.200.1.1"}], "startTime": TIME,
        "conditions": [condition("PodScheduled"), condition("Initialized"), condition("Ready"), condition("ContainersReady")],
        "resourceClaimStatuses": [{"name": "railhead", "resourceClaimName": claim_name(pod)}],
        "containerStatuses": [{"name": "train", "image": "registry.example.com/train:1", "imageID": "sha256:1", "ready": true,
            "restartCount": 0, "started": true, "state": {"running": {"startedAt": TIME}}}],
    }})
}

/// What the scheduler says of a pod for which it found no node.
pub(crate) fn unschedulable() -> Value {
    json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/5000 nodes are available", "lastTransitionTime": TIME}]}})
}

pub(crate) fn attachment(
    namespace: &str,
    network: &str,
    slice: &str,
    index: usize,
    node: &str,
    pod_uid: &str,
) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
        "metadata": {
            "name": format!("{slice}-{index}"), "namespace": namespace,
            "finalizers": ["railhead.dev/unwired"],
            "labels": {"railhead.dev/slice": slice, "railhead.dev/node": node, "railhead.dev/network": network},
        },
        "spec": {"sliceName": slice, "index": index, "podName": pod_name(network, index), "podUID": pod_uid,
            "claimUID": UID, "nodeName": node},
    })
}

/// What an agent says of an attachment that is wired.
pub(crate) fn wired(namespace: &str, slice: &str, index: usize) -> Value {
    let rails: Vec<Value> = (0..RAILS)
        .map(|rail| {
            json!({"id": rail, "vf": pci(rail, 1 + index % 7), "addresses": [format!("10.{}.1.{}/27", 4 * rail, index)],
                "mac": format!("02:00:00:00:{rail:02x}:{index:02x}"), "vlan": 100, "rdmaDevice": format!("mlx5_{}", 8 + rail),
                "gidIndex": 3, "state": "Wired"})
        })
        .collect();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": "8/8 rails are wired",
            "observedGeneration": 1, "lastTransitionTime": TIME})
    };
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
        "metadata": {"name": format!("{slice}-{index}"), "namespace": namespace},
        "status": {
            "preparedAt": TIME, "summary": format!("{RAILS}/{RAILS}"), "rails": rails,
            "conditions": [condition("Prepared", "True", "Prepared"), condition("Wired", "True", "Wired"),
                condition("Degraded", "False", "AsDeclared")],
        },
    })
}
