//! Calls that are killed behind each of their changes, and then every way on from there: see `standin faults`.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod host;

use std::path::Path;

use host::on_a_host;
use railhead_standin::{
    faults,
    namespace::ip,
    node::Node,
    observe::{HostState, assert_as_before},
};

/// The program, for its child.
const PROGRAM: &str = env!("CARGO_BIN_EXE_standin");

#[test]
fn a_call_killed_behind_any_change_leaves_nothing_whatever_comes_next() {
    on_a_host(|| {
        let (table, failures) = faults::table(Path::new(PROGRAM), 1).unwrap();
        println!("{table}");
        assert_eq!(failures, Vec::<String>::new());
        // A table without rows would be no proof: each of them changes a link.
        for row in ["PREPARE", "ADD", "DEL", "UNPREPARE"] {
            let with = |what: &str| {
                table
                    .lines()
                    .filter(|line| line.starts_with(row) && line.contains(what))
                    .count()
            };
            assert!(with("SETLINK") >= 1 && with("ok") >= 8, "{table}");
        }
    });
}

#[test]
fn a_vf_that_is_not_as_it_was_is_seen() {
    on_a_host(|| {
        let node = Node::new(1, 2, false).unwrap();
        let before = HostState::read().unwrap();
        assert_as_before(&node, &before).unwrap();
        for (change, back, word) in [
            ("link set p0v1 mtu 1400", "link set p0v1 mtu 1500", "mtu"),
            (
                "link set p0v1 address 02:00:00:00:00:01",
                "link set p0v1 address 02:aa:00:00:00:01",
                "address",
            ),
            ("link set p0v1 promisc on", "link set p0v1 promisc off", "flags"),
            ("link set p0v1 txqueuelen 7", "link set p0v1 txqueuelen 1000", "txqlen"),
            ("link set p0v1 name other", "link set other name p0v1", "ifname"),
            ("link set p0v1 alias other", "link set p0v1 alias before", "ifalias"),
            (
                "rule add from 10.0.0.1 lookup 1000",
                "rule del from 10.0.0.1 lookup 1000",
                "rules",
            ),
        ] {
            ip(change).unwrap();
            let error = assert_as_before(&node, &before).unwrap_err().to_string();
            assert!(error.contains(word), "{change}: {error}");
            ip(back).unwrap();
            assert_as_before(&node, &before).unwrap();
        }
        std::fs::create_dir_all(node.layout().attachment("pod-a")).unwrap();
        let error = assert_as_before(&node, &before).unwrap_err().to_string();
        assert!(error.contains("pod-a"), "{error}");
    });
}
