//! What `make fuzz` runs for minutes, for seconds.

#[path = "../../fuzz/src/vf.rs"]
#[allow(unreachable_pub, missing_docs)] // A library of its own there.
mod targets;
#[path = "../../fuzz/unit.rs"]
#[allow(unreachable_pub)] // Shared by the tests of several crates.
mod unit;

#[test]
fn a_record_is_of_its_own_vf_and_boot_and_survives_being_written() {
    unit::run("originals", targets::originals, 300);
}
