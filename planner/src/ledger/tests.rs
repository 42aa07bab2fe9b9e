use proptest::prelude::*;

use super::*;
use crate::slots::tests::rail;

const VLANS: VlanRange = VlanRange { min: 1000, max: 1003 };

fn request(uid: &str, pods: u32) -> Request {
    Request {
        owner: LedgerOwner {
            namespace: "team".into(),
            name: uid.into(),
            uid: uid.into(),
        },
        pods,
        held: None,
    }
}

fn space(cidr: &str) -> SlotSpace {
    SlotSpace::new(&[rail(0, &[cidr])]).unwrap()
}

#[test]
fn asking_twice_gives_the_same_block_and_does_not_change_the_ledger() {
    let space = space("10.0.0.0/24");
    let first = reserve(&empty(), &space, VLANS, &[request("a", 5)]);
    let second = reserve(&first.ledger, &space, VLANS, &[request("a", 5)]);
    assert_eq!(first.results, second.results);
    assert!(first.changed && !second.changed);
}

#[test]
fn exactly_as_many_pods_as_addresses_fit() {
    let space = space("10.0.0.0/24");
    let outcome = reserve(&empty(), &space, VLANS, &[request("a", 256)]);
    assert_eq!(outcome.results[0].as_ref().map(|e| (e.base, e.size)), Ok((0, 256)));
    let refused = reserve(&outcome.ledger, &space, VLANS, &[request("b", 1)]);
    assert_eq!(
        refused.results[0],
        Err(Refusal::PoolExhausted {
            pods: 1,
            needed: 1,
            largest: 0
        })
    );
}

#[test]
fn the_first_and_last_address_of_a_pool_are_used_last() {
    let space = space("10.0.0.0/28");
    let outcome = reserve(&empty(), &space, VLANS, &[request("a", 2)]);
    assert_eq!(outcome.results[0].as_ref().map(|e| e.base), Ok(2));
}

#[test]
fn gateways_and_excluded_prefixes_are_never_given_away() {
    let mut rails = [rail(0, &["10.0.0.0/28"]), rail(1, &["10.1.0.0/28"])];
    rails[1].pools[0].gateway = Some("10.1.0.9".into());
    rails[0].pools[0].exclude = vec!["10.0.0.0/29".into()];
    let space = SlotSpace::new(&rails).unwrap();
    let outcome = reserve(&empty(), &space, VLANS, &[request("a", 4), request("b", 4)]);
    assert_eq!(outcome.results[0].as_ref().map(|e| e.base), Ok(12));
    assert_eq!(
        outcome.results[1],
        Err(Refusal::PoolExhausted {
            pods: 4,
            needed: 4,
            largest: 2
        })
    );
}

#[test]
fn a_network_without_a_vlan_gets_no_addresses_either() {
    let space = space("10.0.0.0/24");
    let requests: Vec<Request> = (0..5).map(|i| request(&format!("n{i}"), 2)).collect();
    let outcome = reserve(&empty(), &space, VLANS, &requests);
    assert_eq!(
        outcome.results[4],
        Err(Refusal::VlanExhausted {
            total: 4,
            min: 1000,
            max: 1003
        })
    );
    assert_eq!(outcome.ledger.entries.len(), 4);
}

#[test]
fn more_pods_than_any_pool_has_is_refused_with_numbers() {
    let outcome = reserve(&empty(), &space("10.0.0.0/24"), VLANS, &[request("a", 65536)]);
    let text = outcome.results[0].as_ref().unwrap_err().to_string();
    assert!(
        text.contains("65536 addresses") && text.contains("largest free one has 256"),
        "{text}"
    );
}

/// A network whose slice holds 4 slots, as its slice says it.
fn holder(uid: &str, base: u32, vlan: u16) -> Request {
    let mut holder = request(uid, 4);
    holder.held = Some(LedgerEntry {
        base,
        size: 4,
        vlan,
        owner: holder.owner.clone(),
        sequence: 7,
        state: LedgerState::Held,
    });
    holder
}

#[test]
fn what_a_slice_holds_is_entered_again_as_it_is_and_before_anything_new() {
    let space = space("10.0.0.0/28");
    let lost = holder("lost", 4, 1000);
    let outcome = reserve(&empty(), &space, VLANS, &[request("new", 4), lost.clone()]);
    assert_eq!(outcome.results[1], Ok(lost.held.clone().unwrap()));
    let new = outcome.results[0].clone().unwrap();
    assert_eq!(
        (new.base, new.vlan),
        (8, 1001),
        "neither the slots nor the VLAN of the slice"
    );
    assert_eq!(outcome.ledger.sequence, 9, "beyond the slice's own");
    let again = reserve(&outcome.ledger, &space, VLANS, &[lost]);
    assert!(!again.changed, "{:?}", again.ledger);
}

#[test]
fn a_slice_whose_slots_or_vlan_another_network_has_is_refused_with_both_names() {
    let space = space("10.0.0.0/28");
    let ledger = reserve(&empty(), &space, VLANS, &[holder("new", 4, 1000)]).ledger;
    for lost in [holder("lost", 6, 1001), holder("lost", 8, 1000)] {
        let outcome = reserve(&ledger, &space, VLANS, &[lost]);
        assert!(!outcome.changed, "{:?}", outcome.ledger);
        let refused = outcome.results[0].as_ref().unwrap_err();
        assert_eq!(refused.reason(), "LedgerMismatch");
        let text = refused.to_string();
        assert!(
            text.contains("slice of team/lost") && text.contains("to team/new:"),
            "{text}"
        );
    }
}

#[test]
fn what_a_slice_holds_is_not_given_away_where_the_ledger_says_otherwise() {
    let space = space("10.0.0.0/28");
    // The ledger gives llama's block to qwen, whose slice has another one.
    let mut altered = holder("qwen", 4, 1001);
    let ledger = reserve(&empty(), &space, VLANS, &[altered.clone()]).ledger;
    altered.held.as_mut().unwrap().base = 8;
    let llama = holder("llama", 4, 1000);
    let known = Known::of(&ledger);
    assert!(!known.has(llama.held.as_ref().unwrap()) && !known.has(altered.held.as_ref().unwrap()));
    let outcome = reserve(&ledger, &space, VLANS, &[request("new", 2), llama, altered]);
    let new = outcome.results[0].clone().unwrap();
    assert_eq!((new.base, new.vlan), (2, 1002), "{:?}", outcome.ledger);
    assert_eq!(outcome.results[1].as_ref().unwrap_err().reason(), "LedgerMismatch");
    assert_eq!(outcome.results[2].as_ref().map(|entry| entry.base), Ok(4));
    let full = reserve(
        &outcome.ledger,
        &space,
        VLANS,
        &[request("large", 4), holder("llama", 4, 1000), holder("qwen", 8, 1001)],
    );
    assert_eq!(
        full.results[0].as_ref().map(|entry| entry.base),
        Ok(12),
        "all else is held"
    );
}

/// What somebody does to a fabric, or to its ledger behind Railhead's back.
#[derive(Clone, Debug)]
enum Step {
    Apply {
        network: u32,
        pods: u32,
    },
    Delete {
        network: u32,
    },
    TakeOut {
        place: prop::sample::Index,
    },
    Alter {
        place: prop::sample::Index,
        base: u32,
        vlan: u16,
    },
    Restore {
        place: prop::sample::Index,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let place = any::<prop::sample::Index>;
    prop_oneof![
        4 => (0u32..30, 1u32..40).prop_map(|(network, pods)| Step::Apply { network, pods }),
        2 => (0u32..30).prop_map(|network| Step::Delete { network }),
        1 => place().prop_map(|place| Step::TakeOut { place }),
        1 => (place(), 0u32..256, 1u16..20).prop_map(|(place, base, vlan)| Step::Alter { place, base, vlan }),
        1 => place().prop_map(|place| Step::Restore { place }),
    ]
}

proptest! {
    /// Promise 1 at the slices, whatever was done to the ledger: what a network is given meets no other's live slice.
    #[test]
    fn no_slice_is_given_away_whatever_became_of_the_ledger(steps in prop::collection::vec(step(), 1..60)) {
        let space = space("10.0.0.0/24");
        let vlans = VlanRange { min: 1, max: 20 };
        let mut ledgers = vec![empty()];
        let mut slices: Vec<LedgerEntry> = Vec::new();
        for step in steps {
            let mut ledger = ledgers[ledgers.len() - 1].clone();
            match step {
                Step::Apply { network, pods } => {
                    let wanted = request(&format!("n{network}"), pods);
                    let has_slice = slices.iter().any(|slice| slice.owner == wanted.owner);
                    let mut requests = vec![wanted];
                    let known = Known::of(&ledger);
                    requests.extend(slices.iter().filter(|held| !known.has(held)).map(|held| Request {
                        owner: held.owner.clone(),
                        pods: held.size,
                        held: Some(held.clone()),
                    }));
                    // An entry without a slice comes from a backup: the network went, and its name came again.
                    let was_entered = entry_for(&ledger, &requests[0].owner).is_some();
                    let outcome = reserve(&ledger, &space, vlans, &requests);
                    ledger = outcome.ledger;
                    if let (Ok(given), false, false) = (&outcome.results[0], has_slice, was_entered) {
                        let block = Interval::of(given.base, given.size);
                        for other in &slices {
                            prop_assert!(!block.meets(Interval::of(other.base, other.size)), "{given:?} {other:?}");
                            prop_assert_ne!(given.vlan, other.vlan);
                        }
                        slices.push(given.clone());
                    }
                }
                Step::Delete { network } => {
                    let uid = format!("n{network}");
                    slices.retain(|slice| slice.owner.uid != uid);
                    ledger = release(&ledger, &uid).unwrap_or(ledger);
                }
                Step::TakeOut { place } if !ledger.entries.is_empty() => {
                    ledger.entries.remove(place.index(ledger.entries.len()));
                }
                Step::Alter { place, base, vlan } if !ledger.entries.is_empty() => {
                    let place = place.index(ledger.entries.len());
                    ledger.entries[place].base = base;
                    ledger.entries[place].vlan = vlan;
                }
                Step::Restore { place } => ledger = ledgers[place.index(ledgers.len())].clone(),
                Step::TakeOut { .. } | Step::Alter { .. } => {}
            }
            ledgers.push(ledger);
        }
    }

    /// Promise 1 and 2 at the ledger: whatever comes and goes, no slot and no VLAN is held twice, blocks are aligned
    /// and lie in one pool, and excluded slots reach no pod.
    #[test]
    fn no_slot_and_no_vlan_is_held_twice(steps in prop::collection::vec((0u32..40, 1u32..70, any::<bool>()), 1..60)) {
        let mut rails = [rail(0, &["10.0.0.0/24", "10.2.0.0/23"]), rail(1, &["10.1.0.0/24", "10.4.0.0/23"])];
        rails[0].pools[0].gateway = Some("10.0.0.77".into());
        let space = SlotSpace::new(&rails).unwrap();
        let mut ledger = empty();
        let mut pods = std::collections::BTreeMap::new();
        for (id, count, keep) in steps {
            let uid = format!("n{id}");
            if keep {
                let outcome = reserve(&ledger, &space, VlanRange { min: 1, max: 30 }, &[request(&uid, count)]);
                prop_assert_eq!(outcome.changed, outcome.ledger != ledger);
                if outcome.changed { pods.insert(uid, count); }
                ledger = outcome.ledger;
            } else if let Some(next) = release(&ledger, &uid) {
                pods.remove(&uid);
                ledger = next;
            }
            for (place, entry) in ledger.entries.iter().enumerate() {
                prop_assert!(entry.size.is_power_of_two() && entry.base % entry.size == 0);
                prop_assert!(space.prefix(0, entry.base, entry.size).is_some());
                prop_assert!(space.prefix(1, entry.base, entry.size).is_some());
                let used = Interval::of(entry.base, pods[&entry.owner.uid]);
                prop_assert!(pods[&entry.owner.uid] <= entry.size);
                prop_assert!(!used.meets(Interval::of(77, 1)), "the gateway's slot");
                for other in &ledger.entries[place + 1..] {
                    prop_assert!(!Interval::of(entry.base, entry.size).meets(Interval::of(other.base, other.size)));
                    prop_assert_ne!(entry.vlan, other.vlan);
                    prop_assert_ne!(&entry.owner.uid, &other.owner.uid);
                }
            }
        }
    }

    /// What was reserved and released leaves room for everything that fitted before.
    #[test]
    fn releasing_gives_everything_back(sizes in prop::collection::vec(1u32..64, 1..8)) {
        let space = space("10.0.0.0/23");
        let vlans = VlanRange { min: 1, max: 4094 };
        let mut ledger = empty();
        for (id, pods) in sizes.iter().enumerate() {
            ledger = reserve(&ledger, &space, vlans, &[request(&format!("n{id}"), *pods)]).ledger;
        }
        for id in 0..sizes.len() {
            if let Some(next) = release(&ledger, &format!("n{id}")) { ledger = next; }
        }
        prop_assert!(reserve(&ledger, &space, vlans, &[request("all", 512)]).results[0].is_ok());
    }
}
