//! Objects as release 0.1 wrote them still read. The files are what it wrote.

use railhead_crds::{
    FabricLedger, LedgerInterval, LedgerState, NetworkAttachment, NetworkSlice, SlicePrefix, TrainingNetwork,
};
use serde_json::Value;

#[test]
fn a_ledger_reads_and_is_written_as_it_was() {
    let written: Value = serde_json::from_str(include_str!("release_0_1/ledger.json")).unwrap();
    let ledger: FabricLedger = serde_json::from_value(written.clone()).unwrap();
    let entry = &ledger.spec.entries[0];
    assert_eq!(entry.intervals, [LedgerInterval::new(4, 4)]);
    assert_eq!((entry.vlan, &entry.state), (Some(1001), &LedgerState::Held));
    assert_eq!(entry.owner.name, "qwen");
    assert_eq!(serde_json::to_value(&ledger).unwrap(), written);
}

#[test]
fn a_slice_reads() {
    let slice: NetworkSlice = serde_json::from_str(include_str!("release_0_1/slice.json")).unwrap();
    assert_eq!((slice.spec.base, slice.spec.capacity, slice.spec.pods), (8, 8, 6));
    let [rail0, rail1] = &slice.spec.rails[..] else {
        panic!("{slice:?}")
    };
    let prefix = |prefix: &str, pool: &str, gateway: Option<&str>| SlicePrefix {
        prefix: prefix.parse().unwrap(),
        pool: pool.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    assert_eq!(
        rail0.prefixes,
        [prefix("10.0.0.8/29", "10.0.0.0/16", Some("10.0.255.254"))]
    );
    assert_eq!(rail1.prefixes, [prefix("10.1.0.8/29", "10.1.0.0/16", None)]);
    assert_eq!(rail1.vlan, Some(1000));
}

#[test]
fn a_slice_of_both_families_is_read_as_it_was_written() {
    let mut written: Value = serde_json::from_str(include_str!("release_0_1/slice.json")).unwrap();
    written["spec"]["rails"] = serde_json::json!([{"id": 0, "name": "rail0", "prefixes": [
        {"prefix": "10.0.0.8/29", "pool": "10.0.0.0/16", "gateway": "10.0.255.254"},
        {"prefix": "fd00:0:1::8/125", "pool": "fd00:0:1::/48"}]}]);
    let slice: NetworkSlice = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(
        (slice.spec.rails[0].vlan, slice.spec.rails[0].prefixes.len()),
        (None, 2)
    );
    assert_eq!(serde_json::to_value(&slice).unwrap(), written);
}

#[test]
fn an_attachment_and_a_network_read_and_are_written_as_they_were() {
    let written: Value = serde_json::from_str(include_str!("release_0_1/attachment.json")).unwrap();
    let attachment: NetworkAttachment = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&attachment).unwrap(), written);
    let written: Value = serde_json::from_str(include_str!("release_0_1/network.json")).unwrap();
    let network: TrainingNetwork = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&network).unwrap(), written);
}
