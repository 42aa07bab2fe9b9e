//! A VF whose RDMA device programs of an ended pod still have open, over a stand-in whose driver and RDMA device are played: no
//! test bed has a VF with one.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    collections::BTreeSet,
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use node::Node;
use railhead_host::{RdmaError, RdmaName, testing::in_a_namespace};
use railhead_vf::{CutOffError, Host, Programs, RdmaUse, cut_off, testing::Driver};

/// As the kernel: contexts go when the VF is bound again. `others` open the device as soon as it is there.
struct Played {
    binds: Arc<AtomicU32>,
    others: u64,
}

impl RdmaUse for Played {
    fn programs(&self, device: &RdmaName) -> Result<Programs, RdmaError> {
        assert_eq!(device.as_str(), "mlx5_9");
        let first = self.binds.load(Ordering::Relaxed) == 0;
        Ok(Programs {
            contexts: if first { 2 } else { self.others },
            pids: BTreeSet::from([std::process::id()]),
        })
    }
}

/// These tests have the same VF, each in a namespace of its own, and which VFs are being let go is told by address in a whole
/// process: two at once would take each other's for one that hangs.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_rdma(node: &Node, others: u64) -> (Host, Driver) {
    let sysfs = node.layout().sysfs();
    let device = sysfs.join("bus/pci/devices").join(node.vf.pci_address.as_str());
    let verbs = sysfs.join("class/infiniband_verbs/uverbs9");
    fs::create_dir_all(device.join("infiniband/mlx5_9")).unwrap();
    fs::create_dir_all(&verbs).unwrap();
    fs::write(verbs.join("ibdev"), "mlx5_9\n").unwrap();
    let driver = node.vf.driven(&node.layout(), "mlx5_core");
    let mut host = node.host();
    host.rdma_use = Arc::new(Played {
        binds: driver.binds.clone(),
        others,
    });
    (host, driver)
}

#[test]
fn programs_that_still_have_a_vf_open_lose_it() {
    let _alone = alone();
    in_a_namespace(|| {
        let node = Node::new();
        let (mut host, driver) = with_rdma(&node, 0);
        cut_off(&mut host, &node.vf.pci_address, &node.vf.pf, None).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
        assert_eq!(host.sysfs.driver(&node.vf.pci_address).as_deref(), Some("mlx5_core"));
        node.sysfs.wait_for(node.vf.name.as_str());
    });
}

#[test]
fn a_vf_that_is_opened_again_is_not_free_and_who_has_it_is_named() {
    let _alone = alone();
    in_a_namespace(|| {
        let node = Node::new();
        let (mut host, _driver) = with_rdma(&node, 1);
        let error = cut_off(&mut host, &node.vf.pci_address, &node.vf.pf, None).unwrap_err();
        assert!(matches!(error, CutOffError::Opened { .. }), "{error}");
        let said = error.to_string();
        let who = format!("(pid {})", std::process::id());
        assert!(
            said.contains(&who) && said.contains("mlx5_9") && said.contains(node.vf.pci_address.as_str()),
            "{said}"
        );
    });
}

#[test]
fn a_vf_without_rdma_device_keeps_its_driver() {
    let _alone = alone();
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "igbvf");
        cut_off(&mut node.host(), &node.vf.pci_address, &node.vf.pf, None).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 0);
    });
}

/// A pod had it, its plan is lost, and nobody knows whether its programs have ended.
#[test]
fn a_vf_that_nobody_gave_back_is_taken_from_programs_before_the_next_pod_gets_it() {
    let _alone = alone();
    in_a_namespace(|| {
        let node = Node::new();
        let (mut host, driver) = with_rdma(&node, 0);
        node.record();
        node.originals().lend(&mut host, &node.rail().vf).unwrap();
        node.originals().take_back(&mut host, || Some(BTreeSet::new())).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
        assert!(!node.originals().is_lent(&node.vf.pci_address));
        node.vf.assert_at_home("after it was taken back");
    });
}
