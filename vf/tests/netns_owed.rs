//! Rates that PFs owe, and what is known of a VF while somebody may be killed or a pod may get it, on the real kernel over stand-ins.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use node::{Node, PATIENCE};
use railhead_host::{Errno, NetlinkError, PciAddress, VfError, VfKnob, VfSettings, VfState, testing::in_a_namespace};
use railhead_vf::{
    Host, HostError, PfSide, program, restore, settle,
    testing::{PfTable, StandIn, VF_INDEX},
};

/// A PF whose link may be down: it sets no rate then.
struct Down {
    table: PfTable,
    down: AtomicBool,
}

impl PfSide for Down {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        self.table.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        if knob != VfKnob::Rate || !self.down.load(Ordering::Relaxed) {
            return self.table.set(pf, vf, knob, wanted);
        }
        let source = NetlinkError::Refused {
            request: "set Rate".to_owned(),
            errno: Errno::EINVAL,
            text: None,
        };
        let pf = pf.to_string();
        Err(VfError::Unsupported { pf, vf, knob, source }.into())
    }
}

/// Whoever is killed in between leaves a VF that is given back once more, and not one whose rate nobody remembers.
#[test]
fn a_rate_that_is_owed_is_noted_before_the_vf_counts_as_given_back() {
    in_a_namespace(|| {
        let node = Node::new();
        let (vf, originals) = (&node.vf.pci_address, node.originals());
        let pf_side = Arc::new(Down {
            table: node.pf_side.clone(),
            down: AtomicBool::new(false),
        });
        let mut host = Host::with_pf_side(&node.layout(), pf_side.clone()).unwrap();
        let original = node.record();
        originals.lend(&mut host, &node.rail().vf).unwrap();
        program(&mut host, &node.rail()).unwrap();
        pf_side.down.store(true, Ordering::Relaxed);
        // Nothing can be noted: a folder is where the record was.
        let record = node.layout().originals().join(format!("function-{vf}.json"));
        fs::remove_file(&record).unwrap();
        fs::create_dir_all(record.join("in-the-way")).unwrap();
        let error = restore(&mut host, &original).unwrap_err().to_string();
        assert!(error.contains("owes VF"), "{error}");
        assert!(originals.is_lent(vf), "its rate is forgotten");
        fs::remove_dir_all(&record).unwrap();
        assert!(restore(&mut host, &original).unwrap(), "it is owed");
        assert!(!originals.is_lent(vf));
        assert_eq!(originals.owed().unwrap().len(), 1);
        pf_side.down.store(false, Ordering::Relaxed);
        assert!(
            settle(&mut host, &originals, || Some(BTreeSet::new()))
                .unwrap()
                .is_empty()
        );
        node.vf.assert_at_home("with its own rate");
        assert_eq!(originals.owed().unwrap(), []);
    });
}

#[test]
fn a_vf_that_does_not_get_its_rate_keeps_no_other_from_its_own() {
    in_a_namespace(|| {
        let node = Node::new();
        let originals = node.originals();
        originals.owe_rate(&node.record(), true).unwrap();
        // Nobody promises in which order they come.
        for rail in 5..9 {
            let stuck = StandIn::new(&node.layout(), &node.pf_side, rail);
            let record = originals
                .record_vf(&mut node.host(), &stuck.pci_address, &stuck.pf, VF_INDEX, PATIENCE)
                .unwrap();
            originals.owe_rate(&record, true).unwrap();
            node.pf_side.0.lock().unwrap().remove(&(stuck.pf, VF_INDEX));
        }
        let error = settle(&mut node.host(), &originals, || Some(BTreeSet::new())).unwrap_err();
        assert!(error.to_string().contains("no interface"), "{error}");
        let owed: Vec<_> = originals.owed().unwrap().into_iter().map(|vf| vf.pci_address).collect();
        assert!(owed.len() == 4 && !owed.contains(&node.vf.pci_address), "{owed:?}");
    });
}

/// A Prepare that came meanwhile has programmed it under its lock.
#[test]
fn a_vf_that_a_pod_got_while_its_lock_was_waited_for_keeps_what_was_set_for_the_pod() {
    in_a_namespace(|| {
        let node = Node::new();
        let (mut host, vf, originals) = (node.host(), &node.vf.pci_address, node.originals());
        originals.owe_rate(&node.record(), true).unwrap();
        originals.lend(&mut host, &node.rail().vf).unwrap();
        program(&mut host, &node.rail()).unwrap();
        let programmed = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        let asked = Cell::new(0);
        // The plan is written between the first look and the lock.
        let planned = || {
            asked.set(asked.get() + 1);
            Some(BTreeSet::from_iter((asked.get() > 1).then(|| vf.clone())))
        };
        settle(&mut host, &originals, planned).unwrap();
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), programmed);
        asked.set(0);
        originals.take_back(&mut host, planned).unwrap();
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), programmed);
        // Plans that cannot be read may name it.
        settle(&mut host, &originals, || None).unwrap();
        originals.take_back(&mut host, || None).unwrap();
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), programmed);
        assert!(originals.is_lent(vf));
    });
}
