//! What `make fuzz` runs for minutes, for seconds.

#[path = "../../fuzz/src/agent.rs"]
#[allow(unreachable_pub, missing_docs)] // A library of its own there.
mod targets;
#[path = "../../fuzz/unit.rs"]
#[allow(unreachable_pub)] // Shared by the tests of several crates.
mod unit;

#[test]
fn a_configuration_list_is_taken_or_named() {
    unit::run("conflist", targets::conflist, 2000);
}

#[test]
fn every_claim_that_kubelet_asks_for_has_an_answer_and_none_leaves_its_folders() {
    unit::run("dra", targets::dra, 2000);
}

#[test]
fn a_claim_entitles_to_what_the_network_is_or_is_refused_by_name() {
    unit::run("claim", targets::claim, 2000);
}

#[test]
fn what_kubelet_and_the_runtime_say_is_taken_as_it_is() {
    unit::run("node_services", targets::node_services, 2000);
}
