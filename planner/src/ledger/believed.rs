//! How far a node is believed about what its pods hold. Somebody who broke into it can have it say anything: of one node no more is
//! entered than its ports can carry, so that its word neither fills the ledger nor takes all of a fabric's VLANs.

use std::collections::{BTreeMap, HashMap, HashSet};

use railhead_crds::{
    FabricLedgerSpec, LedgerEntry, LedgerInterval, LedgerOwner, LedgerState, NodeHolding, NodeNetwork, NodeRail,
};

use super::{LARGEST_SEQUENCE, exactly, restored::is_quarantined, rests, slots};
use crate::slots::MAX_SLOTS;

/// Networks of which pods of one node have something, at most: kubelets run no more pods than that.
const MOST_OF_A_NODE: usize = 256;
/// Slots of the largest block that a network can have.
const LARGEST_BLOCK: u32 = 1 << 16;
/// Slots of all blocks of a node together, at most: as many as sixteen of the largest networks have.
const MOST_SLOTS: u32 = 16 * LARGEST_BLOCK;
/// A ledger that counted a thousand reservations a second would be here in a hundred thousand years. A word beyond it would keep the
/// ledger from ever counting on, so none is taken that the ledger has not come near itself.
const BELIEVABLE_SEQUENCE: u64 = LARGEST_SEQUENCE / 2;

/// What a node says that its pods hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// Its name.
    pub node: String,
    /// How many pods its ports can carry.
    pub most: usize,
    /// The entries that gave it.
    pub held: Vec<LedgerEntry>,
}

/// How many pods a node is believed to have whose NodeNetwork says of no port, as one that was made anew after a restore.
const FEW: usize = 8;

impl Said {
    /// What a node says of a fabric; none if that is nothing.
    pub fn by(node: &NodeNetwork, fabric: &str) -> Option<Self> {
        let held = node.status.iter().flat_map(|status| &status.networks);
        let held: Vec<LedgerEntry> = held.filter(|held| held.fabric == fabric).map(entry_of).collect();
        (!held.is_empty()).then(|| Self {
            node: node.metadata.name.clone().unwrap_or_default(),
            most: most(node),
            held,
        })
    }
}

/// How many pods the ports of a node can carry, each on one of them: as many as the Fabric wants functions there, or as there are.
fn most(node: &NodeNetwork) -> usize {
    let ports = || node.status.iter().flat_map(|status| &status.ports);
    let of_rail = |rail: &NodeRail| {
        let found = ports().filter(|port| port.rail == rail.id).map(|port| port.vfs.total);
        found.max().unwrap_or(0).max(rail.vfs)
    };
    let functions = node.spec.rails.iter().map(of_rail);
    let sum = functions.fold(0_usize, |sum, functions| {
        sum.saturating_add(usize::try_from(functions).unwrap_or(usize::MAX))
    });
    sum.max(FEW)
}

fn entry_of(held: &NodeHolding) -> LedgerEntry {
    LedgerEntry {
        intervals: vec![LedgerInterval::new(held.base, held.size)],
        vlan: held.vlan,
        owner: LedgerOwner::new(&held.namespace, &held.name, &held.uid),
        takes: None,
        sequence: held.ledger_sequence,
        state: LedgerState::Held,
        rests_until: None,
        node: None,
        unknown: BTreeMap::new(),
    }
}

/// A word that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Word<'a> {
    pub(super) node: &'a str,
    pub(super) held: &'a LedgerEntry,
}

/// A node that says more than can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubted {
    /// Its name.
    pub node: String,
    /// How much of what it says does not count.
    pub beyond: usize,
}

/// The entries of a ledger by whom they are of, and by their numbers.
pub(super) struct Index<'a> {
    of: HashMap<&'a str, Vec<&'a LedgerEntry>>,
    numbered: HashMap<u64, Vec<&'a LedgerEntry>>,
}

impl<'a> Index<'a> {
    pub(super) fn of(ledger: &'a FabricLedgerSpec) -> Self {
        let mut index = Self {
            of: HashMap::with_capacity(ledger.entries.len()),
            numbered: HashMap::with_capacity(ledger.entries.len()),
        };
        for entry in &ledger.entries {
            index.of.entry(&entry.owner.uid).or_default().push(entry);
            index.numbered.entry(entry.sequence).or_default().push(entry);
        }
        index
    }

    /// All entries of the owner of this one.
    pub(super) fn of_owner(&self, entry: &LedgerEntry) -> impl Iterator<Item = &'a LedgerEntry> {
        self.of.get(entry.owner.uid.as_str()).into_iter().flatten().copied()
    }

    /// Entries, in whatever state, that are exactly `held`, of the same owner.
    pub(super) fn same(&self, held: &LedgerEntry) -> impl Iterator<Item = &'a LedgerEntry> {
        self.of_owner(held).filter(|entry| exactly(entry).eq(exactly(held)))
    }

    /// Entries of that number.
    pub(super) fn numbered(&self, sequence: u64) -> impl Iterator<Item = &'a LedgerEntry> {
        self.numbered.get(&sequence).into_iter().flatten().copied()
    }
}

/// The words of nodes that count, and the nodes that say more. What the ledger has already costs nobody a word.
pub(super) fn believed<'a>(
    ledger: &FabricLedgerSpec,
    index: &Index<'_>,
    live: &'a [Said],
) -> (Vec<Word<'a>>, Vec<Doubted>) {
    // What was entered for a node's word counts until it has rested: else it could say something else every second.
    let mut entered: HashMap<&str, (usize, u32)> = HashMap::new();
    for entry in ledger
        .entries
        .iter()
        .filter(|entry| is_quarantined(entry) || rests(entry))
    {
        if let Some(node) = &entry.node {
            let (count, size) = entered.entry(node).or_default();
            *count += 1;
            *size = size.saturating_add(size_of(entry));
        }
    }
    let mut words = Vec::new();
    let mut doubted = Vec::new();
    for said in live {
        let (mut count, mut size) = entered.get(said.node.as_str()).copied().unwrap_or_default();
        let before = words.len();
        let mut seen = HashSet::new();
        for held in &said.held {
            if held.sequence >= BELIEVABLE_SEQUENCE && held.sequence > ledger.sequence {
                continue;
            }
            let is_own = |entry: &LedgerEntry| entry.node.as_ref() == Some(&said.node);
            if !index.same(held).any(|entry| !rests(entry) || is_own(entry)) {
                let total = size.saturating_add(size_of(held));
                if count >= said.most.min(MOST_OF_A_NODE) || total > MOST_SLOTS || !is_block(held) {
                    continue;
                }
                if seen.insert((held.owner.uid.as_str(), super::first_slot(held), held.vlan)) {
                    count += 1;
                    size = total;
                }
            }
            words.push(Word { node: &said.node, held });
        }
        let beyond = said.held.len() - (words.len() - before);
        if beyond > 0 {
            let node = said.node.clone();
            doubted.push(Doubted { node, beyond });
        }
    }
    (words, doubted)
}

/// The nodes that say more than can be.
pub fn doubted(ledger: &FabricLedgerSpec, live: &[Said]) -> Vec<Doubted> {
    believed(ledger, &Index::of(ledger), live).1
}

fn size_of(entry: &LedgerEntry) -> u32 {
    entry
        .intervals
        .iter()
        .fold(0, |sum, interval| sum.saturating_add(interval.size))
}

/// Whether it is such as ledgers give.
pub fn is_block(held: &LedgerEntry) -> bool {
    let aligned = |base: u32, size: u32| size.is_power_of_two() && base.is_multiple_of(size);
    let mut intervals = held.intervals.iter();
    size_of(held) <= LARGEST_BLOCK
        && intervals.all(|interval| aligned(interval.base, interval.size))
        && slots(held).all(|slots| slots.end <= MAX_SLOTS)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{empty, from_held, tests::entry},
        *,
    };

    fn said(most: usize, held: Vec<LedgerEntry>) -> Said {
        Said {
            node: "node1".into(),
            most,
            held,
        }
    }

    fn blocks(count: u16, size: u32) -> Vec<LedgerEntry> {
        let block = |i: u16| entry(&format!("net{i}"), &[(u32::from(i) * size, size)], Some(10 + i));
        (0..count).map(block).collect()
    }

    fn counts(ledger: &FabricLedgerSpec, live: &Said) -> (usize, usize) {
        let (words, doubted) = believed(ledger, &Index::of(ledger), std::slice::from_ref(live));
        (words.len(), doubted.iter().map(|doubted| doubted.beyond).sum())
    }

    #[test]
    fn a_node_is_believed_as_much_as_its_ports_can_carry_beside_what_the_ledger_has() {
        assert_eq!(counts(&empty(), &said(8, blocks(8, 4))), (8, 0));
        assert_eq!(counts(&empty(), &said(8, blocks(2000, 4))), (8, 1992));
        assert_eq!(
            counts(&empty(), &said(100_000, blocks(2000, 4))),
            (MOST_OF_A_NODE, 2000 - MOST_OF_A_NODE)
        );
        let known = from_held(blocks(20, 4));
        assert_eq!(counts(&known, &said(8, blocks(40, 4))), (28, 12));
    }

    #[test]
    fn what_a_node_said_before_counts_until_it_has_rested() {
        let mut ledger = from_held(blocks(6, 4));
        for (place, entry) in ledger.entries.iter_mut().enumerate() {
            entry.node = Some(if place == 5 { "node2" } else { "node1" }.into());
            entry.state = [LedgerState::Quarantined, LedgerState::Resting][place % 2].clone();
        }
        let others = blocks(16, 4).split_off(8);
        assert_eq!(counts(&ledger, &said(8, others)), (3, 5));
        // Its own words, said again, are no further ones; those of another node are.
        assert_eq!(counts(&ledger, &said(5, blocks(6, 4))), (5, 1));
    }

    #[test]
    fn no_word_takes_a_ledgers_numbers_away() {
        let word = |sequence: u64| {
            let mut word = entry("net", &[(0, 4)], Some(10));
            word.sequence = sequence;
            word
        };
        let mut ledger = empty();
        for sequence in [BELIEVABLE_SEQUENCE, LARGEST_SEQUENCE - 1, u64::MAX] {
            assert_eq!(counts(&ledger, &said(8, vec![word(sequence)])), (0, 1), "{sequence}");
        }
        assert_eq!(counts(&ledger, &said(8, vec![word(BELIEVABLE_SEQUENCE - 1)])), (1, 0));
        // Of what the ledger has itself, too.
        ledger.entries = vec![word(7)];
        ledger.sequence = 7;
        assert_eq!(counts(&ledger, &said(8, vec![word(LARGEST_SEQUENCE - 1)])), (0, 1));
        ledger.sequence = LARGEST_SEQUENCE - 2;
        assert_eq!(counts(&ledger, &said(8, vec![word(LARGEST_SEQUENCE - 2)])), (1, 0));
    }

    #[test]
    fn no_word_is_larger_than_a_network_and_none_is_no_block() {
        assert_eq!(counts(&empty(), &said(8, blocks(1, LARGEST_BLOCK))), (1, 0));
        assert_eq!(counts(&empty(), &said(8, blocks(1, 2 * LARGEST_BLOCK))), (0, 1));
        // Networks reserve what they may need one day, and a node may have pods of several large ones.
        assert_eq!(counts(&empty(), &said(8, blocks(8, LARGEST_BLOCK))), (8, 0));
        assert_eq!(counts(&empty(), &said(64, blocks(20, LARGEST_BLOCK))), (16, 4));
        let nonsense = [(0, 0), (0, 3), (2, 4), (MAX_SLOTS, 4), (u32::MAX - 3, 4), (0, u32::MAX)];
        for (base, size) in nonsense {
            assert_eq!(
                counts(&empty(), &said(8, vec![entry("net", &[(base, size)], Some(10))])),
                (0, 1),
                "{base} {size}"
            );
        }
    }
}
