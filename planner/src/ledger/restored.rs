//! A ledger that is older than what nodes have: etcd, or the ledger alone, was put back to a backup. What was given since is not in
//! it, and pods have it all the same; given once more, two live pods would have one address.
//!
//! So every node is asked what its pods hold (the recount), and nothing new is given until all have answered. What they hold that
//! the ledger does not know is entered as quarantined, and is nobody's until the last of those pods has ended.

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::{SignedDuration, Timestamp},
};
use railhead_crds::{FabricLedgerSpec, LedgerEntry, LedgerRecount, LedgerState};

use super::{Holding, LARGEST_SEQUENCE, can_count, check_version, exactly, insert, refused::name, rests, version};

/// What nodes say of a fabric.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    /// What their pods hold, as the agents read it from the plans on the nodes: the entries that gave it.
    pub live: Vec<LedgerEntry>,
    /// Nodes that have not answered the recount yet.
    pub waiting: Vec<String>,
}

/// Whether nothing of this entry is given by the ledger but to pods that go on.
pub fn is_quarantined(entry: &LedgerEntry) -> bool {
    entry.state == LedgerState::Quarantined
}

/// By what a ledger is known to be older than what it gave: it has not counted so far yet, or has counted the same number twice, for
/// something that it does not know in any state: what was entered because of an earlier look is no news.
/// A number that somebody else does not have says nothing: what was given back is not in the ledger either, and a node that died
/// goes on saying that it has it.
fn older_than(ledger: &FabricLedgerSpec, live: &[LedgerEntry]) -> Option<String> {
    let is_of_another_time = |held: &&LedgerEntry| {
        held.sequence > ledger.sequence
            || ledger.entries.iter().any(|entry| {
                entry.sequence == held.sequence && entry.owner.uid != held.owner.uid && !is_quarantined(entry)
            })
    };
    let is_entered = |held: &&LedgerEntry| {
        let mut entries = ledger.entries.iter();
        entries.any(|entry| exactly(entry).eq(exactly(held)))
    };
    let unknown = live.iter().filter(|held| !is_entered(held));
    let held = unknown.into_iter().find(is_of_another_time)?;
    Some(format!(
        "pods of {} hold {} by entry {} of the ledger, which has counted to {} and gave that to nobody, or to another",
        name(&held.owner),
        Holding(held),
        held.sequence,
        ledger.sequence
    ))
}

/// Whether the ledger says so, of the same owner.
fn knows(ledger: &FabricLedgerSpec, held: &LedgerEntry) -> bool {
    let mut entries = ledger.entries.iter().filter(|entry| !rests(entry));
    entries.any(|entry| exactly(entry).eq(exactly(held)))
}

/// Enters what pods hold and the ledger does not know.
fn quarantine(ledger: &mut FabricLedgerSpec, live: &[LedgerEntry]) {
    for held in live {
        if knows(ledger, held) {
            continue;
        }
        let same = |entry: &LedgerEntry| exactly(entry).eq(exactly(held));
        ledger.entries.retain(|entry| !(rests(entry) && same(entry)));
        let entry = LedgerEntry {
            state: LedgerState::Quarantined,
            rests_until: None,
            ..held.clone()
        };
        insert(ledger, entry);
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
    let mut next = ledger.clone();
    if next.recount.is_none() {
        let went_back = highest.filter(|highest| *highest > ledger.sequence);
        let went_back =
            went_back.map(|highest| format!("it had counted to {highest}, and says {} now", ledger.sequence));
        if let Some(why) = went_back.or_else(|| older_than(ledger, &nodes.live)) {
            let id = now.to_string();
            next.recount = Some(LedgerRecount { id, why });
        }
    } else if nodes.waiting.is_empty() {
        next.recount = None;
    }
    if ledger.recount.is_some() || next.recount.is_some() {
        quarantine(&mut next, &nodes.live);
    }
    if next.recount.is_none() {
        let until = now.saturating_add(rest).unwrap_or(now);
        for entry in next.entries.iter_mut().filter(|entry| is_quarantined(entry)) {
            let is_held = |held: &LedgerEntry| exactly(held).eq(exactly(entry));
            if !nodes.live.iter().any(is_held) {
                entry.state = LedgerState::Resting;
                entry.rests_until = Some(Time(until));
            }
        }
    }
    if next == *ledger {
        return None;
    }
    // Beyond all that was ever given, so that no number is given twice from here on.
    let given = nodes.live.iter().map(|held| held.sequence);
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
        ledger::{Known, Refusal, Request, Wanted, contested, empty, from_held, release, reserve},
        pools::Written,
        slots::tests::rail,
    };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const REST: SignedDuration = SignedDuration::from_secs(300);

    fn entry(name: &str, base: u32, vlan: u16, sequence: u64) -> LedgerEntry {
        LedgerEntry {
            intervals: vec![LedgerInterval::new(base, 4)],
            vlan: Some(vlan),
            owner: LedgerOwner::new("team-a", name, name),
            sequence,
            state: LedgerState::Held,
            rests_until: None,
            unknown: BTreeMap::new(),
        }
    }

    fn said(live: &[LedgerEntry], waiting: &[&str]) -> Nodes {
        Nodes {
            live: live.to_vec(),
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
        assert!(recount.why.contains("team-a/qwen"), "{}", recount.why);
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
        assert_eq!((over.entries.len(), &over.recount), (3, &None));
        assert_eq!(look(&over, &said(&all, &[]), None, NOW, REST), None);
        // What the last pod of them had rests as all does.
        let ended = look(&over, &said(&live, &[]), None, NOW, REST).expect("mixtral's pods have ended");
        assert_eq!(states(&ended)[2], ("mixtral", &LedgerState::Resting));
        assert!(ended.entries[2].rests_until.is_some());
        assert_eq!(states(&ended)[1], ("qwen", &LedgerState::Quarantined));
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
        assert_eq!(over.recount, None);
        assert_eq!(look(&over, &live, None, NOW, REST), None, "qwen's is entered");
        let rests = look(&over, &said(&[], &[]), None, NOW, REST).expect("qwen's pods have ended");
        assert_eq!(look(&rests, &live, None, NOW, REST), None, "a node that says so late");
    }

    #[test]
    fn a_number_beyond_all_counting_is_news_once() {
        let live = said(&[entry("qwen", 4, 11, u64::MAX)], &[]);
        let asked = look(&empty(), &live, None, NOW, REST).expect("nothing counts so far");
        let over = look(&asked, &live, None, NOW, REST).expect("all have answered");
        assert_eq!(look(&over, &live, None, NOW, REST), None);
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
        let own = request(&qwen.owner, Wanted::Held(qwen.clone()));
        let outcome = reserve(&over, &no_slices, &[own]);
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
            written: Arc::clone(&written),
        };
        let other = LedgerOwner::new("team-b", "gpt", "gpt");
        let outcome = reserve(
            &over,
            &no_slices,
            &[request(&qwen.owner, block()), request(&other, block())],
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
