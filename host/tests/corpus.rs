//! What `make fuzz` runs for minutes, for seconds.

#[path = "../../fuzz/src/host.rs"]
#[allow(unreachable_pub, missing_docs)] // A library of its own there.
mod targets;
#[path = "../../fuzz/unit.rs"]
#[allow(unreachable_pub)] // Shared by the tests of several crates.
mod unit;

#[test]
fn an_answer_of_the_kernel_is_read_as_what_could_be_asked_for_or_refused_by_its_name() {
    unit::run("netlink", targets::netlink, 2000);
}

#[test]
fn a_tree_of_sysfs_is_read_or_the_file_is_named() {
    unit::run("sysfs", targets::sysfs, 300);
}
