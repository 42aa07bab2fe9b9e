//! What `make fuzz` runs for minutes, for seconds.

#[path = "../../fuzz/src/binary.rs"]
#[allow(unreachable_pub, missing_docs)] // A library of its own there.
mod targets;
#[path = "../../fuzz/unit.rs"]
#[allow(unreachable_pub)] // Shared by the tests of several crates.
mod unit;

#[test]
fn no_call_does_anything_but_answer_on_a_node_without_plans() {
    unit::run("call", targets::call, 300);
}

#[test]
fn no_plan_is_carried_out_without_a_namespace() {
    unit::run("plan", targets::plan, 2000);
}

#[test]
fn a_record_that_is_read_is_written_as_it_was() {
    unit::run("record", targets::record, 2000);
}

#[test]
fn a_journal_that_is_read_is_written_as_it_was() {
    unit::run("journal", targets::journal, 2000);
}
