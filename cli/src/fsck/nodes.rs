//! Nodes: what they say that their pods have is known to the ledgers, and who does not answer keeps what it has.

use std::collections::HashMap;

use railhead_planner::ledger::{self, Holding, Said};

use super::{
    claims::count,
    finding::{self, Check, Finding, Remedy},
    seen::Seen,
};
use crate::{cluster::key, lookup::named, output::age};

pub(super) fn check(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    lost(seen, found);
    for node in &seen.cluster.node_networks {
        let name = key(&node.metadata).1;
        if seen.node(name).is_none() {
            found.push(Finding::new(
                Check::NodeNetworkWithoutNode,
                named("NodeNetwork", &node.metadata),
                "its Node is gone",
                "nothing, while the operator runs: kubectl get pods -n railhead-system",
                Remedy::by_itself("the operator deletes it when it looks at the Fabric next, within minutes"),
            ));
        }
    }
    for fabric in seen.ledger_names() {
        said(seen, fabric, found);
    }
}

fn lost(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    let mut held: HashMap<&str, usize> = HashMap::new();
    for attachment in &seen.cluster.attachments {
        *held.entry(attachment.spec.node_name.as_str()).or_default() += 1;
    }
    for node in &seen.cluster.nodes {
        let name = key(&node.metadata).1;
        let (Some(count_held), Some(ready)) = (held.get(name), node.not_ready()) else {
            continue;
        };
        // What is held there is let go by the operator.
        if node.is_out_of_service() {
            continue;
        }
        let since = ready.last_transition_time.as_ref().map(|time| time.0);
        let since = since.map_or_else(String::new, |since| {
            format!(" for {}", age(since, seen.cluster.read_at))
        });
        found.push(Finding::new(
            Check::HeldByLostNode,
            named("Node", &node.metadata),
            format!("it has not been Ready{since}, and its pods hold {}", indices(*count_held)),
            format!(
                "if it is certainly off: kubectl taint node {name} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, and the indices are free"
            ),
            Remedy::by_hand("its pods may still run with their addresses; only somebody who knows that the node is off can say otherwise"),
        ));
    }
}

fn indices(number: usize) -> String {
    if number == 1 {
        "1 index".to_owned()
    } else {
        format!("{number} indices")
    }
}

/// What the agents read from the plans on their nodes.
fn said(seen: &Seen<'_>, fabric: &str, found: &mut Vec<Finding>) {
    let empty = ledger::empty();
    let spec = seen.ledger(fabric).unwrap_or(&empty);
    if ledger::check_version(spec).is_err() {
        return;
    }
    let nodes = seen.cluster.node_networks.iter();
    let answers = nodes.filter(|node| {
        seen.node(key(&node.metadata).1)
            .is_some_and(|node| !node.is_out_of_service())
    });
    let live: Vec<Said> = answers.filter_map(|node| Said::by(node, fabric)).collect();
    let slices = seen.entries_of_slices(fabric);
    let by_owner = |entries: &'_ [railhead_crds::LedgerEntry]| -> HashMap<String, Vec<railhead_crds::LedgerEntry>> {
        let mut by_owner: HashMap<_, Vec<_>> = HashMap::new();
        for entry in entries {
            by_owner.entry(entry.owner.uid.clone()).or_default().push(entry.clone());
        }
        by_owner
    };
    let (entries, slices) = (by_owner(&spec.entries), by_owner(&slices));
    for said in &live {
        for held in &said.held {
            let same = |of: &HashMap<String, Vec<_>>| {
                of.get(&held.owner.uid)
                    .into_iter()
                    .flatten()
                    .any(|entry: &railhead_crds::LedgerEntry| {
                        (&entry.intervals, entry.vlan) == (&held.intervals, held.vlan)
                    })
            };
            // What a slice has and the ledger does not is told of the slice.
            if same(&entries) || same(&slices) {
                continue;
            }
            found.push(Finding::new(
                Check::NodeHoldsUnknown,
                format!("NodeNetwork {}", said.node),
                format!(
                    "pods of {}/{} (UID {}) have {}, of which {} does not know",
                    held.owner.namespace,
                    held.owner.name,
                    held.owner.uid,
                    Holding(held),
                    finding::ledger(fabric)
                ),
                "the node's agent gives back what no pod has any more; if pods run with it, end them there (crictl pods)",
                Remedy::by_hand("pods that the API server may not know have these addresses"),
            ));
        }
    }
    for doubted in ledger::doubted(spec, &live) {
        found.push(Finding::new(
            Check::NodeDoubted,
            format!("NodeNetwork {}", doubted.node),
            format!(
                "it says that its pods have more than its ports can carry: {} more",
                count(doubted.beyond, "block")
            ),
            "see who writes the status of NodeNetworks: a node that was broken into may say anything",
            Remedy::by_hand("nothing of it is believed, and the node is somebody's to look at"),
        ));
    }
}
