//! What nodes say that their pods hold, beside what the ledgers say: after a restore of etcd from a backup the ledgers are too old.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{
    ResourceExt as _,
    runtime::reflector::{ObjectRef, Store},
};
use railhead_crds::{
    FabricLedgerSpec, LedgerEntry, LedgerInterval, LedgerOwner, LedgerState, NodeHolding, NodeNetwork,
};
use railhead_planner::{
    ledger::{
        self,
        restored::{self, Nodes},
    },
    node,
};

use crate::{conditions::Said, known::Node, world::World};

/// Type of the Fabric's condition, and the reason of its networks.
pub(crate) const LEDGER_RESTORED: &str = "LedgerRestored";

/// What the nodes of a fabric say, and which of them have not answered `recount` yet. What a node said that is gone or out of
/// service counts no more: nobody is there.
pub(crate) fn nodes(world: &World, fabric: &str, recount: Option<&str>) -> Nodes {
    let is_there = |name: &str| is_there(&world.nodes, name);
    let mut live = Vec::new();
    for said in world.node_networks.state() {
        let held = said.status.iter().flat_map(|status| &status.networks);
        let mut held = held.filter(|held| held.fabric == fabric).peekable();
        if held.peek().is_some() && is_there(&said.name_any()) {
            live.extend(held.map(entry_of));
        }
    }
    let waiting = waiting(world, fabric, recount);
    Nodes { live, waiting }
}

fn is_there(nodes: &Store<Node>, name: &str) -> bool {
    nodes
        .get(&ObjectRef::new(name))
        .is_some_and(|node| !node.is_out_of_service())
}

/// Nodes that have not answered, if they are asked: those that the fabric selects, also where their NodeNetwork was lost, and those
/// that it has still.
pub(crate) fn waiting(world: &World, fabric: &str, recount: Option<&str>) -> Vec<String> {
    let Some(id) = recount else {
        return Vec::new();
    };
    // One that goes makes no NodeNetworks any more.
    let found = world
        .fabric(fabric)
        .filter(|fabric| fabric.metadata.deletion_timestamp.is_none());
    let mut waiting = Vec::new();
    for node in world.nodes.state() {
        if node.is_out_of_service() {
            continue;
        }
        let name = node.name_any();
        let waits = match world.node_networks.get(&ObjectRef::new(&name)) {
            Some(said) => said.spec.fabric_name == fabric && !has_answered(&said, id),
            None => found
                .as_ref()
                .is_some_and(|fabric| node::spec(fabric, |key| node.labels.get(key)).is_some()),
        };
        if waits {
            waiting.push(name);
        }
    }
    waiting.sort_unstable();
    waiting
}

fn has_answered(said: &NodeNetwork, id: &str) -> bool {
    said.status.as_ref().and_then(|status| status.recount.as_deref()) == Some(id)
}

fn entry_of(held: &NodeHolding) -> LedgerEntry {
    LedgerEntry {
        intervals: vec![LedgerInterval::new(held.base, held.size)],
        vlan: held.vlan,
        owner: LedgerOwner::new(&held.namespace, &held.name, &held.uid),
        sequence: held.ledger_sequence,
        state: LedgerState::Held,
        rests_until: None,
        unknown: BTreeMap::new(),
    }
}

/// Whether the ledger of a fabric is to be written for what nodes say, as far as the watches tell.
pub(crate) fn is_due(world: &World, fabric: &str) -> bool {
    let known = world.ledgers.get(&ObjectRef::new(fabric));
    let empty = ledger::empty();
    let ledger = known.as_ref().map_or(&empty, |known| &known.spec);
    let nodes = nodes(world, fabric, asked(ledger));
    restored::look(ledger, &nodes, None, Timestamp::UNIX_EPOCH, SignedDuration::ZERO).is_some()
}

/// What nodes are asked to answer, if they are asked.
pub(crate) fn asked(ledger: &FabricLedgerSpec) -> Option<&str> {
    ledger.recount.as_ref().map(|recount| recount.id.as_str())
}

/// Whether what pods of a node hold may concern a ledger: it does not say so, or waits for their end.
pub(crate) fn concerns_a_ledger(world: &World, node: &str) -> bool {
    let awaits = |entry: &LedgerEntry| restored::is_quarantined(entry);
    let waits = |spec: &FabricLedgerSpec| spec.recount.is_some() || spec.entries.iter().any(awaits);
    if world.ledgers.find(|ledger| waits(&ledger.spec)).is_some() {
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

/// The Fabric's condition.
pub(crate) fn said(ledger: &FabricLedgerSpec, waiting: &[String]) -> Said {
    let quarantined: Vec<String> = ledger
        .entries
        .iter()
        .filter(|entry| restored::is_quarantined(entry))
        .map(|entry| {
            format!(
                "{} of {}/{}",
                ledger::Holding(entry),
                entry.owner.namespace,
                entry.owner.name
            )
        })
        .collect();
    let kept = match crate::network::listed(&quarantined) {
        none if none.is_empty() => String::new(),
        some => format!("; kept for pods that the ledger did not know of until they have ended: {some}"),
    };
    match &ledger.recount {
        Some(recount) => Said::yes(
            LEDGER_RESTORED,
            "NodesAsked",
            format!(
                "nothing new is reserved before every node has said what its pods hold, since {}; {}{kept}",
                recount.why,
                ledger::not_said(waiting),
            ),
        ),
        None if quarantined.is_empty() => {
            Said::no(LEDGER_RESTORED, "NotRestored", "the ledger has all that nodes say of")
        }
        None => Said::no(
            LEDGER_RESTORED,
            "AllAnswered",
            format!("every node has said what its pods hold{kept}"),
        ),
    }
}
