//! Ledgers of other releases.

use super::*;

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
            "owner": {"namespace": "team", "name": "a", "uid": "a"}, "sequence": 1, "state": "Held",
            "takes": {"pods": 4, "rails": 1, "bandwidthPerRail": "1G"}}],
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
    ledger.entries[0].state = LedgerState::Unknown("Frozen".into());
    let outcome = reserve(&ledger, &space, VLANS, &[request("b", 8), request("c", 8)]);
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(8));
    assert!(outcome.results[1].is_err());
    assert!(outcome.ledger.entries.contains(&ledger.entries[0]));
    let kept = release_now(&outcome.ledger, "a").unwrap_err().to_string();
    assert!(
        kept.contains("team/a in the state \"Frozen\"") && kept.contains("run that release again"),
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

proptest! {
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
        later["takes"] = with(serde_json::json!({"pods": 5, "rails": 2, "bandwidthPerRail": "10G"}), &of_owner);
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
}
