//! What the controllers read of objects that change all the time. Kubelets write their Nodes every five minutes and agents their
//! NodeNetworks with every pod; hardly any of it concerns anybody.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use kube::{Resource, ResourceExt as _, runtime::reflector::ObjectRef};
use railhead_crds::{Bandwidth, NodeNetwork, TrainingNetwork};
use railhead_planner::ledger::restored::asks;

use crate::{conditions, known::Node, observe::Named, recount, world::World};

/// What was read last.
#[derive(Default)]
pub(crate) struct Facts {
    nodes: HashMap<String, u64>,
    namespaces: HashMap<String, u64>,
    quotas: HashMap<Named, u64>,
    fabrics: HashMap<String, u64>,
    classes: HashMap<String, u64>,
    /// By NodeNetwork.
    for_fabrics: HashMap<String, u64>,
    for_networks: HashMap<String, u64>,
    networks_for_pods: HashMap<Named, u64>,
    slices_for_pods: HashMap<Named, u64>,
    /// By fabric: the entries of its ledger, and whose namespace's each is.
    ledgers: HashMap<String, HashMap<u64, String>>,
}

impl Facts {
    /// What there is now. Else the first change of each object, be it a heartbeat, would be news.
    pub(crate) fn begin(&mut self, world: &World) {
        for node in world.nodes.state() {
            self.node_is_news(world, &node.name_any());
        }
        for node in world.node_networks.state() {
            self.fabric_has_news(world, &node.name_any());
            self.networks_have_news(world, &node.name_any());
        }
        // Of a ledger that was not seen before nobody could tell whose entry went.
        for ledger in world.ledgers.state() {
            self.ledger_let_go(world, &ledger.name_any());
        }
    }

    /// Whether a Node is another one for a fabric: it came, went, or has other labels or addresses.
    pub(crate) fn node_is_news(&mut self, world: &World, name: &str) -> bool {
        let node = world.nodes.get(&ObjectRef::new(name));
        note(&mut self.nodes, name, node.map(|node| seen_of_node(&node)))
    }

    /// Whether a Namespace is another one for those that wait in it: it came, went, or has other labels.
    pub(crate) fn namespace_is_news(&mut self, world: &World, name: &str) -> bool {
        let namespace = world.namespace(name);
        note(
            &mut self.namespaces,
            name,
            namespace.map(|namespace| digest(&namespace.labels)),
        )
    }

    /// Whether a quota is another one: it came, went, or its spec is another.
    pub(crate) fn quota_is_news(&mut self, world: &World, quota: &Named) -> bool {
        let found = world.quotas.get(&ObjectRef::new(&quota.name).within(&quota.namespace));
        note(&mut self.quotas, quota, found.map(|found| digest(&of_spec(&*found))))
    }

    /// Whether a Fabric is another one for itself and for networks that wait: it came, is going, went, or its spec or finalizers
    /// are others.
    pub(crate) fn fabric_is_news(&mut self, world: &World, name: &str) -> bool {
        let fabric = world.fabric(name);
        note(
            &mut self.fabrics,
            name,
            fabric.map(|fabric| digest(&(of_spec(&*fabric), &fabric.metadata.finalizers))),
        )
    }

    /// Whether a QosClass is another one: it came, went, or its spec is another.
    pub(crate) fn class_is_news(&mut self, world: &World, name: &str) -> bool {
        let class = world.classes.get(&ObjectRef::new(name));
        note(&mut self.classes, name, class.map(|class| digest(&of_spec(&*class))))
    }

    /// Whether a NodeNetwork is another one for its fabric: anything but what pods have.
    pub(crate) fn fabric_has_news(&mut self, world: &World, name: &str) -> bool {
        let node = world.node_networks.get(&ObjectRef::new(name));
        note(&mut self.for_fabrics, name, node.map(|node| seen_by_fabrics(&node)))
    }

    /// Whether a NodeNetwork is another one for networks that wait: which fabric it is of and how fast its ports are.
    pub(crate) fn networks_have_news(&mut self, world: &World, name: &str) -> bool {
        let node = world.node_networks.get(&ObjectRef::new(name));
        note(&mut self.for_networks, name, node.map(|node| seen_by_networks(&node)))
    }

    /// Whether a network is another one for pods: it came, is going or went, or what it says of its reservation is other.
    pub(crate) fn pods_have_news_of_network(&mut self, world: &World, network: &Named) -> bool {
        let found = world.network(&network.namespace, &network.name);
        note(
            &mut self.networks_for_pods,
            network,
            found.map(|found| network_seen_by_pods(&found)),
        )
    }

    /// Whether a slice is another one for pods: it came or went, or its spec is another.
    pub(crate) fn pods_have_news_of_slice(&mut self, world: &World, slice: &Named) -> bool {
        let found = world.slice(&slice.namespace, &slice.name);
        note(
            &mut self.slices_for_pods,
            slice,
            found.map(|found| digest(&of_spec(&*found))),
        )
    }

    /// Of which namespaces an entry of a fabric's ledger went or became another: then somebody may find room there, or miss what was
    /// his. Entries that only come help nobody who waits: that is `None`.
    pub(crate) fn ledger_let_go(&mut self, world: &World, fabric: &str) -> Option<HashSet<String>> {
        let Some(ledger) = world.ledgers.get(&ObjectRef::new(fabric)) else {
            return Some(self.ledgers.remove(fabric)?.into_values().collect());
        };
        let entries = ledger.spec.entries.iter();
        let mut now: HashMap<u64, String> = entries
            .map(|entry| {
                let intervals = entry.intervals.iter().map(|interval| (interval.base, interval.size));
                let seen = digest(&(
                    &entry.owner.uid,
                    intervals.collect::<Vec<_>>(),
                    entry.vlan,
                    &entry.state,
                ));
                (seen, entry.owner.namespace.clone())
            })
            .collect();
        // What is nobody's has no namespace. One of a later version may be of a known one by now.
        now.insert(digest(&ledger.spec.version), String::new());
        // While nodes are asked nothing is given; when they have answered, what waits gets it.
        let asked = recount::asked(&ledger.spec).filter(|_| asks(&ledger.spec));
        now.extend(asked.map(|id| (digest(&id), String::new())));
        let before = self.ledgers.insert(fabric.to_owned(), now);
        let now = &self.ledgers[fabric];
        let Some(before) = before else {
            return Some(HashSet::new());
        };
        let went = before.into_iter().filter(|(seen, _)| !now.contains_key(seen));
        let went: HashSet<String> = went.map(|(_, namespace)| namespace).collect();
        (!went.is_empty()).then_some(went)
    }
}

/// Whether it is otherwise than before; a thing that is gone has no value.
fn note<N, Q>(known: &mut HashMap<N, u64>, name: &Q, now: Option<u64>) -> bool
where
    N: Borrow<Q> + Hash + Eq,
    Q: ToOwned<Owned = N> + Hash + Eq + ?Sized,
{
    let before = match now {
        Some(now) => known.insert(name.to_owned(), now),
        None => known.remove(name),
    };
    before != now
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// An object as long as nobody changes its spec or deletes it.
fn of_spec<K: Resource>(object: &K) -> impl Hash {
    let metadata = object.meta();
    let is_going = metadata.deletion_timestamp.is_some();
    (metadata.uid.clone(), metadata.generation, is_going)
}

fn seen_of_node(node: &Node) -> u64 {
    let ranges = node.spec.as_ref().map(|spec| (&spec.pod_cidr, &spec.pod_cidrs));
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let addresses: Vec<&str> = addresses.map(|address| address.address.as_str()).collect();
    digest(&(&node.labels, ranges, addresses, node.is_out_of_service()))
}

fn network_seen_by_pods(network: &TrainingNetwork) -> u64 {
    let conditions = network.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let reserved = conditions::find(conditions, "Reserved").map(|said| (&said.status, &said.reason, &said.message));
    digest(&(of_spec(network), reserved))
}

fn seen_by_fabrics(node: &NodeNetwork) -> u64 {
    let mut node = node.clone();
    node.metadata.resource_version = None;
    if let Some(status) = &mut node.status {
        status.summary = None;
        status.networks = Vec::new();
        for port in &mut status.ports {
            port.vfs.used = 0;
        }
    }
    // What cannot be written as JSON came as JSON.
    digest(&serde_json::to_string(&node).unwrap_or_default())
}

fn seen_by_networks(node: &NodeNetwork) -> u64 {
    let ports = node.status.iter().flat_map(|status| &status.ports);
    let speeds: Vec<_> = ports.map(|port| (port.rail, port.speed.map(Bandwidth::mbps))).collect();
    digest(&(&node.spec.fabric_name, speeds))
}

#[cfg(test)]
mod tests {
    use kube::runtime::{
        reflector::{store, store::Writer},
        watcher::Event,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::world::tests::empty;

    fn world() -> (World, Writer<Node>, Writer<NodeNetwork>) {
        let (nodes, nodes_in) = store();
        let (node_networks, node_networks_in) = store();
        let world = World {
            node_networks,
            nodes,
            ..empty()
        };
        (world, nodes_in, node_networks_in)
    }

    #[test]
    fn a_heartbeat_of_a_node_is_no_news_and_a_label_is() {
        let (world, mut nodes, _) = world();
        let mut facts = Facts::default();
        let mut says = |metadata: Value| {
            let node = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata,
                    "status": {"addresses": [{"type": "InternalIP", "address": "192.168.7.1"}]}}))
            .unwrap();
            nodes.apply_watcher_event(&Event::Apply(node));
            facts.node_is_news(&world, "node1")
        };
        assert!(says(
            json!({"name": "node1", "resourceVersion": "1", "labels": {"gpu": "h100"}})
        ));
        assert!(!says(
            json!({"name": "node1", "resourceVersion": "2", "labels": {"gpu": "h100"}})
        ));
        assert!(says(
            json!({"name": "node1", "resourceVersion": "3", "labels": {"gpu": "h200"}})
        ));
        let node = serde_json::from_value(json!({"metadata": {"name": "node1"}})).unwrap();
        nodes.apply_watcher_event(&Event::Delete(node));
        assert!(facts.node_is_news(&world, "node1"), "it went");
        assert!(!facts.node_is_news(&world, "node1"));
    }

    #[test]
    fn what_there_was_at_the_beginning_is_no_news() {
        let (world, mut nodes, _) = world();
        let mut heartbeat = |version: &str| {
            let node = json!({"metadata": {"name": "node1", "resourceVersion": version, "labels": {"gpu": "h100"}}});
            nodes.apply_watcher_event(&Event::Apply(serde_json::from_value(node).unwrap()));
        };
        heartbeat("1");
        let mut facts = Facts::default();
        facts.begin(&world);
        heartbeat("2");
        assert!(!facts.node_is_news(&world, "node1"));
    }

    /// Who waits for a quota is woken by its own namespace only.
    #[test]
    fn what_goes_first_after_the_leader_began_is_told_with_its_namespace() {
        let (ledgers, mut ledgers_in) = store();
        let world = World { ledgers, ..empty() };
        let mut holds = |entries: Value| {
            let ledger = json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
                "spec": {"version": 1, "sequence": 9, "entries": entries}});
            ledgers_in.apply_watcher_event(&Event::Apply(serde_json::from_value(ledger).unwrap()));
        };
        holds(
            json!([{"base": 4, "size": 4, "vlan": 1001, "sequence": 9, "state": "Held",
            "owner": {"namespace": "team-a", "name": "qwen", "uid": "qwen"}}]),
        );
        let mut facts = Facts::default();
        facts.begin(&world);
        holds(json!([]));
        let went = facts.ledger_let_go(&world, "backend").unwrap();
        assert!(went.contains("team-a"), "{went:?}");
    }

    /// A network whose pods' block was quarantined is refused with these words; when they have ended others are due.
    #[test]
    fn an_entry_that_is_quarantined_no_more_is_let_go() {
        let (ledgers, mut ledgers_in) = store();
        let world = World { ledgers, ..empty() };
        let mut facts = Facts::default();
        let mut says = |state: &str, answered: Option<bool>| {
            let entry = json!({"base": 4, "size": 4, "vlan": 1001, "sequence": 9, "state": state,
                "owner": {"namespace": "team-a", "name": "qwen", "uid": "qwen"}});
            let mut ledger = json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "backend"},
                "spec": {"version": 2, "sequence": 9, "entries": [entry]},
            });
            if let Some(answered) = answered {
                ledger["spec"]["recount"] = json!({"id": "1", "why": "it had counted to 9", "answered": answered});
            }
            ledgers_in.apply_watcher_event(&Event::Apply(serde_json::from_value(ledger).unwrap()));
            facts.ledger_let_go(&world, "backend").is_some()
        };
        says("Quarantined", Some(false));
        assert!(!says("Quarantined", Some(false)));
        assert!(says("Quarantined", Some(true)), "all have answered");
        assert!(!says("Quarantined", Some(true)));
        assert!(says("Resting", None), "its pods have ended");
    }

    #[test]
    fn pods_that_come_and_go_on_a_node_are_no_news_to_fabrics_and_only_speeds_are_to_networks() {
        let (world, _, mut nodes) = world();
        let mut facts = Facts::default();
        let mut says = |version: u32, used: u32, state: &str, speed: &str| {
            let node = serde_json::from_value(json!({
                "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork",
                "metadata": {"name": "node1", "resourceVersion": version.to_string()},
                "spec": {"fabricName": "backend", "vfManagement": "Managed", "mtu": 9000, "rails": []},
                "status": {
                    "summary": {"rails": "1/1", "vfs": format!("{used}/4")},
                    "ports": [{"rail": 0, "pciAddress": "0000:01:00.0", "netdev": "eth1", "driver": "igb", "speed": speed,
                        "vfs": {"used": used, "total": 4}, "state": state}],
                },
            }))
            .unwrap();
            nodes.apply_watcher_event(&Event::Apply(node));
            (
                facts.fabric_has_news(&world, "node1"),
                facts.networks_have_news(&world, "node1"),
            )
        };
        assert_eq!(says(1, 0, "Healthy", "1G"), (true, true));
        assert_eq!(says(2, 3, "Healthy", "1G"), (false, false));
        assert_eq!(says(3, 3, "Down", "1G"), (true, false));
        assert_eq!(says(4, 3, "Down", "10G"), (true, true));
    }
}
