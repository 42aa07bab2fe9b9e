use proptest::prelude::*;

use railhead_crds::{Rail, VlanRange};

use super::*;
use crate::slots::{SlotSpace, tests::rail};

const NO_SLICES: &[NetworkSlice] = &[];

/// Without a rest.
pub(crate) fn release_now(ledger: &FabricLedgerSpec, uid: &str) -> Result<Option<FabricLedgerSpec>, Kept> {
    release(ledger, uid, Timestamp::UNIX_EPOCH, SignedDuration::ZERO)
}

const VLANS: VlanRange = VlanRange { min: 1000, max: 1003 };

/// A network of some pods, with what its slice has.
#[derive(Clone)]
struct Asked {
    owner: LedgerOwner,
    pods: u32,
    held: Option<LedgerEntry>,
}

fn request(uid: &str, pods: u32) -> Asked {
    Asked {
        owner: LedgerOwner::new("team", uid, uid),
        pods,
        held: None,
    }
}

fn request_in(rails: &[Rail], vlans: VlanRange, asked: &Asked) -> Request {
    let wanted = match &asked.held {
        Some(held) => Wanted::Held(held.clone()),
        None => Wanted::Block {
            pods: asked.pods,
            written: Arc::new(Written {
                vlans,
                ..Written::of(rails)
            }),
        },
    };
    Request {
        owner: asked.owner.clone(),
        wanted,
    }
}

/// Asks for all in one fabric.
fn reserve(ledger: &FabricLedgerSpec, rails: &[Rail], vlans: VlanRange, asked: &[Asked]) -> Outcome {
    let requests: Vec<Request> = asked.iter().map(|asked| request_in(rails, vlans, asked)).collect();
    super::reserve(ledger, NO_SLICES, &requests)
}

fn block(entry: &LedgerEntry) -> (u32, u32) {
    let [only] = &entry.intervals[..] else {
        panic!("several intervals: {entry:?}")
    };
    (only.base, only.size)
}

fn base(entry: &LedgerEntry) -> u32 {
    block(entry).0
}

fn space(cidr: &str) -> [Rail; 1] {
    [rail(0, &[cidr])]
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
    assert_eq!(outcome.results[0].as_ref().map(block), Ok((0, 256)));
    let refused = reserve(&outcome.ledger, &space, VLANS, &[request("b", 1)]);
    assert_eq!(
        refused.results[0],
        Err(Refusal::PoolExhausted {
            pods: 1,
            needed: 1,
            largest: 0,
            closed: Vec::new(),
        })
    );
}

#[test]
fn the_first_and_last_address_of_a_pool_are_used_last() {
    let space = space("10.0.0.0/28");
    let outcome = reserve(&empty(), &space, VLANS, &[request("a", 2)]);
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(2));
}

#[test]
fn gateways_and_excluded_prefixes_are_never_given_away() {
    let mut rails = [rail(0, &["10.0.0.0/28"]), rail(1, &["10.1.0.0/28"])];
    rails[1].pools[0].gateway = Some("10.1.0.9".into());
    rails[0].pools[0].exclude = vec!["10.0.0.0/29".into()];
    let outcome = reserve(&empty(), &rails, VLANS, &[request("a", 4), request("b", 4)]);
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(12));
    assert_eq!(
        outcome.results[1],
        Err(Refusal::PoolExhausted {
            pods: 4,
            needed: 4,
            largest: 2,
            closed: Vec::new(),
        })
    );
}

#[test]
fn a_network_without_a_vlan_gets_no_addresses_either() {
    let space = space("10.0.0.0/24");
    let requests: Vec<Asked> = (0..5).map(|i| request(&format!("n{i}"), 2)).collect();
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
fn holder(uid: &str, base: u32, vlan: u16) -> Asked {
    let mut holder = request(uid, 4);
    holder.held = Some(entry(uid, &[(base, 4)], Some(vlan)));
    holder
}

fn entry(uid: &str, intervals: &[(u32, u32)], vlan: Option<u16>) -> LedgerEntry {
    LedgerEntry {
        intervals: intervals
            .iter()
            .map(|(base, size)| LedgerInterval::new(*base, *size))
            .collect(),
        vlan,
        owner: request(uid, 1).owner,
        sequence: 7,
        state: LedgerState::Held,
        rests_until: None,
        unknown: BTreeMap::new(),
    }
}

#[test]
fn what_a_slice_holds_is_entered_again_as_it_is_and_before_anything_new() {
    let space = space("10.0.0.0/28");
    let lost = holder("lost", 4, 1000);
    let outcome = reserve(&empty(), &space, VLANS, &[request("new", 4), lost.clone()]);
    assert_eq!(outcome.results[1], Ok(lost.held.clone().unwrap()));
    let new = outcome.results[0].clone().unwrap();
    assert_eq!(
        (base(&new), new.vlan),
        (8, Some(1001)),
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
    altered.held = Some(entry("qwen", &[(8, 4)], Some(1001)));
    let llama = holder("llama", 4, 1000);
    let known = Known::of(&ledger);
    assert!(!known.has(llama.held.as_ref().unwrap()) && !known.has(altered.held.as_ref().unwrap()));
    let outcome = reserve(&ledger, &space, VLANS, &[request("new", 2), llama, altered]);
    let new = outcome.results[0].clone().unwrap();
    assert_eq!((base(&new), new.vlan), (2, Some(1002)), "{:?}", outcome.ledger);
    assert_eq!(outcome.results[1].as_ref().unwrap_err().reason(), "LedgerMismatch");
    assert_eq!(outcome.results[2].as_ref().map(base), Ok(4));
    let full = reserve(
        &outcome.ledger,
        &space,
        VLANS,
        &[request("large", 4), holder("llama", 4, 1000), holder("qwen", 8, 1001)],
    );
    assert_eq!(full.results[0].as_ref().map(base), Ok(12), "all else is held");
}

#[test]
fn a_block_is_planned_in_the_pools_of_the_fabric_that_its_network_saw() {
    let (nothing, pools) = ([], space("10.0.0.0/28"));
    let requests = [
        request_in(&pools, VLANS, &request("new", 4)),
        request_in(&nothing, VLANS, &holder("lost", 4, 1000)),
        request_in(&nothing, VLANS, &request("late", 4)),
    ];
    let outcome = super::reserve(&empty(), NO_SLICES, &requests);
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(8));
    assert_eq!(outcome.results[1].as_ref().map(base), Ok(4));
    assert_eq!(outcome.results[2].as_ref().unwrap_err().reason(), "FabricInvalid");
}

#[test]
fn all_intervals_of_an_entry_are_held_and_one_without_a_vlan_holds_none() {
    let space = space("10.0.0.0/28");
    let mut ledger = empty();
    ledger.entries = vec![entry("leaves", &[(0, 4), (8, 4)], None)];
    let outcome = reserve(
        &ledger,
        &space,
        VLANS,
        &[request("a", 4), request("b", 4), request("c", 1)],
    );
    let given: Vec<_> = outcome.results.iter().map(|given| given.as_ref().map(base)).collect();
    assert_eq!(given[..2], [Ok(4), Ok(12)]);
    assert!(given[2].is_err(), "all is held");
    assert_eq!(outcome.results[0].as_ref().unwrap().vlan, Some(1000));
    assert_eq!(
        usage(&outcome.ledger, &SlotSpace::new(&space).unwrap(), VLANS).used_percent,
        100
    );
    assert_eq!(outcome.ledger.version, 2, "the first release cannot read this");
    for held in [
        entry("lost", &[(6, 2)], Some(1003)),
        entry("lost", &[(2, 2), (20, 2)], None),
    ] {
        let mut lost = request("lost", 2);
        lost.held = Some(held);
        let refused = reserve(&outcome.ledger, &space, VLANS, &[lost]).results.remove(0);
        assert_eq!(refused.unwrap_err().reason(), "LedgerMismatch");
    }
    let freed = release_now(&outcome.ledger, "leaves").unwrap().unwrap();
    let large = reserve(&freed, &space, VLANS, &[request("d", 4), request("e", 4)]);
    assert!(large.results.iter().all(Result::is_ok), "{large:?}");
    assert_eq!(freed.version, 2, "a version is never lowered");
}

#[test]
fn a_ledger_of_one_interval_per_network_is_written_so_that_the_first_release_reads_it() {
    let written = reserve(&empty(), &space("10.0.0.0/28"), VLANS, &[request("a", 4)]).ledger;
    let json = serde_json::to_value(&written).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"version": 1, "sequence": 1, "entries": [{"base": 4, "size": 4, "vlan": 1000,
            "owner": {"namespace": "team", "name": "a", "uid": "a"}, "sequence": 1, "state": "Held"}],
            // Left out by a release that does not know it, and found again from the slices.
            "pools": [{"base": 0, "rails": [{"id": 0, "cidr": "10.0.0.0/28"}]}]})
    );
}

#[test]
fn a_ledger_of_a_later_release_is_not_changed_and_the_refusal_says_what_to_do() {
    let mut ledger = reserve(&empty(), &space("10.0.0.0/28"), VLANS, &[request("a", 4)]).ledger;
    ledger.version = LEDGER_VERSION + 1;
    let outcome = reserve(
        &ledger,
        &space("10.0.0.0/28"),
        VLANS,
        &[request("b", 1), holder("lost", 8, 1003)],
    );
    assert_eq!((outcome.changed, &outcome.ledger), (false, &ledger));
    for refused in outcome.results {
        let refused = refused.unwrap_err();
        assert_eq!(refused.reason(), "LedgerNewer");
        let text = refused.to_string();
        assert!(
            text.contains("version 3, this one knows 2") && text.contains("run that release again"),
            "{text}"
        );
    }
    assert_eq!(release_now(&ledger, "a"), Err(Kept::Newer(Newer { found: 3 })));
    assert_eq!(release_now(&ledger, "other-uid"), Ok(None), "it is not spoken of there");
    ledger
        .unknown
        .insert("quarantine".into(), serde_json::json!([{"network": "other-uid"}]));
    assert!(
        release_now(&ledger, "other-uid").is_err(),
        "what that means is not known here"
    );
}

#[test]
fn a_state_of_a_later_release_holds_and_is_neither_freed_nor_written_away() {
    let space = space("10.0.0.0/28");
    let mut ledger = reserve(&empty(), &space, VLANS, &[request("a", 8)]).ledger;
    ledger.entries[0].state = LedgerState::Unknown("Quarantined".into());
    let outcome = reserve(&ledger, &space, VLANS, &[request("b", 8), request("c", 8)]);
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(8));
    assert!(outcome.results[1].is_err());
    assert!(outcome.ledger.entries.contains(&ledger.entries[0]));
    let kept = release_now(&outcome.ledger, "a").unwrap_err().to_string();
    assert!(
        kept.contains("team/a in the state \"Quarantined\"") && kept.contains("run that release again"),
        "{kept}"
    );
    assert!(release_now(&outcome.ledger, "b").unwrap().is_some());
}

/// What a later release may have written beside the fields that are known.
fn unknown_fields() -> impl Strategy<Value = serde_json::Map<String, serde_json::Value>> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        "[ -~]{0,12}".prop_map(serde_json::Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("x[a-zA-Z]{1,8}", value, 0..4).prop_map(|map| map.into_iter().collect())
}

/// Everything that `before` says of the networks in `stays`, and everything beside the entries, is in `after` as it was.
fn survives(before: &serde_json::Value, after: &serde_json::Value, stays: &[&str]) -> Result<(), TestCaseError> {
    for (field, value) in before.as_object().unwrap() {
        if !["version", "sequence", "entries"].contains(&field.as_str()) {
            prop_assert_eq!(&after[field], value);
        }
    }
    for entry in before["entries"].as_array().unwrap() {
        if stays.contains(&entry["owner"]["uid"].as_str().unwrap()) {
            prop_assert!(
                after["entries"].as_array().unwrap().contains(entry),
                "{} in {}",
                entry,
                after
            );
        }
    }
    Ok(())
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

    /// Whatever a later release has written into a ledger is there after this one has reserved and released in it.
    #[test]
    fn unknown_fields_of_a_ledger_survive_reservations_and_releases(
        of_ledger in unknown_fields(), of_entry in unknown_fields(), of_owner in unknown_fields(), of_interval in unknown_fields(),
        state in "Held|[A-Z][a-z]{2,8}", several in any::<bool>(),
    ) {
        let with = |mut known: serde_json::Value, unknown: &serde_json::Map<String, serde_json::Value>| {
            known.as_object_mut().unwrap().extend(unknown.clone());
            known
        };
        let owner = |uid: &str| with(serde_json::json!({"namespace": "team", "name": uid, "uid": uid}), &of_owner);
        let mut later = with(serde_json::json!({"owner": owner("a"), "sequence": 1, "state": state}), &of_entry);
        if several || !of_interval.is_empty() {
            let interval = |base: u32| with(serde_json::json!({"base": base, "size": 4}), &of_interval);
            later["intervals"] = serde_json::json!([interval(8), interval(16)]);
        } else {
            later["base"] = 8.into();
            later["size"] = 8.into();
            later["vlan"] = 1000.into();
        }
        let goes = with(serde_json::json!({"base": 32, "size": 8, "owner": owner("b"), "sequence": 2, "state": "Held"}), &of_entry);
        let before = with(serde_json::json!({"version": 2, "sequence": 2, "entries": [later, goes]}), &of_ledger);
        let read: FabricLedgerSpec = serde_json::from_value(before.clone()).unwrap();
        let written = |ledger: &FabricLedgerSpec| serde_json::to_value(ledger).unwrap();
        prop_assert_eq!(&written(&read), &before);
        let reserved = reserve(&read, &space("10.0.0.0/24"), VLANS, &[request("c", 4)]).ledger;
        survives(&before, &written(&reserved), &["a", "b"])?;
        let released = release_now(&reserved, "b").unwrap().unwrap();
        survives(&before, &written(&released), &["a"])?;
        prop_assert_eq!(released.entries.len(), 2);
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
