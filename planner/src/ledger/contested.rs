//! Who has what somebody else has as well: a ledger that was restored from a backup or repaired by hand says otherwise than the
//! slices, or gives one block twice. Nobody can tell from here whose pods answer on the wire, so neither gets more of them.

use std::collections::{BTreeMap, HashMap};

use railhead_crds::{FabricLedgerSpec, LedgerEntry};

use super::{Holding, collide, refused::name, restored::is_quarantined, rests, slots};
use crate::slots::Interval;

/// Who says so of what is quarantined.
const PODS: &str = "pods on nodes that the ledger did not know of";

/// One word about what somebody has.
struct Word<'a> {
    entry: &'a LedgerEntry,
    /// `its slice`, `the ledger` or [`PODS`].
    source: &'static str,
}

impl Word<'_> {
    /// Whether the two cannot both be so.
    fn contradicts(&self, other: &Self) -> bool {
        if self.entry.owner.uid == other.entry.owner.uid {
            (&self.entry.intervals, self.entry.vlan) != (&other.entry.intervals, other.entry.vlan)
        } else {
            collide(self.entry, other.entry)
        }
    }
}

/// The networks of a fabric whose addresses or VLAN somebody else has too, or of which ledger and slice say different things:
/// by UID of the network, with what is to be said. `slices` are the entries that belong to the fabric's slices.
pub fn contested(ledger: &FabricLedgerSpec, slices: &[LedgerEntry]) -> BTreeMap<String, String> {
    // What rests is nobody's.
    let held = ledger.entries.iter().filter(|entry| !rests(entry));
    let in_ledger = held.map(|entry| Word {
        entry,
        source: if is_quarantined(entry) { PODS } else { "the ledger" },
    });
    let in_slices = slices.iter().map(|entry| Word {
        entry,
        source: "its slice",
    });
    let words: Vec<Word<'_>> = in_ledger.chain(in_slices).collect();
    let mut found = BTreeMap::new();
    let mut contradicted = |one: &Word<'_>, other: &Word<'_>| {
        if one.contradicts(other) {
            for owner in [&one.entry.owner, &other.entry.owner] {
                found.entry(owner.uid.clone()).or_insert_with(|| said(one, other));
            }
        }
    };
    // Only those that begin before others have ended.
    let mut blocks: Vec<(Interval, &Word<'_>)> = words
        .iter()
        .flat_map(|word| slots(word.entry).map(move |slots| (slots, word)))
        .collect();
    blocks.sort_by_key(|(slots, word)| (*slots, &word.entry.owner.uid));
    let mut open: Vec<(Interval, &Word<'_>)> = Vec::new();
    for (block, word) in blocks {
        open.retain(|(before, _)| before.end > block.start);
        for (_, before) in &open {
            contradicted(before, word);
        }
        open.push((block, word));
    }
    let mut by_vlan: HashMap<u16, Vec<&Word<'_>>> = HashMap::new();
    let mut by_owner: HashMap<&str, Vec<&Word<'_>>> = HashMap::new();
    for word in &words {
        if let Some(vlan) = word.entry.vlan {
            by_vlan.entry(vlan).or_default().push(word);
        }
        by_owner.entry(&word.entry.owner.uid).or_default().push(word);
    }
    for alike in by_vlan.values().chain(by_owner.values()) {
        for (place, one) in alike.iter().enumerate() {
            for before in &alike[..place] {
                contradicted(before, one);
            }
        }
    }
    found
}

fn said(one: &Word<'_>, other: &Word<'_>) -> String {
    let what = |word: &Word<'_>| format!("{} by {}", Holding(word.entry), word.source);
    let (first, second) = (&one.entry.owner, &other.entry.owner);
    if first.uid == second.uid && one.source != PODS && other.source != PODS {
        return format!(
            "{} has {}, and {}: new pods wait; delete its pods, then the network, and apply it anew",
            name(first),
            what(one),
            what(other)
        );
    }
    if one.source == PODS || other.source == PODS {
        return format!(
            "{} has {}, and {} has {}: new pods wait until those pods have ended; `kubectl get nodenet -o yaml` shows under status.networks where they are",
            name(first),
            what(one),
            name(second),
            what(other)
        );
    }
    format!(
        "{} has {}, and {} has {}: new pods of both wait; delete the pods of one of the two networks, then that network, and apply it anew",
        name(first),
        what(one),
        name(second),
        what(other)
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use railhead_crds::{LedgerInterval, LedgerOwner, LedgerState};

    use super::*;
    use crate::ledger::empty;

    fn entry(uid: u32, base: u32, size: u32, vlan: u16) -> LedgerEntry {
        LedgerEntry {
            intervals: vec![LedgerInterval::new(base, size)],
            vlan: Some(vlan),
            owner: LedgerOwner::new("team-a", format!("n{uid}"), uid.to_string()),
            takes: None,
            sequence: 1,
            state: LedgerState::Held,
            rests_until: None,
            node: None,
            unknown: BTreeMap::new(),
        }
    }

    fn found(ledger: &[LedgerEntry], slices: &[LedgerEntry]) -> Vec<String> {
        let ledger = FabricLedgerSpec {
            entries: ledger.to_vec(),
            ..empty()
        };
        contested(&ledger, slices).into_keys().collect()
    }

    #[test]
    fn both_networks_of_a_contradiction_are_told_and_nobody_else() {
        let (a, b, c) = (entry(1, 0, 4, 10), entry(2, 4, 4, 11), entry(3, 8, 4, 12));
        let all = [a.clone(), b.clone(), c.clone()];
        assert!(found(&all, &all).is_empty());
        assert!(found(&[], &all).is_empty(), "what the ledger lost comes back by itself");
        assert!(found(&all, &[]).is_empty(), "slices come after their entries");
        let moved = entry(2, 0, 8, 11);
        assert_eq!(found(&[moved], &[a.clone(), b.clone(), c.clone()]), ["1", "2"]);
        let same_vlan = entry(2, 4, 4, 12);
        assert_eq!(found(&[], &[a.clone(), same_vlan, c]), ["2", "3"]);
        assert_eq!(found(&[entry(1, 0, 4, 13)], &[a, b]), ["1"], "its own entry is another");
    }

    #[test]
    fn the_words_name_both_and_the_next_step() {
        let ledger = FabricLedgerSpec {
            entries: vec![entry(2, 0, 2, 11)],
            ..empty()
        };
        let said = contested(&ledger, &[entry(1, 0, 2, 10)]);
        for words in [
            "team-a/n1",
            "team-a/n2",
            "slots 0 to 1",
            "VLAN 11 by the ledger",
            "delete the pods",
        ] {
            assert!(said["1"].contains(words), "{words:?} is missing in {}", said["1"]);
        }
        assert_eq!(said["1"], said["2"]);
    }

    proptest! {
        /// The sweep finds what comparing everything with everything finds.
        #[test]
        fn whoever_shares_anything_is_told(
            ledger in prop::collection::vec((0u32..6, 0u32..8, 0u32..3, 1u16..9), 0..6),
            slices in prop::collection::vec((0u32..6, 0u32..8, 0u32..3, 1u16..9), 0..6),
        ) {
            let make = |all: &[(u32, u32, u32, u16)]| -> Vec<LedgerEntry> {
                all.iter().map(|(uid, base, size, vlan)| entry(*uid, base << size, 1 << size, *vlan)).collect()
            };
            let (ledger, slices) = (make(&ledger), make(&slices));
            let all: Vec<Word<'_>> = ledger.iter().chain(&slices).map(|entry| Word { entry, source: "" }).collect();
            let mut wanted = std::collections::BTreeSet::new();
            for one in &all {
                if all.iter().any(|other| one.contradicts(other)) {
                    wanted.insert(one.entry.owner.uid.clone());
                }
            }
            prop_assert_eq!(found(&ledger, &slices), wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
