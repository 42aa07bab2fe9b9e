//! Which block and VLAN a network gets.

use super::*;

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

#[test]
fn a_block_is_planned_in_the_pools_of_the_fabric_that_its_network_saw() {
    let (nothing, pools) = ([], space("10.0.0.0/28"));
    let requests = [
        request_in(&pools, VLANS, &request("new", 4)),
        request_in(&nothing, VLANS, &holder("lost", 4, 1000)),
        request_in(&nothing, VLANS, &request("late", 4)),
    ];
    let outcome = crate::ledger::reserve(&empty(), NO_SLICES, &requests, &Bounds::default());
    assert_eq!(outcome.results[0].as_ref().map(base), Ok(8));
    assert_eq!(outcome.results[1].as_ref().map(base), Ok(4));
    assert_eq!(outcome.results[2].as_ref().unwrap_err().reason(), "FabricInvalid");
}
