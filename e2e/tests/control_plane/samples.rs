//! The objects that the tests start from. Each is valid; a test changes what it is about.

use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use serde_json::{Value, json};

/// Names of fabrics, each of which has pools of its own: fabrics with the same addresses are in each other's way.
static FABRICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The pools of a fabric, by rail.
pub(crate) fn pools(name: &str) -> [String; 2] {
    let mut names = FABRICS.lock().unwrap_or_else(PoisonError::into_inner);
    let place = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    // Some tests write 10.0 and 10.1 themselves, and 10.96 is the Services'. Behind 10.255 comes 11.0.
    let first = 2 + 2 * place;
    let first = if first < 96 { first } else { first + 2 };
    [first, first + 1].map(|number| format!("{}.{}.0.0/16", 10 + number / 256, number % 256))
}

/// The address of a slot in the only pool of one of the rails of [`fabric`].
pub(crate) fn address(name: &str, rail: usize, slot: u32) -> Result<Ipv4Addr> {
    let [first, second] = pools(name);
    let pool = if rail == 0 { first } else { second };
    let first: Ipv4Addr = pool.trim_end_matches("/16").parse()?;
    Ok(Ipv4Addr::from(u32::from(first) + slot))
}

/// A Fabric with two rails for the nodes that [`crate::simulated_node`] labels with its name.
pub(crate) fn fabric(name: &str) -> Value {
    let pools = pools(name);
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "Fabric",
        "metadata": {"name": name},
        "spec": {
            "nodeSelector": {"matchLabels": {"test.railhead.dev/fabric": name}},
            "vlan": {"mode": "PerNetwork", "range": {"min": 1000, "max": 1999}},
            "rails": [
                {"id": 0, "name": "rail0", "ports": [{"pciAddress": "0000:18:00.0"}], "pools": [{"cidr": pools[0]}]},
                {"id": 1, "name": "rail1", "ports": [{"pciAddress": "0000:18:00.1"}], "pools": [{"cidr": pools[1]}]},
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
