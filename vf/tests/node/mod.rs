//! A node with one VF, in a namespace of the test's own.

#![allow(clippy::unwrap_used, dead_code)] // Not every test needs all of it.

use std::{sync::Arc, time::Duration};

use railhead_plan::{Layout, RailPlan, RdmaPlan, VfPlan, Vlan};
use railhead_vf::{
    Host, Originals, VfOriginal,
    testing::{Mirror, PfTable, StandIn, VF_INDEX},
};

pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// A node with one VF.
pub(crate) struct Node {
    // Ends before its folder does.
    pub(crate) sysfs: Mirror,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) pf_side: PfTable,
    pub(crate) vf: StandIn,
}

impl Node {
    pub(crate) fn new() -> Self {
        let (folder, pf_side) = (tempfile::tempdir().unwrap(), PfTable::default());
        let layout = Layout::under(folder.path());
        let vf = StandIn::new(&layout, &pf_side, 0);
        Self {
            sysfs: vf.mirrored(&layout),
            folder,
            pf_side,
            vf,
        }
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::under(self.folder.path())
    }

    pub(crate) fn host(&self) -> Host {
        Host::with_pf_side(&self.layout(), Arc::new(self.pf_side.clone())).unwrap()
    }

    pub(crate) fn originals(&self) -> Originals {
        Originals::new(&self.layout(), "boot")
    }

    pub(crate) fn record(&self) -> VfOriginal {
        self.originals()
            .record_vf(&mut self.host(), &self.vf.pci_address, &self.vf.pf, VF_INDEX, PATIENCE)
            .unwrap()
    }

    pub(crate) fn rail(&self) -> RailPlan {
        RailPlan {
            rail: 0,
            name: "rail0".parse().unwrap(),
            vf: VfPlan {
                pci_address: self.vf.pci_address.clone(),
                pf_pci_address: self.vf.pf.clone(),
                index: VF_INDEX,
                vlan: Some(Vlan::new(1012, 3).unwrap()),
                max_rate_mbps: 400,
                min_rate_mbps: 100,
                spoof_check: true,
                trust: true,
            },
            mac: "02:00:00:00:00:01".parse().unwrap(),
            mtu: 9000,
            addresses: vec!["10.0.0.7/24".parse().unwrap()],
            on_link: vec![],
            gateway: None,
            table: 1000,
            rdma: RdmaPlan::None,
        }
    }
}
