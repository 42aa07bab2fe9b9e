//! Who has what somebody else has as well: a ledger that was restored from a backup or repaired by hand says otherwise than the
//! slices, or gives one block twice. Nobody can tell from here whose pods answer on the wire, so neither gets more of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use railhead_crds::{FabricLedgerSpec, LedgerEntry};

use super::{Holding, collide, refused::name, restored::is_quarantined, rests, share_slots, slots};
use crate::slots::Interval;

/// Who says that somebody has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The ledger.
    Ledger,
    /// A slice of its own.
    Slice,
    /// Pods of which the ledger did not know: what is quarantined.
    Pods,
}

impl Source {
    fn text(self) -> &'static str {
        match self {
            Self::Ledger => "the ledger",
            Self::Slice => "its slice",
            Self::Pods => "pods on nodes that the ledger did not know of",
        }
    }
}

/// One word about what somebody has.
#[derive(Clone, Copy, Debug)]
pub struct Word<'a> {
    /// What, and who.
    pub entry: &'a LedgerEntry,
    /// By whom.
    pub source: Source,
}

impl Word<'_> {
    /// Whether the two cannot both be so, and about what.
    fn contradicts(&self, other: &Self) -> Option<About> {
        let (one, two) = (self.entry, other.entry);
        if one.owner.uid == two.owner.uid {
            return ((&one.intervals, one.vlan) != (&two.intervals, two.vlan)).then_some(About::OneNetwork);
        }
        if share_slots(one, two) {
            return Some(About::Slots);
        }
        collide(one, two).then_some(About::Vlan)
    }

    fn said(&self) -> String {
        format!("{} by {}", Holding(self.entry), self.source.text())
    }

    fn name(&self) -> String {
        name(&self.entry.owner)
    }
}

/// In what two words contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum About {
    /// Two networks have one slot.
    Slots,
    /// Two networks have one VLAN.
    Vlan,
    /// Different things are said of one network.
    OneNetwork,
}

/// Two words that cannot both be so. Its text says what to do, too.
#[derive(Clone, Copy, Debug)]
pub struct Contradiction<'a> {
    /// One of them.
    pub one: Word<'a>,
    /// The other one.
    pub other: Word<'a>,
    /// In what.
    pub about: About,
}

/// Tells of all that contradicts itself in a ledger and the slices of its fabric; there may be as many contradictions as pairs
/// of networks. `slices` are the entries that belong to the fabric's slices.
pub fn contradictions<'a>(
    ledger: &'a FabricLedgerSpec,
    slices: &'a [LedgerEntry],
    mut told: impl FnMut(&Contradiction<'a>),
) {
    // What rests is nobody's.
    let held = ledger.entries.iter().filter(|entry| !rests(entry));
    let in_ledger = held.map(|entry| Word {
        entry,
        source: if is_quarantined(entry) {
            Source::Pods
        } else {
            Source::Ledger
        },
    });
    let in_slices = slices.iter().map(|entry| Word {
        entry,
        source: Source::Slice,
    });
    let words: Vec<Word<'a>> = in_ledger.chain(in_slices).collect();
    let mut compare = |one: &Word<'a>, other: &Word<'a>| {
        if let Some(about) = one.contradicts(other) {
            let (one, other) = (*one, *other);
            told(&Contradiction { one, other, about });
        }
    };
    // Only those that begin before others have ended.
    let mut blocks: Vec<(Interval, &Word<'a>)> = words
        .iter()
        .flat_map(|word| slots(word.entry).map(move |slots| (slots, word)))
        .collect();
    blocks.sort_by_key(|(slots, word)| (*slots, &word.entry.owner.uid));
    let mut open: Vec<(Interval, &Word<'a>)> = Vec::new();
    for (block, word) in blocks {
        open.retain(|(before, _)| before.end > block.start);
        for (_, before) in &open {
            compare(before, word);
        }
        open.push((block, word));
    }
    let mut by_vlan: HashMap<u16, Vec<&Word<'a>>> = HashMap::new();
    let mut by_owner: HashMap<&str, Vec<&Word<'a>>> = HashMap::new();
    for word in &words {
        if let Some(vlan) = word.entry.vlan {
            by_vlan.entry(vlan).or_default().push(word);
        }
        by_owner.entry(&word.entry.owner.uid).or_default().push(word);
    }
    for alike in by_vlan.values().chain(by_owner.values()) {
        for (place, one) in alike.iter().enumerate() {
            for before in &alike[..place] {
                compare(before, one);
            }
        }
    }
}

/// The networks of a fabric whose addresses or VLAN somebody else has too, or of which ledger and slice say different things:
/// by UID of the network, with what is to be said. `slices` are the entries that belong to the fabric's slices.
pub fn contested(ledger: &FabricLedgerSpec, slices: &[LedgerEntry]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    contradictions(ledger, slices, |contradiction| {
        for word in [contradiction.one, contradiction.other] {
            let uid = word.entry.owner.uid.clone();
            found.entry(uid).or_insert_with(|| contradiction.to_string());
        }
    });
    found
}

impl fmt::Display for Contradiction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (one, other) = (&self.one, &self.other);
        let by_pods = one.source == Source::Pods || other.source == Source::Pods;
        if self.about == About::OneNetwork && !by_pods {
            return write!(
                f,
                "{} has {}, and {}: new pods wait; delete its pods, then the network, and apply it anew",
                one.name(),
                one.said(),
                other.said()
            );
        }
        let next = if by_pods {
            "new pods wait until those pods have ended; `kubectl get nodenet -o yaml` shows under status.networks where they are"
        } else {
            "new pods of both wait; delete the pods of one of the two networks, then that network, and apply it anew"
        };
        write!(
            f,
            "{} has {}, and {} has {}: {next}",
            one.name(),
            one.said(),
            other.name(),
            other.said()
        )
    }
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
            let all: Vec<Word<'_>> = ledger.iter().chain(&slices).map(|entry| Word { entry, source: Source::Ledger }).collect();
            let mut wanted = std::collections::BTreeSet::new();
            for one in &all {
                if all.iter().any(|other| one.contradicts(other).is_some()) {
                    wanted.insert(one.entry.owner.uid.clone());
                }
            }
            prop_assert_eq!(found(&ledger, &slices), wanted.into_iter().collect::<Vec<_>>());
        }
    }
}
