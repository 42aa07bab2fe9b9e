//! A ledger that is older than what nodes have: etcd, or the ledger alone, was put back to a backup. What was given since is not in
//! it, and pods have it all the same; given once more, two live pods would have one address.
//!
//! So every node is asked what its pods hold (the recount), and nothing new is given until all have answered. What they hold that
//! the ledger does not know is entered as quarantined, and is nobody's until the last of those pods has ended.

use std::collections::HashSet;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerRecount, LedgerState};

use super::{
    Holding, LARGEST_SEQUENCE,
    believed::{Index, Said, Word, believed},
    can_count, check_version, exactly, first_slot, has_rested, insert,
    refused::name,
    rests, version,
};

/// What nodes say of a fabric.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// What their pods hold, as the agents read it from the plans on the nodes.
    pub live: Vec<Said>,
    /// Nodes that have not answered the recount.
    pub waiting: Vec<String>,
}

/// Whether nothing of this entry is given by the ledger but to pods that go on.
pub fn is_quarantined(entry: &LedgerEntry) -> bool {
    entry.state == LedgerState::Quarantined
}

/// Whether nothing new is given, since not all nodes have answered.
pub fn asks(ledger: &FabricLedgerSpec) -> bool {
    ledger.recount.as_ref().is_some_and(|recount| !recount.answered)
}

/// Whether a look may change the ledger though neither somebody else has written it nor nodes say otherwise than before.
pub fn awaits(ledger: &FabricLedgerSpec) -> bool {
    let was_quarantined = |entry: &LedgerEntry| entry.node.is_some() || is_quarantined(entry);
    ledger.recount.is_some() || ledger.entries.iter().any(was_quarantined)
}

/// By what a ledger is known to be older than what it gave: it has not counted so far yet, or has counted the same number twice, for
/// something that it does not know in any state: what was entered because of an earlier look is no news.
/// A number that somebody else does not have says nothing: what was given back is not in the ledger either, and a node that died
/// goes on saying that it has it.
fn older_than(ledger: &FabricLedgerSpec, index: &Index<'_>, live: &[Word<'_>]) -> Option<String> {
    let is_of_another_time = |held: &LedgerEntry| {
        held.sequence > ledger.sequence
            || index
                .numbered(held.sequence)
                .any(|entry| entry.owner.uid != held.owner.uid && !is_quarantined(entry))
    };
    let mut live = live.iter();
    let word = live.find(|word| is_of_another_time(word.held) && index.same(word.held).next().is_none())?;
    Some(format!(
        "pods of {} on node {} hold {} by entry {} of the ledger, which has counted to {} and gave that to nobody, or to another",
        name(&word.held.owner),
        word.node,
        Holding(word.held),
        word.held.sequence,
        ledger.sequence
    ))
}

/// What tells an entry that a node names from others.
fn key(entry: &LedgerEntry) -> (&str, u32, Option<u16>, u32) {
    let size = entry.intervals.iter().map(|interval| interval.size).max();
    (&entry.owner.uid, first_slot(entry), entry.vlan, size.unwrap_or(0))
}

/// Enters what pods hold and the ledger does not know.
fn quarantine(next: &mut FabricLedgerSpec, index: &Index<'_>, live: &[Word<'_>]) {
    let mut entered = HashSet::new();
    for word in live {
        if index.same(word.held).any(|entry| !rests(entry)) || !entered.insert(key(word.held)) {
            continue;
        }
        let same = |entry: &LedgerEntry| exactly(entry).eq(exactly(word.held));
        next.entries.retain(|entry| !(rests(entry) && same(entry)));
        let entry = LedgerEntry {
            state: LedgerState::Quarantined,
            rests_until: None,
            node: Some(word.node.to_owned()),
            ..word.held.clone()
        };
        insert(next, entry);
    }
}

/// The ledger after a look at what nodes say of it; `None` if nothing changes. `highest` is how far it was known to have counted.
pub fn look(
    ledger: &FabricLedgerSpec,
    nodes: &Nodes,
    highest: Option<u64>,
    now: Timestamp,
    rest: SignedDuration,
) -> Option<FabricLedgerSpec> {
    check_version(ledger).ok().filter(|()| can_count(ledger))?;
    let highest = highest.filter(|highest| *highest < LARGEST_SEQUENCE);
    let index = Index::of(ledger);
    let (live, _) = believed(ledger, &index, &nodes.live);
    let asked = asks(ledger);
    let why = if asked {
        None
    } else {
        let went_back = highest.filter(|highest| *highest > ledger.sequence);
        let went_back =
            went_back.map(|highest| format!("it had counted to {highest}, and says {} now", ledger.sequence));
        went_back.or_else(|| older_than(ledger, &index, &live))
    };
    if why.is_none() && !awaits(ledger) {
        return None;
    }
    let mut next = ledger.clone();
    let asks_now = why.is_some() || (asked && !nodes.waiting.is_empty());
    if let Some(why) = why {
        next.recount = Some(LedgerRecount {
            id: now.to_string(),
            why,
            answered: false,
        });
    }
    if let Some(recount) = &mut next.recount {
        recount.answered = !asks_now;
    }
    if asked || asks_now {
        quarantine(&mut next, &index, &live);
    }
    let held: HashSet<_> = live.iter().map(|word| key(word.held)).collect();
    // What has rested goes with its network. One that has got something else by now lives on without it.
    next.entries.retain(|entry| {
        let is_let_go = entry.node.is_some() && has_rested(entry, now) && !held.contains(&key(entry));
        !(is_let_go && index.of_owner(entry).any(|other| !rests(other)))
    });
    // A node that has not answered may have what it does not name: it was put in place of another, or its NodeNetwork was lost.
    if !asks_now && nodes.waiting.is_empty() {
        let until = now.saturating_add(rest).unwrap_or(now);
        for entry in next.entries.iter_mut().filter(|entry| is_quarantined(entry)) {
            if !held.contains(&key(entry)) {
                entry.state = LedgerState::Resting;
                entry.rests_until = Some(Time(until));
            }
        }
    }
    if !asks(&next) && !next.entries.iter().any(is_quarantined) {
        next.recount = None;
    }
    if next == *ledger {
        return None;
    }
    // Beyond all that was ever given, so that no number is given twice from here on.
    let given = live.iter().map(|word| word.held.sequence);
    let given = given.filter(|sequence| *sequence < LARGEST_SEQUENCE).max();
    next.sequence = next.sequence.max(highest.unwrap_or(0)).max(given.unwrap_or(0)) + 1;
    next.version = version(&next);
    Some(next)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use railhead_crds::{LedgerInterval, LedgerOwner, NetworkSlice, VlanRange};

    use super::*;
    use crate::{
        ledger::{Known, Refusal, Request, Wanted, contested, empty, from_held, release, reserve, tests::takes},
        pools::Written,
        quota::Bounds,
        slots::tests::rail,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const REST: SignedDuration = SignedDuration::from_secs(300);

    fn entry(name: &str, base: u32, vlan: u16, sequence: u64) -> LedgerEntry {
        LedgerEntry {
            intervals: vec![LedgerInterval::new(base, 4)],
            vlan: Some(vlan),
            owner: LedgerOwner::new("team-a", name, name),
            takes: None,
            sequence,
            state: LedgerState::Held,
            rests_until: None,
            node: None,
            unknown: BTreeMap::new(),
        }
    }

    fn said(live: &[LedgerEntry], waiting: &[&str]) -> Nodes {
        Nodes {
            live: vec![Said {
                node: "node1".into(),
                most: 64,
                held: live.to_vec(),
            }],
            waiting: waiting.iter().map(|node| (*node).to_owned()).collect(),
        }
    }

    fn states(ledger: &FabricLedgerSpec) -> Vec<(&str, &LedgerState)> {
        ledger
            .entries
            .iter()
            .map(|entry| (&*entry.owner.uid, &entry.state))
            .collect()
    }

    #[test]
    fn what_pods_have_by_a_later_ledger_is_nobodys_until_they_have_ended() {
        let (llama, qwen) = (entry("llama", 0, 10, 3), entry("qwen", 4, 11, 8));
        let restored = from_held([llama.clone()]);
        let live = [llama.clone(), qwen.clone()];
        let asked = look(&restored, &said(&live, &[]), None, NOW, REST).expect("it has counted to 3, and qwen's is 8");
        let recount = asked.recount.clone().expect("nodes are asked");
        assert!(recount.why.contains("team-a/qwen on node node1"), "{}", recount.why);
        assert_eq!(
            states(&asked),
            [("llama", &LedgerState::Held), ("qwen", &LedgerState::Quarantined)]
        );
        assert!(asked.sequence > 8, "no number is given twice: {}", asked.sequence);
        assert_eq!(asked.version, 2, "a release before holds the entry too");
        assert_eq!(
            look(&asked, &said(&live, &["node2"]), None, NOW, REST),
            None,
            "node2 has not answered"
        );
        // Another node says more.
        let mixtral = entry("mixtral", 8, 12, 7);
        let all = [llama.clone(), qwen.clone(), mixtral];
        let more = look(&asked, &said(&all, &["node3"]), None, NOW, REST).expect("mixtral is not known");
        assert_eq!((more.entries.len(), &more.recount), (3, &asked.recount));
        let over = look(&more, &said(&all, &[]), None, NOW, REST).expect("all have answered");
        assert_eq!(over.entries.len(), 3);
        assert!(
            !asks(&over) && over.recount.is_some(),
            "nodes that come are asked: {over:?}"
        );
        assert_eq!(over.entries[1].node.as_deref(), Some("node1"));
        assert_eq!(look(&over, &said(&all, &[]), None, NOW, REST), None);
        // What the last pod of them had rests as all does.
        let ended = look(&over, &said(&live, &[]), None, NOW, REST).expect("mixtral's pods have ended");
        assert_eq!(states(&ended)[2], ("mixtral", &LedgerState::Resting));
        assert!(ended.entries[2].rests_until.is_some());
        assert_eq!(states(&ended)[1], ("qwen", &LedgerState::Quarantined));
        assert!(ended.recount.is_some(), "qwen's pods go on");
        let over = look(&ended, &said(&[llama], &[]), None, NOW, REST).expect("qwen's have ended too");
        assert_eq!(over.recount, None);
    }

    #[test]
    fn what_a_network_had_before_goes_when_it_has_rested_though_the_network_has_something_else() {
        let before = entry("qwen", 4, 11, 8);
        let live = said(std::slice::from_ref(&before), &[]);
        let asked = look(&empty(), &live, None, NOW, REST).expect("it has counted to 0");
        let over = look(&asked, &said(&[], &[]), None, NOW, REST).expect("its pods have ended");
        assert_eq!(states(&over), [("qwen", &LedgerState::Resting)]);
        let rested = NOW + REST;
        assert_eq!(
            look(&over, &said(&[], &[]), None, rested, REST),
            None,
            "it goes with its network"
        );
        let mut other = over;
        let number = other.sequence;
        insert(&mut other, entry("qwen", 8, 12, number));
        assert_eq!(look(&other, &said(&[], &[]), None, NOW, REST), None, "it rests");
        assert_eq!(look(&other, &live, None, rested, REST), None, "a node names it");
        let gone = look(&other, &said(&[], &[]), None, rested, REST).expect("it has rested");
        assert_eq!(states(&gone), [("qwen", &LedgerState::Held)]);
        assert_eq!(gone.entries[0].vlan, Some(12));
    }

    #[test]
    fn a_node_that_says_nothing_ends_no_quarantine_before_it_has_answered() {
        let qwen = entry("qwen", 4, 11, 8);
        let live = said(std::slice::from_ref(&qwen), &[]);
        let asked = look(&empty(), &live, None, NOW, REST).expect("it has counted to 0");
        let over = look(&asked, &live, None, NOW, REST).expect("all have answered");
        // Its NodeNetwork was made anew, or its agent cannot read a plan.
        assert_eq!(look(&over, &said(&[], &["node1"]), None, NOW, REST), None);
        let ended = look(&over, &said(&[], &[]), None, NOW, REST).expect("it has answered");
        assert_eq!(states(&ended), [("qwen", &LedgerState::Resting)]);
        // Where somebody has ended the questions by hand, what nobody names ends.
        let mut forced = over;
        forced.recount = None;
        let ended = look(&forced, &said(&[], &[]), None, NOW, REST).expect("nobody is asked");
        assert_eq!(states(&ended), [("qwen", &LedgerState::Resting)]);
    }

    #[test]
    fn a_node_that_names_more_than_can_be_neither_fills_the_ledger_nor_stops_it_for_what_is_beyond() {
        let many: Vec<LedgerEntry> = (0..1000)
            .map(|i| entry(&format!("net{i}"), 4 * i, 10, u64::from(i) + 1))
            .collect();
        let asked = look(&empty(), &said(&many, &[]), None, NOW, REST).expect("it has counted to 0");
        assert_eq!(asked.entries.len(), 64, "as many as its ports carry");
        let over = look(&asked, &said(&many, &[]), None, NOW, REST).expect("all have answered");
        assert!(!asks(&over));
        assert_eq!(
            look(&over, &said(&many, &[]), None, NOW, REST),
            None,
            "the rest is no news"
        );
        // Others in their place get in when those have rested.
        let others = said(&many[64..], &[]);
        let rests = look(&over, &others, None, NOW, REST).expect("it names them no more");
        assert_eq!(rests.entries.len(), 64);
        assert_eq!(look(&rests, &others, None, NOW, REST), None);
    }

    #[test]
    fn a_ledger_that_counts_backwards_asks_whatever_nodes_say() {
        let ledger = from_held([entry("llama", 0, 10, 3)]);
        assert_eq!(look(&ledger, &said(&[], &[]), Some(3), NOW, REST), None);
        let asked = look(&ledger, &said(&[], &["node1"]), Some(9), NOW, REST).expect("it had counted to 9");
        assert!(asked.recount.is_some() && asked.sequence > 9, "{asked:?}");
    }

    #[test]
    fn a_number_that_was_given_twice_tells_of_a_restore_that_was_not_seen() {
        // qwen had number 4; after the restore it was given to mixtral, and others since.
        let ledger = from_held([
            entry("llama", 0, 10, 3),
            entry("mixtral", 4, 11, 4),
            entry("gpt", 8, 12, 9),
        ]);
        let qwen = entry("qwen", 4, 11, 4);
        let asked = look(&ledger, &said(std::slice::from_ref(&qwen), &[]), None, NOW, REST).expect("4 is mixtral's");
        assert!(
            asked
                .entries
                .iter()
                .any(|entry| entry.owner.uid == "qwen" && is_quarantined(entry))
        );
        let told = contested(&asked, &[]);
        assert_eq!(
            told.keys().collect::<Vec<_>>(),
            ["mixtral", "qwen"],
            "neither gets more pods"
        );
        assert!(told["mixtral"].contains("pods on nodes"), "{}", told["mixtral"]);
        // It is news once.
        let live = said(std::slice::from_ref(&qwen), &[]);
        let over = look(&asked, &live, None, NOW, REST).expect("all have answered");
        assert!(!asks(&over));
        assert_eq!(look(&over, &live, None, NOW, REST), None, "qwen's is entered");
        let rests = look(&over, &said(&[], &[]), None, NOW, REST).expect("qwen's pods have ended");
        assert_eq!(look(&rests, &live, None, NOW, REST), None, "a node that says so late");
    }

    #[test]
    fn a_number_beyond_all_counting_stops_no_ledger() {
        for sequence in [LARGEST_SEQUENCE - 1, u64::MAX] {
            let live = said(&[entry("qwen", 4, 11, sequence)], &[]);
            assert_eq!(
                look(&empty(), &live, None, NOW, REST),
                None,
                "it is the node that is doubted"
            );
            // Nor where nodes are asked for another reason.
            let asked = look(&empty(), &live, Some(7), NOW, REST).expect("it had counted to 7");
            let over = look(&asked, &live, Some(7), NOW, REST).expect("all have answered");
            assert!(can_count(&over) && over.sequence < 20, "{}", over.sequence);
        }
    }

    #[test]
    fn what_was_given_back_and_a_dead_node_still_tells_is_no_restore() {
        let ledger = from_held([entry("llama", 0, 10, 3), entry("qwen", 4, 11, 9)]);
        let gone = entry("gone", 4, 11, 5);
        assert_eq!(look(&ledger, &said(&[gone], &[]), None, NOW, REST), None);
    }

    #[test]
    fn nothing_of_what_is_quarantined_is_given_or_freed() {
        let qwen = entry("qwen", 4, 11, 8);
        let live = said(std::slice::from_ref(&qwen), &[]);
        let asked = look(&empty(), &live, None, NOW, REST).expect("it has counted to 0");
        let over = look(&asked, &live, None, NOW, REST).expect("all have answered");
        assert_eq!(release(&over, "qwen", NOW, REST), Ok(None), "its pods have it");
        assert!(Known::of(&over).has(&qwen));
        let request = |owner: &LedgerOwner, wanted| Request {
            owner: owner.clone(),
            wanted,
        };
        let no_slices: [NetworkSlice; 0] = [];
        let own = request(&qwen.owner, Wanted::Held(Box::new(qwen.clone())));
        let outcome = reserve(&over, &no_slices, &[own], &Bounds::default());
        assert_eq!(
            outcome.results,
            [Ok(over.entries[0].clone())],
            "a slice that comes back has it"
        );
        let written = Arc::new(Written {
            vlans: VlanRange { min: 10, max: 12 },
            ..Written::of(&[rail(0, &["10.0.0.0/28"])])
        });
        let block = || Wanted::Block {
            pods: 4,
            takes: takes(4),
            written: Arc::clone(&written),
        };
        let other = LedgerOwner::new("team-b", "gpt", "gpt");
        let outcome = reserve(
            &over,
            &no_slices,
            &[request(&qwen.owner, block()), request(&other, block())],
            &Bounds::default(),
        );
        assert!(
            matches!(outcome.results[0], Err(Refusal::Quarantined { .. })),
            "{:?}",
            outcome.results
        );
        let given = outcome.results[1].as_ref().expect("there is room beside it");
        assert!(given.intervals[0].base != 4 && given.vlan != Some(11), "{given:?}");
    }

    #[test]
    fn a_later_ledger_is_left_alone() {
        let mut later = empty();
        later.version = crate::ledger::LEDGER_VERSION + 1;
        let live = said(&[entry("qwen", 4, 11, 8)], &[]);
        assert_eq!(look(&later, &live, None, NOW, REST), None);
    }
}
