//! Who holds a fabric's addresses and VLANs, as its ledger says.

use k8s_openapi::jiff::Timestamp;
use railhead_crds::{FabricLedger, LedgerEntry, LedgerState};

use crate::{
    facts::{Fact, Level},
    lookup::named,
    output::age,
};

/// How many holders are named.
const SHOWN: usize = 8;

/// The largest holders, and what rests.
pub(super) fn holders(ledger: &FabricLedger, now: Timestamp) -> Vec<Fact> {
    let object = named("FabricLedger", &ledger.metadata);
    let mut entries: Vec<&LedgerEntry> = ledger.spec.entries.iter().collect();
    entries.sort_by_key(|entry| {
        (
            std::cmp::Reverse(slots(entry)),
            &entry.owner.namespace,
            &entry.owner.name,
        )
    });
    let total: u64 = entries.iter().map(|entry| slots(entry)).sum();
    let vlans = entries.iter().filter(|entry| entry.vlan.is_some()).count();
    let mut facts = vec![Fact::new(
        "held",
        format!(
            "{} networks hold {total} slots (addresses per rail) and {vlans} VLANs",
            entries.len()
        ),
        &object,
    )];
    facts.extend(entries.iter().take(SHOWN).map(|entry| holder(entry, &object, now)));
    if entries.len() > SHOWN {
        facts.push(Fact::new(
            "holder",
            format!("and {} more", entries.len() - SHOWN),
            &object,
        ));
    }
    facts
}

/// What one entry says.
pub(super) fn holder(entry: &LedgerEntry, object: &str, now: Timestamp) -> Fact {
    let owner = &entry.owner;
    let vlan = entry
        .vlan
        .map_or_else(|| "no VLAN".to_owned(), |vlan| format!("VLAN {vlan}"));
    let held = format!(
        "{}/{}: {} slots from {}, {vlan}",
        owner.namespace,
        owner.name,
        slots(entry),
        first(entry)
    );
    let fact = |text: String| Fact::new("holder", text, format!("{object}, spec.entries"));
    match &entry.state {
        LedgerState::Held => fact(held),
        LedgerState::Resting => {
            let until = entry.rests_until.as_ref();
            let free = until.map_or_else(String::new, |until| format!(", free in {}", age(now, until.0)));
            fact(format!("{held}; given back, and rests{free}"))
        }
        LedgerState::Quarantined => {
            let node = entry.node.as_deref().unwrap_or("a node");
            fact(format!(
                "{held}; quarantined: pods on {node} have it, of which the ledger did not know"
            ))
            .level(Level::Wrong)
            .help("end those pods: it is free when the last of them is gone")
        }
        LedgerState::Unknown(state) => fact(format!("{held}; in state {state}, which a later release knows")),
    }
}

/// How many slots an entry holds.
fn slots(entry: &LedgerEntry) -> u64 {
    entry.intervals.iter().map(|interval| u64::from(interval.size)).sum()
}

fn first(entry: &LedgerEntry) -> u32 {
    entry.intervals.first().map_or(0, |interval| interval.base)
}
