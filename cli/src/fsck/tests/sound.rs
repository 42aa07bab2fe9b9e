//! A cluster in which everything fits: made by the planner's own functions, as operator, scheduler and agents make it.

use std::sync::Arc;

use railhead_crds::{Fabric, FabricLedger, LedgerOwner, NetworkSlice, NodeNetwork, QosClass, TrainingNetwork, names};
use railhead_planner::{
    attachment::{address_of, mac},
    claim,
    ledger::{self, Request, Wanted},
    network,
    pools::{self, Written},
    quota::Bounds,
    tenant::Tenant,
};
use serde_json::{Value, json};

/// When it is looked at.
pub(crate) const NOW: &str = "2026-01-01T01:00:00Z";
/// When everything was made.
const MADE: &str = "2026-01-01T00:50:00Z";
pub(crate) const NODES: [&str; 2] = ["gpu-0", "gpu-1"];
const RAILS: [u32; 2] = [0, 1];

/// A network, and how many of its pods are attached.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) pods: u32,
    pub(crate) attached: u32,
}

pub(crate) fn networks() -> Vec<Network> {
    let network = |namespace, name: &str, pods, attached| Network {
        namespace,
        name: name.to_owned(),
        pods,
        attached,
    };
    vec![
        network("team-a", "llama", 4, 2),
        network("team-a", "qwen", 3, 2),
        network("team-b", "gpt", 2, 2),
        network("team-b", "idle", 2, 0),
    ]
}

/// The UID of the network of that name.
pub(crate) fn uid(network: &str) -> String {
    let hash = network
        .bytes()
        .fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
    format!("{hash:08x}-0000-4000-8000-000000000000")
}

/// The name of its slice.
pub(crate) fn slice_name(network: &str) -> String {
    names::slice(network, &uid(network))
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it is valid")
}

/// The object as the API server would give it back.
fn stored<T: serde::Serialize>(object: &T, uid: &str) -> Value {
    let mut object = serde_json::to_value(object).expect("it is written as JSON");
    object["metadata"]["uid"] = json!(uid);
    object["metadata"]["resourceVersion"] = json!("7");
    object["metadata"]["creationTimestamp"] = json!(MADE);
    object
}

fn fabric() -> Fabric {
    let rail = |id: u32| {
        json!({"id": id, "name": format!("rail{id}"), "speed": "400G", "ports": [{"netdev": format!("eth_r{id}")}],
            "pools": [{"cidr": format!("10.{id}.0.0/18")}, {"cidr": format!("10.{}.0.0/20", 8 + id)}]})
    };
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric",
        "metadata": {"name": "backend", "uid": "f-1", "finalizers": [names::FABRIC_FINALIZER]},
        "spec": {"default": true, "vlan": {"range": {"min": 1000, "max": 1999}}, "rails": RAILS.map(rail)},
    }))
}

fn class() -> QosClass {
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "production"},
        "spec": {"default": true, "dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "1G"}},
    }))
}

fn network_of(wanted: &Network) -> TrainingNetwork {
    from(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "uid": uid(&wanted.name), "finalizers": [names::NETWORK_FINALIZER]},
        "spec": {"pods": wanted.pods},
        "status": {"sliceName": slice_name(&wanted.name), "conditions": [
            {"type": "Reserved", "status": "True", "reason": "Reserved", "message": "", "lastTransitionTime": MADE}]},
    }))
}

/// All objects of a cluster with these networks.
pub(crate) fn sound(networks: &[Network]) -> Vec<Value> {
    let (fabric, class) = (fabric(), class());
    let nobody: [NodeNetwork; 0] = [];
    let tenant = Tenant {
        namespace: "team-a",
        has: &|_, _| false,
    };
    let written = Arc::new(Written::of_fabric(&fabric, Vec::new()));
    let resolved: Vec<_> = networks
        .iter()
        .map(|wanted| {
            let network = network_of(wanted);
            let resolved = network::resolve(&network, &tenant, &[&fabric], &[&class], &nobody).expect("it resolves");
            (wanted, network, resolved)
        })
        .collect();
    let requests: Vec<Request> = resolved
        .iter()
        .map(|(wanted, network, resolved)| Request {
            owner: LedgerOwner::new(wanted.namespace, &wanted.name, uid(&wanted.name)),
            wanted: Wanted::Block {
                pods: network.spec.room(),
                takes: network::takes(network, resolved),
                written: Arc::clone(&written),
            },
        })
        .collect();
    let no_slices: [NetworkSlice; 0] = [];
    let outcome = ledger::reserve(&ledger::empty(), &no_slices, &requests, &Bounds::default());
    let ledger = outcome.ledger;
    let mut objects = vec![stored(&fabric, "f-1"), stored(&class, "c-1")];
    let mut wires = Wires::default();
    for ((wanted, network, resolved), entry) in resolved.iter().zip(outcome.results) {
        let entry = entry.expect("there is room");
        let space = pools::recorded(&written.rails, &pools::of_entry(&ledger, &entry));
        let slice = network::slice(network, resolved, &space, &entry).expect("it lies in a pool");
        let template = claim::template(network, resolved);
        objects.push(stored(network, &uid(&wanted.name)));
        objects.push(stored(&slice, &format!("s-{}", wanted.name)));
        let mut template = stored(&template, &format!("t-{}", wanted.name));
        template["apiVersion"] = json!("resource.k8s.io/v1");
        template["kind"] = json!("ResourceClaimTemplate");
        for index in 0..wanted.attached {
            wires.attach(&mut objects, wanted, &slice, &template, index);
        }
        objects.push(template);
    }
    let ledger = FabricLedger::new("backend", ledger);
    objects.push(stored(&ledger, "l-1"));
    for node in NODES {
        wires.node(&mut objects, node);
    }
    objects
}

/// Which functions are taken, and what nodes say of it.
#[derive(Default)]
struct Wires {
    taken: u32,
    held: Vec<(&'static str, Value)>,
}

impl Wires {
    fn attach(&mut self, objects: &mut Vec<Value>, of: &Network, slice: &NetworkSlice, template: &Value, index: u32) {
        let node = NODES[usize::try_from(index).expect("it is small") % NODES.len()];
        let function = self.taken;
        self.taken += 1;
        let spec = &slice.spec;
        let holding = json!({"fabric": spec.fabric.name, "namespace": of.namespace, "name": of.name, "uid": spec.network.uid,
            "base": spec.base, "size": spec.capacity, "vlan": spec.rails[0].vlan, "ledgerSequence": spec.ledger_sequence});
        if !self.held.contains(&(node, holding.clone())) {
            self.held.push((node, holding));
        }
        let pod = format!("{}-{index}", of.name);
        let labels = json!({names::NETWORK_LABEL: of.name, names::JOB_COMPLETION_INDEX: index.to_string()});
        objects.push(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod, "namespace": of.namespace, "uid": format!("p-{pod}"), "labels": labels, "creationTimestamp": MADE},
            "spec": {"nodeName": node}, "status": {"phase": "Running"},
        }));
        let results: Vec<Value> = RAILS
            .iter()
            .map(|rail| {
                json!({"driver": names::DRIVER, "pool": node, "device": names::rail_device(*rail), "request": names::rail_device(*rail),
                    "consumedCapacity": {"bandwidth": "1G", "vfs": "1"}})
            })
            .collect();
        objects.push(json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"name": format!("{pod}-railhead"), "namespace": of.namespace, "uid": format!("c-{pod}"), "resourceVersion": "7",
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": format!("p-{pod}")}]},
            "spec": template["spec"]["spec"],
            "status": {"reservedFor": [{"resource": "pods", "name": pod, "uid": format!("p-{pod}")}],
                "allocation": {"devices": {"results": results}}},
        }));
        let rails: Vec<Value> = spec
            .rails
            .iter()
            .map(|rail| {
                let ipnet::IpNet::V4(prefix) = rail.prefixes[0].prefix else {
                    panic!("it is IPv4")
                };
                let address = address_of(prefix, index).expect("it is in the block");
                json!({"id": rail.id, "vf": format!("0000:{:02x}:{:02x}.{}", 0x18 + rail.id, function / 8, function % 8),
                    "addresses": [format!("{address}/18")], "mac": mac(&spec.fabric.uid, rail.id, spec.base + index).to_string(),
                    "vlan": rail.vlan, "state": "Wired"})
            })
            .collect();
        let slice_name = slice.metadata.name.as_deref().expect("it has one");
        objects.push(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkAttachment",
            "metadata": {"name": names::attachment(slice_name, index), "namespace": of.namespace, "uid": format!("a-{pod}"),
                "resourceVersion": "7", "creationTimestamp": MADE, "finalizers": [names::ATTACHMENT_FINALIZER],
                "labels": {names::SLICE_LABEL: names::slice_label(slice_name), names::NODE_LABEL: node, names::NETWORK_LABEL: of.name}},
            "spec": {"sliceName": slice_name, "index": index, "podName": pod, "podUID": format!("p-{pod}"), "claimUID": format!("c-{pod}"),
                "nodeName": node},
            "status": {"summary": "2/2", "rails": rails},
        }));
    }

    fn node(&self, objects: &mut Vec<Value>, node: &str) {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "uid": format!("n-{node}")},
            "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": MADE}]},
        }));
        let rails =
            RAILS.map(|id| json!({"id": id, "name": format!("rail{id}"), "netdev": format!("eth_r{id}"), "vfs": 128}));
        let held = self.held.iter().filter(|(of, _)| *of == node);
        objects.push(json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": node, "uid": format!("nn-{node}")},
            "spec": {"fabricName": "backend", "vfManagement": "Observed", "mtu": 9000, "rails": rails},
            "status": {"networks": held.map(|(_, held)| held).collect::<Vec<_>>()},
        }));
        let devices = RAILS.map(|rail| {
            json!({"name": names::rail_device(rail), "attributes": {"rail": {"int": rail}, "fabric": {"string": "backend"}},
                "capacity": {"bandwidth": {"value": "400G"}, "vfs": {"value": "128"}}})
        });
        objects.push(json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": format!("{node}-railhead")},
            "spec": {"driver": names::DRIVER, "nodeName": node, "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
                "devices": devices},
        }));
    }
}
