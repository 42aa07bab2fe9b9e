//! What slices hold, whatever the ledger says.

use super::*;

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
