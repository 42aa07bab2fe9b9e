//! A VF and its driver, which is played: lost and given back, also where the port leaves its VFs alone.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    collections::BTreeSet,
    fs,
    sync::{Barrier, atomic::Ordering},
};

use node::{Node, PATIENCE};
use railhead_host::{FileLock, testing::in_a_namespace};
use railhead_vf::{
    Originals, POLL, probe, program, put_autoprobe_back, restore,
    testing::{Driver, StandIn, VF_INDEX},
};

/// As a process leaves it that is killed between unbind and bind.
fn take_driver(node: &Node, driver: &Driver) {
    let host = node.host();
    host.sysfs.unbind(&node.vf.pci_address).unwrap();
    while host.sysfs.driver(&node.vf.pci_address).is_some() {
        std::thread::sleep(POLL);
    }
    assert_eq!(driver.binds.load(Ordering::Relaxed), 0);
}

#[test]
fn a_vf_that_lost_its_driver_is_bound_again_and_programmed() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "igbvf");
        take_driver(&node, &driver);
        program(&mut node.host(), &node.rail()).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_vf_that_lost_its_driver_is_bound_again_and_given_back() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "igbvf");
        let original = node.record();
        assert_eq!(original.driver.as_deref(), Some("igbvf"));
        program(&mut node.host(), &node.rail()).unwrap();
        take_driver(&node, &driver);
        restore(&mut node.host(), &original).unwrap();
        node.vf.assert_at_home("after a rebind that was cut off");
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
    });
}

/// No plan names it, so that nobody but the ports' loop comes.
#[test]
fn a_vf_that_lost_its_driver_while_it_was_taken_back_is_taken_back_after_all() {
    in_a_namespace(|| {
        let node = Node::new();
        let driver = node.vf.driven(&node.layout(), "igbvf");
        node.record();
        node.originals().lend(&mut node.host(), &node.rail().vf).unwrap();
        program(&mut node.host(), &node.rail()).unwrap();
        take_driver(&node, &driver);
        node.originals()
            .take_back(&mut node.host(), || Some(BTreeSet::new()))
            .unwrap();
        assert!(driver.binds.load(Ordering::Relaxed) >= 1);
        assert!(!node.originals().is_lent(&node.vf.pci_address));
        node.vf.assert_at_home("after it was taken back");
    });
}

#[test]
fn a_vf_whose_port_leaves_its_vfs_alone_gets_its_driver_back_and_the_port_stays_so() {
    in_a_namespace(|| {
        let node = Node::new();
        let autoprobe = node.vf.autoprobe(&node.layout());
        let driver = node.vf.driven(&node.layout(), "igbvf");
        let original = node.record();
        fs::write(&autoprobe, "0").unwrap();
        program(&mut node.host(), &node.rail()).unwrap();
        take_driver(&node, &driver);
        restore(&mut node.host(), &original).unwrap();
        assert_eq!(driver.binds.load(Ordering::Relaxed), 1);
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "0");
        node.vf.assert_at_home("after it was bound again");
    });
}

#[test]
fn a_port_whose_vfs_a_killed_process_let_be_probed_leaves_them_alone_again() {
    in_a_namespace(|| {
        let node = Node::new();
        let autoprobe = node.vf.autoprobe(&node.layout());
        let (host, notes) = (node.host(), node.layout().autoprobe_notes());
        let killed = || {
            fs::write(&autoprobe, "1").unwrap();
            fs::create_dir_all(&notes).unwrap();
            fs::write(notes.join(node.vf.pf.as_str()), "").unwrap();
        };
        killed();
        // Whoever is at it is alive: the note is its own.
        let lock = node.layout().autoprobe_lock(node.vf.pf.as_str());
        let held = FileLock::take(&lock, PATIENCE).unwrap();
        put_autoprobe_back(&host).unwrap();
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "1");
        drop(held);
        put_autoprobe_back(&host).unwrap();
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "0");
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 0);
        // Nor does the next bind take it for the administrator's.
        killed();
        let driver = node.vf.driven(&node.layout(), "igbvf");
        take_driver(&node, &driver);
        program(&mut node.host(), &node.rail()).unwrap();
        probe(&host, &node.vf.pci_address, &node.vf.pf).unwrap();
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "0");
    });
}

#[test]
fn a_port_that_cannot_be_written_keeps_no_other_from_leaving_its_vfs_alone() {
    in_a_namespace(|| {
        let node = Node::new();
        let (layout, notes) = (node.layout(), node.layout().autoprobe_notes());
        let autoprobe = node.vf.autoprobe(&layout);
        fs::write(&autoprobe, "1").unwrap();
        fs::create_dir_all(&notes).unwrap();
        fs::write(notes.join(node.vf.pf.as_str()), "").unwrap();
        // Nobody promises in which order they come.
        for rail in 5..9 {
            let stuck = StandIn::new(&layout, &node.pf_side, rail);
            fs::create_dir_all(stuck.autoprobe(&layout)).unwrap();
            fs::write(notes.join(stuck.pf.as_str()), "").unwrap();
        }
        put_autoprobe_back(&node.host()).unwrap_err();
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "0");
        assert_eq!(fs::read_dir(&notes).unwrap().count(), 4);
    });
}

#[test]
fn vfs_of_a_port_that_are_bound_at_once_do_not_take_the_permission_from_each_other() {
    in_a_namespace(|| {
        let node = Node::new();
        let layout = node.layout();
        let mut other = StandIn::new(&layout, &node.pf_side, 1);
        other.pf = node.vf.pf.clone();
        let _other_sysfs = other.mirrored(&layout);
        let autoprobe = node.vf.autoprobe(&layout);
        let drivers = [node.vf.driven(&layout, "igbvf"), other.driven(&layout, "iavf")];
        let originals = [&node.vf, &other].map(|vf| {
            Originals::new(&layout, "boot")
                .record_vf(&mut node.host(), &vf.pci_address, &vf.pf, VF_INDEX, PATIENCE)
                .unwrap()
        });
        fs::write(&autoprobe, "0").unwrap();
        let at_once = Barrier::new(2);
        std::thread::scope(|scope| {
            for original in &originals {
                let mut host = node.host();
                let at_once = &at_once;
                scope.spawn(move || {
                    for _ in 0..20 {
                        host.sysfs.unbind(&original.pci_address).unwrap();
                        while host.sysfs.driver(&original.pci_address).is_some() {
                            std::thread::sleep(POLL);
                        }
                        at_once.wait();
                        restore(&mut host, original).unwrap();
                    }
                });
            }
        });
        assert_eq!(
            drivers.each_ref().map(|driver| driver.binds.load(Ordering::Relaxed)),
            [20, 20]
        );
        assert_eq!(fs::read_to_string(&autoprobe).unwrap(), "0");
    });
}

/// The states of `node_guid` are those of sriov-network-operator issue 267: zero until the VF is bound after its MAC was set.
#[test]
fn a_vf_whose_rdma_device_has_no_node_guid_is_bound_again_once() {
    in_a_namespace(|| {
        let node = Node::new();
        let sysfs = node.layout().sysfs();
        let device = sysfs.join("bus/pci/devices").join(node.vf.pci_address.as_str());
        let (rdma, verbs) = (
            device.join("infiniband/mlx5_9"),
            sysfs.join("class/infiniband_verbs/uverbs9"),
        );
        fs::create_dir_all(&rdma).unwrap();
        fs::create_dir_all(&verbs).unwrap();
        fs::write(rdma.join("node_guid"), "0000:0000:0000:0000\n").unwrap();
        fs::write(verbs.join("ibdev"), "mlx5_9\n").unwrap();
        let driver = node.vf.driven(&node.layout(), "mlx5_core");
        for attempt in ["first", "second"] {
            program(&mut node.host(), &node.rail()).unwrap();
            assert_eq!(driver.binds.load(Ordering::Relaxed), 1, "{attempt}");
        }
    });
}
