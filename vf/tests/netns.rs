//! Programming a VF and giving it back, on the real kernel over stand-ins; iproute2 is the witness.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

use std::{sync::Arc, time::Duration};

use railhead_host::{
    Sysfs,
    testing::{in_a_namespace, ip, ip_json},
};
use railhead_plan::{Layout, RailPlan, RdmaPlan, VfPlan, Vlan};
use railhead_vf::{
    Host, Originals, PfSide, VfOriginal, pf_settings, program, restore,
    testing::{Mirror, PfTable, StandIn, VF_INDEX},
};

const PATIENCE: Duration = Duration::from_millis(300);

/// A node with one VF.
struct Node {
    // Ends before its folder does.
    sysfs: Mirror,
    folder: tempfile::TempDir,
    pf_side: PfTable,
    vf: StandIn,
}

impl Node {
    fn new() -> Self {
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

    fn host(&self) -> Host {
        let sysfs = Sysfs::new(Layout::under(self.folder.path()).sysfs());
        Host::with_pf_side(sysfs, Arc::new(self.pf_side.clone())).unwrap()
    }

    fn record(&self) -> VfOriginal {
        Originals::new(&Layout::under(self.folder.path()), "boot")
            .record_vf(&mut self.host(), &self.vf.pci_address, &self.vf.pf, VF_INDEX, PATIENCE)
            .unwrap()
    }

    fn rail(&self) -> RailPlan {
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

#[test]
fn a_vf_is_programmed_for_a_pod_and_given_back_as_it_was_found() {
    in_a_namespace(|| {
        let node = Node::new();
        let (original, before) = (node.record(), node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap());
        let rail = node.rail();
        for attempt in ["first", "second"] {
            assert!(program(&mut node.host(), &rail).unwrap(), "{attempt}");
            let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
            assert_eq!(enforced.settings(), pf_settings(&rail), "{attempt}");
            let shown = ip_json(&format!("link show {}", node.vf.name));
            assert_eq!(shown[0]["address"], "02:00:00:00:00:01", "{attempt}");
        }
        // A pod left its own settings.
        ip(&format!("link set {} name rail0 mtu 9000 alias tenant", node.vf.name));
        ip("link property add dev rail0 altname of-the-tenant");
        node.sysfs.wait_for("rail0");
        for attempt in ["first", "second"] {
            assert!(
                !restore(&mut node.host(), &original).unwrap(),
                "{attempt}: no rate is owed"
            );
            node.vf.assert_at_home(attempt);
            assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), before, "{attempt}");
        }
    });
}

#[test]
fn a_name_that_somebody_else_has_by_now_does_not_keep_a_vf_from_being_given_back() {
    in_a_namespace(|| {
        let node = Node::new();
        let original = node.record();
        let name = node.vf.name.clone();
        ip(&format!("link set {name} name rail0"));
        node.sysfs.wait_for("rail0");
        ip(&format!("link add {name} type veth peer name other"));
        assert!(!restore(&mut node.host(), &original).unwrap());
        let shown = ip_json("link show rh000018003");
        assert_eq!(shown[0]["address"], node.vf.mac.to_string());
    });
}
