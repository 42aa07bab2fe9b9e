//! Links, addresses, routes, rules and namespaces on the real kernel; iproute2 is the witness.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod functions;
mod links;
mod routes;
mod sysctls;

use railhead_host::{
    InterfaceName, Link, Netns, RdmaError, RdmaSocket, RouteSocket,
    testing::{self, ip},
};

/// Runs a test in a namespace of its own with a veth pair `va` and `vb`.
fn in_a_namespace(test: impl FnOnce(&mut RouteSocket) + Send + 'static) {
    testing::in_a_namespace(move || {
        ip("link add va type veth peer name vb");
        test(&mut RouteSocket::open().unwrap());
    });
}

fn name(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

fn link(socket: &mut RouteSocket, text: &str) -> Link {
    socket.link_named(&name(text)).unwrap().unwrap()
}

#[test]
fn a_namespace_that_is_gone_is_told_from_one_that_cannot_be_opened() {
    in_a_namespace(|_| {
        let folder = tempfile::tempdir().unwrap();
        assert!(Netns::open(folder.path().join("absent")).unwrap_err().is_gone());
        // What is left of /run/netns/<name> when the namespace is unmounted.
        let file = folder.path().join("left");
        std::fs::write(&file, "").unwrap();
        assert!(Netns::open(&file).unwrap().run(|| ()).unwrap_err().is_gone());
    });
}

#[test]
fn rdma_requests_work_or_name_the_missing_module() {
    in_a_namespace(|_| match RdmaSocket::open() {
        Ok(mut socket) => {
            socket.devices().unwrap();
            socket.netns_mode().unwrap();
        }
        Err(RdmaError::NoSubsystem) => {
            assert!(RdmaError::NoSubsystem.to_string().contains("ib_core"));
        }
        Err(error) => panic!("{error}"),
    });
}
