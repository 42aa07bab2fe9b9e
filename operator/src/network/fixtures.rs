//! A network of two rails, as the tests of the operator use it.

use std::{sync::Arc, time::Duration};

use kube::Client;
use railhead_crds::{Fabric, LedgerOwner, NetworkAttachment, NetworkSlice, QosClass, TrainingNetwork, names};
use railhead_planner::{
    ledger::{Request, Wanted, empty, reserve},
    network::{Resolved, resolve, slice as slice_of, takes},
    pools::Written,
    quota::Bounds,
    slots::SlotSpace,
    tenant::Tenant,
};
use railhead_service::events::Recorder;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::Context;
use crate::{known::Pod, metrics::Metrics, observe::Named, reservations, world::World};

const NO_NODES: &[railhead_crds::NodeNetwork] = &[];

pub(crate) const UID: &str = "7f3a9c21-0000-4000-8000-000000000000";

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

pub(crate) fn context(client: Client, world: World) -> Context {
    let (reservations, _) =
        reservations::start(client.clone(), world.clone(), Arc::new(Metrics::new()), Duration::ZERO);
    Context {
        recorder: Arc::new(Recorder::new(
            client.clone(),
            "railhead.dev/operator",
            "test".to_owned(),
        )),
        client,
        world,
        reservations,
        resync: Duration::from_mins(5),
        turns: Semaphore::new(super::WRITTEN_AT_ONCE),
        made: super::Made::default(),
    }
}

/// In the namespace of all of these.
pub(crate) fn named(name: &str) -> Named {
    Named::within("team-a", name)
}

pub(crate) fn fabric() -> Fabric {
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric",
        "metadata": {"name": "backend", "uid": "f-1"},
        "spec": {
            "default": true,
            "vlan": {"range": {"min": 1000, "max": 1999}},
            "rails": [
                {"id": 0, "name": "rail0", "ports": [{"netdev": "eth1"}], "pools": [{"cidr": "10.0.0.0/24"}]},
                {"id": 1, "name": "rail1", "ports": [{"netdev": "eth2"}], "pools": [{"cidr": "10.1.0.0/24"}]},
            ],
        },
    }))
}

pub(crate) fn network(pods: u32) -> TrainingNetwork {
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "metadata": {"name": "llama", "namespace": "team-a", "uid": UID, "generation": 1},
        "spec": {"pods": pods},
    }))
}

pub(crate) fn resolved(network: &TrainingNetwork) -> Resolved {
    let class: QosClass = from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "production"},
        "spec": {"default": true, "dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "200M", "maximum": "400M"}},
    }));
    let anybody = Tenant {
        namespace: "team-a",
        has: &|_, _| false,
    };
    resolve(network, &anybody, &[fabric()], &[class], NO_NODES).unwrap()
}

const NO_SLICES: &[NetworkSlice] = &[];

pub(crate) fn slice(pods: u32) -> NetworkSlice {
    let network = network(pods);
    let space = SlotSpace::new(&fabric().spec.rails).unwrap();
    let request = Request {
        owner: LedgerOwner::new("team-a", "llama", UID),
        wanted: Wanted::Block {
            pods,
            takes: takes(&network, &resolved(&network)),
            written: Written::of_fabric(&fabric(), Vec::new()).into(),
        },
    };
    let entry = reserve(&empty(), NO_SLICES, &[request], &Bounds::default())
        .results
        .remove(0)
        .unwrap();
    slice_of(&network, &resolved(&network), &space, &entry).unwrap()
}

pub(crate) fn attachment(index: u32, wired: bool) -> Arc<NetworkAttachment> {
    let slice = names::slice("llama", UID);
    Arc::new(from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
        "metadata": {"name": names::attachment(&slice, index), "namespace": "team-a"},
        "spec": {"sliceName": slice, "index": index, "podName": format!("llama-{index}"), "podUID": format!("p-{index}"),
            "claimUID": format!("c-{index}"), "nodeName": "node1"},
        "status": {"conditions": [{"type": "Wired", "status": if wired { "True" } else { "False" }, "reason": "x",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })))
}

pub(crate) fn pod(index: u32) -> Pod {
    from(json!({
        "metadata": {"name": format!("llama-{index}"), "namespace": "team-a", "uid": format!("p-{index}"),
            "labels": {"railhead.dev/network": "llama", "batch.kubernetes.io/job-completion-index": index.to_string()},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "llama", "uid": "j-1"}]},
        "status": {"phase": "Pending"},
    }))
}
