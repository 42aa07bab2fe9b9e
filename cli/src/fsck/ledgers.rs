//! Ledgers: no two networks have one slot or VLAN, every entry is somebody's, and lies in a pool.

use std::collections::HashSet;

use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerState, NetworkSlice};
use railhead_planner::{
    ledger::{self, About, Contradiction, Holding, Source, restored},
    pools::{self, Laid, Written},
};

use super::{
    finding::{self, Check, Finding, Remedy},
    seen::Seen,
};
use crate::cluster::key;

pub(super) fn check(seen: &Seen<'_>, found: &mut Vec<Finding>) {
    for fabric in seen.ledger_names() {
        let empty = ledger::empty();
        let spec = seen.ledger(fabric).unwrap_or(&empty);
        if let Err(newer) = ledger::check_version(spec) {
            found.push(Finding::new(
                Check::LedgerNewer,
                finding::ledger(fabric),
                newer.to_string(),
                "use the plugin of the operator's release",
                Remedy::by_hand("what it says is not known here, so nothing of this fabric was compared with it"),
            ));
            continue;
        }
        if !ledger::can_count(spec) {
            found.push(Finding::new(
                Check::LedgerNumbers,
                finding::ledger(fabric),
                format!(
                    "it says that it has counted to {}, which no ledger does in its life",
                    spec.sequence
                ),
                "write spec.sequence as large as the largest number of its entries, as one of guards.breakGlassGroups",
                Remedy::by_hand(
                    "nothing new can be reserved before that, and which number is right somebody has to say",
                ),
            ));
        }
        contradictions(seen, fabric, spec, found);
        recount(seen, fabric, spec, found);
        let laid = seen.fabric(fabric).map(|of| {
            let slices = seen.slices_on(fabric);
            pools::lay_out(&Written::of_fabric(of, Vec::new()), spec, &slices)
        });
        for entry in &spec.entries {
            check_entry(seen, fabric, spec, laid.as_ref(), entry, found);
        }
    }
}

/// Each network is told once of each kind, with the first of those that have the same.
fn contradictions(seen: &Seen<'_>, fabric: &str, spec: &FabricLedgerSpec, found: &mut Vec<Finding>) {
    let slices = seen.entries_of_slices(fabric);
    let mut told: HashSet<(About, String)> = HashSet::new();
    ledger::contradictions(spec, &slices, |contradiction| {
        let Contradiction { one, other, about } = contradiction;
        // What is quarantined is told as such.
        if one.source == Source::Pods || other.source == Source::Pods {
            return;
        }
        let is_new = [one, other].map(|word| told.insert((*about, word.entry.owner.uid.clone())));
        if is_new == [false, false] {
            return;
        }
        let check = match about {
            About::Slots => Check::SlotsTwice,
            About::Vlan => Check::VlanTwice,
            About::OneNetwork => Check::SliceOtherEntry,
        };
        let owner = &one.entry.owner;
        let (text, help) = split(&contradiction.to_string());
        found.push(Finding::new(
            check,
            format!("TrainingNetwork {}/{}", owner.namespace, owner.name),
            format!("{text} (Fabric {fabric})"),
            help,
            Remedy::by_hand("whose pods answer on the wire cannot be told from here, and both may run"),
        ));
    });
}

/// The planner's sentences have the fact before the colon, and what to do behind it.
fn split(said: &str) -> (String, String) {
    match said.rsplit_once(": ") {
        Some((text, help)) => (text.to_owned(), help.to_owned()),
        None => (said.to_owned(), String::new()),
    }
}

fn recount(seen: &Seen<'_>, fabric: &str, spec: &FabricLedgerSpec, found: &mut Vec<Finding>) {
    let Some(recount) = spec.recount.as_ref().filter(|_| restored::asks(spec)) else {
        return;
    };
    let has_answered = |name: &str| {
        let said = seen.node_network(name).and_then(|node| node.status.as_ref());
        said.and_then(|status| status.recount.as_deref()) == Some(recount.id.as_str())
    };
    let of_fabric = seen
        .cluster
        .node_networks
        .iter()
        .filter(|node| node.spec.fabric_name == fabric);
    let is_there = |name: &&str| seen.node(name).is_some_and(|node| !node.is_out_of_service());
    let waiting: Vec<String> = of_fabric
        .map(|node| key(&node.metadata).1)
        .filter(is_there)
        .filter(|name| !has_answered(name))
        .map(str::to_owned)
        .collect();
    found.push(Finding::new(
        Check::LedgerRestored,
        finding::ledger(fabric),
        format!("it is older than what its nodes have, since {}", recount.why),
        ledger::not_said(&waiting),
        Remedy::by_itself(
            "nothing new is reserved before every node has said what its pods have; the operator asks them",
        ),
    ));
}

fn check_entry(
    seen: &Seen<'_>,
    fabric: &str,
    spec: &FabricLedgerSpec,
    laid: Option<&Laid>,
    entry: &LedgerEntry,
    found: &mut Vec<Finding>,
) {
    let owner = format!("{}/{}", entry.owner.namespace, entry.owner.name);
    let mut tell = |check, text: String, help: &str, remedy| {
        let object = format!("{} entry of {owner}", finding::ledger(fabric));
        found.push(Finding::new(check, object, text, help, remedy));
    };
    let slice = seen
        .slice_of(&entry.owner.uid)
        .filter(|slice| slice.spec.fabric.name == fabric);
    if restored::is_quarantined(entry) {
        let node = entry.node.as_deref().unwrap_or("a node");
        tell(
            Check::Quarantined,
            format!(
                "pods on {node} have {}, of which the ledger did not know",
                Holding(entry)
            ),
            "kubectl get nodenet -o yaml shows under status.networks where they are",
            Remedy::by_itself("it is given to nobody until the last of these pods has ended, and rests then"),
        );
        return;
    }
    if ledger::rests(entry) {
        return;
    }
    if entry.sequence > spec.sequence {
        tell(
            Check::EntryAhead,
            format!(
                "it has the number {}, and the ledger has counted to {} only",
                entry.sequence, spec.sequence
            ),
            "the ledger was edited, or restored from a backup: see the condition LedgerRestored of the Fabric",
            Remedy::by_hand("what was given since cannot be told from here"),
        );
    }
    if !ledger::is_block(entry) {
        tell(
            Check::EntryMisshapen,
            format!(
                "{} is no block that a ledger gives: as large as a power of two, and aligned to its size",
                Holding(entry)
            ),
            "delete the pods of the network, then the network, and apply it anew",
            Remedy::by_hand("what its pods have cannot be told from it"),
        );
    } else if slice.is_none() && laid.is_some_and(|laid| !lies_in_a_pool(laid, entry)) {
        tell(
            Check::EntryOutsidePools,
            format!("{} lies in no pool of Fabric {fabric}", Holding(entry)),
            "delete the network and apply it anew; it has no slice yet, and so no pods",
            Remedy::by_hand("no slice can be made of it, and the network holds it"),
        );
    }
    if entry.state == LedgerState::Held && is_of_nobody(seen, slice, entry) {
        tell(
            Check::EntryOfNobody,
            format!(
                "it holds {}, and neither a TrainingNetwork with UID {} nor a slice of it is there",
                Holding(entry),
                entry.owner.uid
            ),
            "nothing, while the operator runs: kubectl get pods -n railhead-system",
            Remedy::by_itself("the operator gives it back when it looks at the Fabric next, within minutes"),
        );
    }
}

fn is_of_nobody(seen: &Seen<'_>, slice: Option<&NetworkSlice>, entry: &LedgerEntry) -> bool {
    slice.is_none() && seen.network(&entry.owner.uid).is_none()
}

fn lies_in_a_pool(laid: &Laid, entry: &LedgerEntry) -> bool {
    entry
        .intervals
        .iter()
        .all(|block| laid.space.has(block.base, block.size))
}
