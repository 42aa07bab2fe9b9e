//! What the reference found, one case each.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use railhead_crds::{
    Bandwidth, Fabric, FabricLedgerSpec, LedgerEntry, LedgerInterval, LedgerOwner, LedgerState, LedgerTakes,
    NetworkSlice,
};
use railhead_planner::{
    ledger::{self, Outcome, Request, Wanted, empty, release, rests},
    pools::Written,
    quota::Bounds,
};
use serde_json::json;

const NO_SLICES: &[NetworkSlice] = &[];

fn reserve(ledger: &FabricLedgerSpec, requests: &[Request]) -> Outcome {
    ledger::reserve(ledger, NO_SLICES, requests, &Bounds::default())
}

/// A fabric of 8 addresses and 2 VLANs.
fn request(uid: &str, pods: u32) -> Request {
    let rail = json!({"id": 0, "name": "rail0", "ports": [{"netdev": "eth0"}], "pools": [{"cidr": "10.0.0.0/29"}]});
    let fabric: Fabric = serde_json::from_value(json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "Fabric", "metadata": {"name": "backend"},
        "spec": {"vlan": {"range": {"min": 1, "max": 2}}, "rails": [rail]},
    }))
    .expect("it is written here");
    Request {
        owner: LedgerOwner::new("team", uid, uid),
        wanted: Wanted::Block {
            pods,
            takes: LedgerTakes::new(pods, 1, Bandwidth::from_mbps(1000)),
            written: Arc::new(Written::of_fabric(&fabric, Vec::new())),
        },
    }
}

fn holder(uid: &str, base: u32, size: u32, vlan: u16) -> Request {
    let owner = LedgerOwner::new("team", uid, uid);
    let held = LedgerEntry {
        intervals: vec![LedgerInterval::new(base, size)],
        vlan: Some(vlan),
        owner: owner.clone(),
        takes: None,
        sequence: 1,
        state: LedgerState::Held,
        rests_until: None,
        node: None,
        unknown: BTreeMap::new(),
    };
    Request {
        owner,
        wanted: Wanted::Held(Box::new(held)),
    }
}

/// Given back at this time, and rests for five minutes.
const START: Timestamp = Timestamp::UNIX_EPOCH;
const REST: SignedDuration = SignedDuration::from_mins(5);

fn given_back(ledger: &FabricLedgerSpec, uid: &str) -> FabricLedgerSpec {
    let freed = release(ledger, uid, START, REST).expect("it is of this release");
    freed.expect("it holds something")
}

#[test]
fn what_was_given_back_is_given_to_nobody_until_it_has_rested() {
    let full = reserve(&empty(), &[request("llama", 8)]).ledger;
    let freed = given_back(&full, "llama");
    assert_eq!(freed.entries.len(), 1, "nobody's, and there");
    let refused = reserve(&freed, &[request("qwen", 8)]);
    let why = refused.results[0].as_ref().unwrap_err();
    assert_eq!(why.reason(), "PoolExhausted");
    assert!(why.to_string().contains("rests until 1970-01-01T00:05:00Z"), "{why}");
    assert!(!refused.changed);
    let almost = START + REST - SignedDuration::from_secs(1);
    assert_eq!(release(&freed, "llama", almost, REST), Ok(None));
    let awake = release(&freed, "llama", START + REST, REST).unwrap().unwrap();
    assert!(awake.sequence > freed.sequence);
    assert_eq!(reserve(&awake, &[request("qwen", 8)]).ledger.entries.len(), 1);
}

#[test]
fn a_vlan_rests_as_well_and_what_does_not_rest_is_given_at_once() {
    let held = reserve(&empty(), &[request("llama", 1), request("qwen", 1)]).ledger;
    let freed = given_back(&held, "llama");
    let refused = reserve(&freed, &[request("mixtral", 1)]).results.remove(0).unwrap_err();
    assert_eq!(refused.reason(), "VlanExhausted");
    assert!(refused.to_string().contains("rests until"), "{refused}");
    let held = reserve(&empty(), &[request("llama", 1)]).ledger;
    let given = reserve(&given_back(&held, "llama"), &[request("mixtral", 1)]);
    let given = given.results[0].as_ref().unwrap();
    assert_ne!(given.vlan, held.entries[0].vlan);
    assert_ne!(given.intervals, held.entries[0].intervals);
}

#[test]
fn what_is_too_large_is_not_told_to_wait_for_what_rests() {
    let held = reserve(&empty(), &[request("llama", 8)]).ledger;
    let freed = given_back(&held, "llama");
    let refused = reserve(&freed, &[request("qwen", 9)]).results.remove(0).unwrap_err();
    assert!(refused.to_string().contains("append a pool"), "{refused}");
}

/// An operator that was cut off may make a slice of what was given back a moment ago.
#[test]
fn a_slice_gets_back_what_rests_and_an_owner_does_not_without_one() {
    let held = reserve(&empty(), &[holder("llama", 0, 4, 1)]).ledger;
    let freed = given_back(&held, "llama");
    let again = reserve(&freed, &[holder("llama", 0, 4, 1)]);
    assert!(again.changed && again.results[0].is_ok());
    assert_eq!(again.ledger.entries.len(), 1);
    assert!(!rests(&again.ledger.entries[0]));
    let anew = reserve(&freed, &[request("llama", 4)]);
    assert_ne!(anew.results[0].as_ref().unwrap().intervals, held.entries[0].intervals);
}

/// Its operator died before it made a slice; somebody took the entry out, another network got the block, and a backup brought the
/// entry back.
#[test]
fn what_a_backup_brings_back_does_not_go_before_anothers_slice() {
    let backup = reserve(&empty(), &[holder("llama", 0, 4, 1)]).ledger;
    let outcome = reserve(&backup, &[request("llama", 4), holder("qwen", 2, 2, 2)]);
    let llama = outcome.results[0].as_ref().unwrap();
    assert_eq!(llama.intervals, [LedgerInterval::new(4, 4)]);
    assert!(outcome.results[1].is_ok(), "{:?}", outcome.results[1]);
    assert_eq!(outcome.ledger.entries.len(), 2);
}

/// Somebody edited the ledger while neither network had its slice.
#[test]
fn a_ledger_that_gives_two_networks_one_address_gives_it_to_neither() {
    let mut edited = reserve(&empty(), &[request("llama", 4), request("qwen", 1)]).ledger;
    let qwen = edited
        .entries
        .iter()
        .position(|entry| entry.owner.uid == "qwen")
        .unwrap();
    let llama = edited.entries[1 - qwen].intervals[0].base;
    edited.entries[qwen].intervals[0].base = llama;
    let outcome = reserve(&edited, &[request("llama", 4), request("qwen", 1)]);
    for (result, other) in outcome.results.iter().zip(["team/qwen", "team/llama"]) {
        let why = result.as_ref().unwrap_err();
        assert_eq!(why.reason(), "LedgerMismatch");
        assert!(
            why.to_string().contains(other) && why.to_string().contains("delete one"),
            "{why}"
        );
    }
    assert!(!outcome.changed);
}
