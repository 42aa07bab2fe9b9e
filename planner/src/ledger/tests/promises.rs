//! What holds whatever is done.

use super::*;

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
                    requests.extend(slices.iter().filter(|held| !known.has(held)).map(|held| Asked {
                        owner: held.owner.clone(),
                        pods: block(held).1,
                        held: Some(held.clone()),
                    }));
                    // An entry without a slice comes from a backup: the network went, and its name came again.
                    let was_entered = entry_for(&ledger, &requests[0].owner).is_some();
                    let outcome = reserve(&ledger, &space, vlans, &requests);
                    ledger = outcome.ledger;
                    if let (Ok(given), false, false) = (&outcome.results[0], has_slice, was_entered) {
                        for other in &slices {
                            prop_assert!(!collide(given, other), "{given:?} {other:?}");
                        }
                        slices.push(given.clone());
                    }
                }
                Step::Delete { network } => {
                    let uid = format!("n{network}");
                    slices.retain(|slice| slice.owner.uid != uid);
                    ledger = release_now(&ledger, &uid).unwrap().unwrap_or(ledger);
                }
                Step::TakeOut { place } if !ledger.entries.is_empty() => {
                    ledger.entries.remove(place.index(ledger.entries.len()));
                }
                Step::Alter { place, base, vlan } if !ledger.entries.is_empty() => {
                    let place = place.index(ledger.entries.len());
                    ledger.entries[place].intervals[0].base = base;
                    ledger.entries[place].vlan = Some(vlan);
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
                let outcome = reserve(&ledger, &rails, VlanRange { min: 1, max: 30 }, &[request(&uid, count)]);
                prop_assert_eq!(outcome.changed, outcome.ledger != ledger);
                if outcome.changed { pods.insert(uid, count); }
                ledger = outcome.ledger;
            } else if let Some(next) = release_now(&ledger, &uid).unwrap() {
                pods.remove(&uid);
                ledger = next;
            }
            for (place, entry) in ledger.entries.iter().enumerate() {
                let (base, size) = block(entry);
                prop_assert!(size.is_power_of_two() && base % size == 0);
                prop_assert!(space.prefix(0, base, size).is_some());
                prop_assert!(space.prefix(1, base, size).is_some());
                let used = Interval::of(base, pods[&entry.owner.uid]);
                prop_assert!(pods[&entry.owner.uid] <= size);
                prop_assert!(!used.meets(Interval::of(77, 1)), "the gateway's slot");
                for other in &ledger.entries[place + 1..] {
                    prop_assert!(!collide(entry, other), "{entry:?} {other:?}");
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
            if let Some(next) = release_now(&ledger, &format!("n{id}")).unwrap() { ledger = next; }
        }
        prop_assert!(reserve(&ledger, &space, vlans, &[request("all", 512)]).results[0].is_ok());
    }
}
