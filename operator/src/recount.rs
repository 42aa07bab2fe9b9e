//! What nodes say that their pods hold, beside what the ledgers say: after a restore of etcd from a backup the ledgers are too old.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{FabricLedgerSpec, NodeNetwork, reasons::Reason};
use railhead_planner::{
    ledger::{
        self,
        restored::{self, Nodes},
    },
    node,
};

use crate::{
    conditions::Said,
    known::Node,
    network::listed,
    world::{World, slice_of_attachment},
};

/// Type of the Fabric's condition.
pub(crate) const LEDGER_RESTORED: &str = "LedgerRestored";

/// Counts how often nodes came, or said something of which a ledger may not know. The router counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words(Arc<AtomicU64>);

impl Words {
    pub(crate) fn version(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// What the nodes of a fabric say, and which of them have not answered `recount` yet. What a node said that is gone or out of
/// service counts no more: nobody is there.
pub(crate) fn nodes(world: &World, fabric: &str, recount: Option<&str>) -> Nodes {
    let mut live = Vec::new();
    for said in world.node_networks.state() {
        if is_there(&world.nodes, &said.name_any()) {
            live.extend(ledger::Said::by(&said, fabric));
        }
    }
    live.sort_unstable_by(|a, b| a.node.cmp(&b.node));
    let waiting = waiting(world, fabric, recount);
    Nodes { live, waiting }
}

fn is_there(nodes: &Store<Node>, name: &str) -> bool {
    nodes
        .get(&ObjectRef::new(name))
        .is_some_and(|node| !node.is_out_of_service())
}

/// Nodes that have not answered, if they are asked: those that the fabric selects, also where their NodeNetwork was lost, and those
/// that it has still. One that it does not select, since its labels are others or were lost, is known by the attachments on it.
pub(crate) fn waiting(world: &World, fabric: &str, recount: Option<&str>) -> Vec<String> {
    let Some(id) = recount else {
        return Vec::new();
    };
    // One that goes makes no NodeNetworks any more.
    let found = world
        .fabric(fabric)
        .filter(|fabric| fabric.metadata.deletion_timestamp.is_none());
    let mut attached: Option<HashSet<String>> = None;
    let mut waiting = Vec::new();
    for node in world.nodes.state() {
        if node.is_out_of_service() {
            continue;
        }
        let name = node.name_any();
        match world.node_networks.get(&ObjectRef::new(&name)) {
            Some(said) if said.spec.fabric_name == fabric && !has_answered(&said, id) => waiting.push(name),
            None if found
                .as_ref()
                .is_some_and(|fabric| node::spec(fabric, |key| node.labels.get(key)).is_some()) =>
            {
                waiting.push(name);
            }
            None if attached
                .get_or_insert_with(|| with_attachments(world, fabric))
                .contains(&name) =>
            {
                waiting.push(format!(
                    "{name} (has pods of the fabric and not the labels that it selects: label it again)"
                ));
            }
            Some(_) | None => {}
        }
    }
    waiting.sort_unstable();
    waiting
}

/// Nodes on which pods of networks of a fabric are attached.
fn with_attachments(world: &World, fabric: &str) -> HashSet<String> {
    let attachments = world.attachments.state();
    let of_fabric = attachments.iter().filter(|attachment| {
        let slice = slice_of_attachment(attachment);
        let slice = world.slice(&slice.namespace, &slice.name);
        slice.is_some_and(|slice| slice.spec.fabric.name == fabric)
    });
    of_fabric.map(|attachment| attachment.spec.node_name.clone()).collect()
}

fn has_answered(said: &NodeNetwork, id: &str) -> bool {
    said.status.as_ref().and_then(|status| status.recount.as_deref()) == Some(id)
}

/// Whether the ledger of a fabric is to be written for what nodes say, as far as the watches tell.
pub(crate) fn is_due(world: &World, fabric: &str) -> bool {
    let known = world.ledgers.get(&ObjectRef::new(fabric));
    let empty = ledger::empty();
    let ledger = known.as_ref().map_or(&empty, |known| &known.spec);
    let nodes = nodes(world, fabric, asked(ledger));
    restored::look(ledger, &nodes, None, Timestamp::now(), SignedDuration::ZERO).is_some()
}

/// What nodes are asked to answer, if they are asked: also when all have answered, as long as anything is quarantined.
pub(crate) fn asked(ledger: &FabricLedgerSpec) -> Option<&str> {
    ledger.recount.as_ref().map(|recount| recount.id.as_str())
}

/// Whether what pods of a node hold may concern a ledger: it does not say so, or waits for their end.
pub(crate) fn concerns_a_ledger(world: &World, node: &str) -> bool {
    if world.ledgers.find(|ledger| restored::awaits(&ledger.spec)).is_some() {
        return true;
    }
    let Some(said) = world.node_networks.get(&ObjectRef::new(node)) else {
        return false;
    };
    let held = said.status.iter().flat_map(|status| &status.networks);
    held.into_iter().any(|held| {
        let ledger = world.ledgers.get(&ObjectRef::new(&held.fabric));
        ledger.is_none_or(|ledger| {
            let mut entries = ledger.spec.entries.iter();
            !entries.any(|entry| entry.owner.uid == held.uid && entry.sequence == held.ledger_sequence)
        })
    })
}

/// The Fabric's condition. `nodes` is what they say in a look at the ledger.
pub(crate) fn said(ledger: &FabricLedgerSpec, nodes: &Nodes) -> Said {
    let quarantined: Vec<String> = ledger
        .entries
        .iter()
        .filter(|entry| restored::is_quarantined(entry))
        .map(|entry| {
            let node = entry
                .node
                .as_ref()
                .map_or_else(String::new, |node| format!(" on {node}"));
            format!(
                "{} of {}/{}{node}",
                ledger::Holding(entry),
                entry.owner.namespace,
                entry.owner.name
            )
        })
        .collect();
    let kept = match listed(&quarantined) {
        none if none.is_empty() => String::new(),
        some => format!("; kept for pods that the ledger did not know of until they have ended: {some}"),
    };
    let doubted = doubted(ledger, nodes);
    match &ledger.recount {
        Some(recount) if restored::asks(ledger) => Said::yes(
            LEDGER_RESTORED,
            Reason::NodesAsked,
            format!(
                "nothing new is reserved before every node has said what its pods hold, since {}; {}{kept}{doubted}",
                recount.why,
                ledger::not_said(&nodes.waiting),
            ),
        ),
        Some(_) if !nodes.waiting.is_empty() => Said::no(
            LEDGER_RESTORED,
            Reason::AllAnswered,
            format!(
                "every node has said what its pods hold{kept}; not before those have answered too that came, or lost their NodeNetwork, since: {}{doubted}",
                ledger::not_said(&nodes.waiting),
            ),
        ),
        None if quarantined.is_empty() => Said::no(
            LEDGER_RESTORED,
            Reason::NotRestored,
            format!("the ledger has all that nodes say of{doubted}"),
        ),
        _ => Said::no(
            LEDGER_RESTORED,
            Reason::AllAnswered,
            format!("every node has said what its pods hold{kept}{doubted}"),
        ),
    }
}

/// The nodes whose word does not count in full.
fn doubted(ledger: &FabricLedgerSpec, nodes: &Nodes) -> String {
    let doubted: Vec<String> = ledger::doubted(ledger, &nodes.live)
        .iter()
        .map(|doubted| format!("{} ({} blocks more)", doubted.node, doubted.beyond))
        .collect();
    match listed(&doubted) {
        none if none.is_empty() => none,
        some => format!(
            "; {DOUBTED} say that their pods hold more than their ports can carry, and of that nothing is entered: {some}; see who writes the status of their NodeNetworks"
        ),
    }
}

/// By these words the condition tells of nodes that say more than can be.
pub(crate) const DOUBTED: &str = "nodes that are not believed";

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::jiff::Timestamp;
    use kube::runtime::{reflector::store, watcher::Event};
    use railhead_planner::ledger::restored::look;
    use serde_json::json;

    use super::*;
    use crate::{
        grouped::Grouped,
        network::fixtures,
        world::{network_of_slice, tests::empty},
    };

    pub(crate) fn node(name: &str, labels: &[(&str, &str)]) -> Node {
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
    }

    /// A node with one port of eight functions, whose pods hold blocks of four slots: by their base and number.
    pub(crate) fn node_network(name: &str, fabric: &str, held: &[(u32, u64)], recount: Option<&str>) -> NodeNetwork {
        let held: Vec<_> = held
            .iter()
            .map(|(base, sequence)| {
                json!({"fabric": fabric, "namespace": "team-a", "name": format!("net{base}"), "uid": format!("net{base}"),
                    "base": base, "size": 4, "vlan": 1000 + base / 4, "ledgerSequence": sequence})
            })
            .collect();
        let rail = json!({"id": 0, "name": "rail0", "pciAddress": "0000:18:00.0", "vfs": 8});
        let mut network = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name},
            "spec": {"fabricName": fabric, "vfManagement": "Managed", "mtu": 9000, "rails": [rail]},
            "status": {"networks": held},
        });
        if let Some(recount) = recount {
            network["status"]["recount"] = json!(recount);
        }
        serde_json::from_value(network).unwrap()
    }

    fn after(world: &World, ledger: &FabricLedgerSpec) -> Option<FabricLedgerSpec> {
        let nodes = nodes(world, "backend", asked(ledger));
        look(ledger, &nodes, None, Timestamp::UNIX_EPOCH, SignedDuration::ZERO)
    }

    #[test]
    fn a_quarantine_ends_by_an_answer_or_with_the_node_and_not_by_a_node_network_that_was_lost() {
        let (nodes, mut nodes_in) = store();
        let (node_networks, mut says) = store();
        let (fabrics, mut fabrics_in) = store();
        fabrics_in.apply_watcher_event(&Event::Apply(fixtures::fabric()));
        nodes_in.apply_watcher_event(&Event::Apply(node("node1", &[])));
        let world = World {
            fabrics,
            node_networks,
            nodes,
            ..empty()
        };
        let held = [(4, 9)];
        says.apply_watcher_event(&Event::Apply(node_network("node1", "backend", &held, None)));
        let asks = after(&world, &ledger::empty()).expect("it has counted to 0");
        let id = asked(&asks).expect("nodes are asked").to_owned();
        says.apply_watcher_event(&Event::Apply(node_network("node1", "backend", &held, Some(&id))));
        let over = after(&world, &asks).expect("it has answered");
        assert!(!restored::asks(&over));
        let silent = node_network("node1", "backend", &[], None);
        says.apply_watcher_event(&Event::Delete(silent.clone()));
        assert_eq!(after(&world, &over), None, "its NodeNetwork is gone");
        assert_eq!(waiting(&world, "backend", asked(&over)), ["node1"]);
        says.apply_watcher_event(&Event::Apply(silent.clone()));
        assert_eq!(after(&world, &over), None, "its NodeNetwork was made anew");
        let said = said(&over, &super::nodes(&world, "backend", asked(&over)));
        assert!(said.message.contains("1 of them have not: node1;"), "{}", said.message);
        let rests = |world: &World| after(world, &over).is_some_and(|after| after.entries.iter().all(ledger::rests));
        says.apply_watcher_event(&Event::Apply(node_network("node1", "backend", &[], Some(&id))));
        assert!(rests(&world), "it has answered");
        says.apply_watcher_event(&Event::Apply(silent));
        let out = json!({"metadata": {"name": "node1"}, "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}});
        nodes_in.apply_watcher_event(&Event::Apply(serde_json::from_value(out).unwrap()));
        assert!(rests(&world), "nothing runs there any more");
    }

    #[test]
    fn a_node_that_lost_its_labels_is_waited_for_if_pods_are_attached_there() {
        let (nodes, mut nodes_in) = store();
        let (fabrics, mut fabrics_in) = store();
        let (slices, mut slices_in) = store();
        let (attachments, mut attachments_in) = store();
        let mut fabric = fixtures::fabric();
        fabric.spec.node_selector = serde_json::from_value(json!({"matchLabels": {"gpu": "h100"}})).unwrap();
        fabrics_in.apply_watcher_event(&Event::Apply(fabric));
        let slices = Grouped::new(slices, network_of_slice);
        let attachments = Grouped::new(attachments, slice_of_attachment);
        let world = World {
            fabrics,
            slices,
            attachments,
            nodes,
            ..empty()
        };
        for (name, labels) in [("node1", &[("gpu", "h100")][..]), ("node2", &[]), ("node3", &[])] {
            nodes_in.apply_watcher_event(&Event::Apply(node(name, labels)));
        }
        assert_eq!(waiting(&world, "backend", Some("id")), ["node1"]);
        let mut attachment = (*fixtures::attachment(0, true)).clone();
        attachment.spec.node_name = "node2".into();
        attachments_in.apply_watcher_event(&Event::Apply(attachment));
        assert_eq!(
            waiting(&world, "backend", Some("id")),
            ["node1"],
            "of which fabric is that?"
        );
        slices_in.apply_watcher_event(&Event::Apply(fixtures::slice(2)));
        let waiting = waiting(&world, "backend", Some("id"));
        assert_eq!(waiting.len(), 2, "{waiting:?}");
        assert!(
            waiting[1].starts_with("node2 (") && waiting[1].contains("label it again"),
            "{waiting:?}"
        );
    }

    #[test]
    fn a_node_that_names_more_than_its_ports_carry_is_named() {
        let (nodes, mut nodes_in) = store();
        let (node_networks, mut says) = store();
        nodes_in.apply_watcher_event(&Event::Apply(node("node1", &[])));
        let world = World {
            node_networks,
            nodes,
            ..empty()
        };
        let held: Vec<_> = (0..20).map(|i| (4 * i, u64::from(i) + 1)).collect();
        says.apply_watcher_event(&Event::Apply(node_network("node1", "backend", &held, None)));
        let asks = after(&world, &ledger::empty()).expect("it has counted to 0");
        assert_eq!(asks.entries.len(), 8);
        let said = said(&asks, &super::nodes(&world, "backend", asked(&asks)));
        assert!(said.message.contains("node1 (12 blocks more)"), "{}", said.message);
        assert!(said.message.contains(DOUBTED));
    }
}
