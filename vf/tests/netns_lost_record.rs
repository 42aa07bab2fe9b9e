//! What a broken disk does to a VF whose record it held, on the real kernel over stand-ins.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{fs, os::unix::fs::symlink, path::Path};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use node::{Node, PATIENCE};
use railhead_host::{Errno, testing::in_a_namespace};
use railhead_vf::{Host, PfSide, program, restore, testing::VF_INDEX};

/// Reads of a file fail from here on as those from a broken disk do, for the calling thread.
fn lose(file: &Path) {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    // Nothing is mapped at the beginning of a program's memory.
    mount(Some("/proc/self/mem"), file, nothing, MsFlags::MS_BIND, nothing).unwrap();
    let error = fs::read(file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::EIO as i32), "{error}");
}

/// Runs a test with a VF that a pod has and whose record is lost.
fn with_a_lost_record(test: fn(&Node, &mut Host)) {
    in_a_namespace(move || {
        let node = Node::new();
        let (rail, vf) = (node.rail(), &node.vf.pci_address);
        node.record();
        let mut host = node.host();
        node.originals().lend(&mut host, &rail.vf).unwrap();
        program(&mut host, &rail).unwrap();
        let record = node.layout().originals().join(format!("function-{vf}.json"));
        lose(&record);
        test(&node, &mut host);
        assert!(!node.originals().is_lent(vf));
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().vlan, None);
        umount2(&record, MntFlags::MNT_DETACH).unwrap();
    });
}

#[test]
fn a_vf_whose_record_the_disk_has_lost_is_given_back() {
    with_a_lost_record(|node, host| {
        let (originals, vf) = (node.originals(), &node.vf.pci_address);
        // As an agent that starts, and every look at the ports.
        originals.forget_earlier_boots().unwrap();
        assert!(originals.owed().unwrap().is_empty());
        assert_eq!(originals.lent().unwrap(), std::slice::from_ref(vf));
        assert_eq!(originals.vf(vf).unwrap(), None);
        let assumed = originals.assumed(host, &node.rail().vf, PATIENCE).unwrap();
        restore(host, &assumed).unwrap();
    });
}

/// Nobody comes after a teardown.
#[test]
fn a_vf_whose_record_is_lost_and_that_nobody_gave_back_is_taken_back() {
    with_a_lost_record(|node, host| {
        let devices = node.layout().sysfs().join("bus/pci/devices");
        let (vf, pf) = (node.vf.pci_address.as_str(), node.vf.pf.as_str());
        fs::create_dir_all(devices.join(pf)).unwrap();
        symlink(format!("../{pf}"), devices.join(vf).join("physfn")).unwrap();
        symlink(format!("../{vf}"), devices.join(pf).join(format!("virtfn{VF_INDEX}"))).unwrap();
        node.originals().take_all_back(host).unwrap();
    });
}
