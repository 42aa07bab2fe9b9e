//! Programming a VF and giving it back, on the real kernel over stand-ins; iproute2 is the witness.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Barrier, Mutex, atomic::Ordering},
};

use node::{Node, PATIENCE};
use railhead_host::{
    Errno, FileLock, NetlinkError, PciAddress, VfError, VfKnob, VfSettings, VfState,
    testing::{in_a_namespace, ip, ip_json},
};
use railhead_vf::{
    Host, HostError, Originals, POLL, PfSide, pf_settings, probe, program, put_autoprobe_back, restore, settle,
    testing::{Driver, PfTable, StandIn, VF_INDEX},
};

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
        ip("link set rail0 promisc on allmulticast on txqueuelen 7");
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

/// mlx5 reports the VF's own MAC address as the administrative one (`mlx5_eswitch_get_vport_config`), and what was set last
/// after that: the table of this test does the same.
#[test]
fn an_administrative_mac_that_was_the_vfs_own_is_set_again() {
    in_a_namespace(|| {
        let node = Node::new();
        let own = VfSettings {
            mac: Some(node.vf.mac),
            ..node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().settings()
        };
        node.pf_side.set(&node.vf.pf, VF_INDEX, VfKnob::Mac, &own).unwrap();
        let original = node.record();
        program(&mut node.host(), &node.rail()).unwrap();
        restore(&mut node.host(), &original).unwrap();
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().settings(), own);
    });
}

/// A PF whose VF is being reset: each setting is refused twice before it is taken. One that is there already is none
/// (`ice_set_vf_port_vlan`, "duplicate request").
struct Resetting(PfTable, Mutex<u32>);

impl PfSide for Resetting {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        self.0.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        if !self.read(pf, vf)?.differences(wanted).contains(&knob) {
            return Ok(());
        }
        let mut tries = self.1.lock().unwrap();
        *tries += 1;
        let errno = match *tries % 3 {
            1 => Errno::EAGAIN,
            2 => Errno::EBUSY,
            _ => return self.0.set(pf, vf, knob, wanted),
        };
        Err(HostError::Netlink(NetlinkError::Refused {
            request: format!("set {knob:?}"),
            errno,
            text: None,
        }))
    }
}

#[test]
fn a_pf_that_resets_the_vf_after_every_setting_is_asked_again() {
    in_a_namespace(|| {
        let node = Node::new();
        let (original, before) = (node.record(), node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap());
        let pf_side = Arc::new(Resetting(node.pf_side.clone(), Mutex::new(0)));
        let mut host = Host::with_pf_side(&node.layout(), pf_side).unwrap();
        let rail = node.rail();
        assert!(program(&mut host, &rail).unwrap(), "the minimum rate is kept");
        let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        assert_eq!(enforced.settings(), pf_settings(&rail));
        assert!(!restore(&mut host, &original).unwrap());
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), before);
    });
}

/// A PF whose driver sets several settings in one request, in the kernel's order, and stops at the first that it refuses without
/// saying which. Notes how it was asked.
struct InOneRequest {
    table: PfTable,
    refuses: Option<VfKnob>,
    asked: Mutex<Vec<Vec<VfKnob>>>,
}

impl InOneRequest {
    fn new(node: &Node, refuses: Option<VfKnob>) -> Arc<Self> {
        Arc::new(Self {
            table: node.pf_side.clone(),
            refuses,
            asked: Mutex::default(),
        })
    }

    fn put(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), NetlinkError> {
        // A driver without minimum rate, as igb.
        if Some(knob) == self.refuses && (knob != VfKnob::Rate || wanted.min_rate_mbps > 0) {
            return Err(NetlinkError::Refused {
                request: "set a VF".to_owned(),
                errno: Errno::EINVAL,
                text: None,
            });
        }
        self.table.set(pf, vf, knob, wanted).unwrap();
        Ok(())
    }
}

impl PfSide for InOneRequest {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        self.table.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        self.asked.lock().unwrap().push(vec![knob]);
        self.put(pf, vf, knob, wanted).map_err(|source| {
            let pf = pf.to_string();
            VfError::Unsupported { pf, vf, knob, source }.into()
        })
    }

    fn set_at_once(&self, pf: &PciAddress, vf: u32, knobs: &[VfKnob], wanted: &VfSettings) -> Result<(), HostError> {
        self.asked.lock().unwrap().push(knobs.to_vec());
        for knob in knobs {
            self.put(pf, vf, *knob, wanted)?;
        }
        Ok(())
    }
}

#[test]
fn the_settings_of_a_vf_are_one_request() {
    in_a_namespace(|| {
        let node = Node::new();
        let original = node.record();
        let pf_side = InOneRequest::new(&node, None);
        let mut host = Host::with_pf_side(&node.layout(), pf_side.clone()).unwrap();
        assert!(program(&mut host, &node.rail()).unwrap());
        let rest = vec![VfKnob::Vlan, VfKnob::Rate, VfKnob::Trust];
        assert_eq!(*pf_side.asked.lock().unwrap(), [vec![VfKnob::Mac], rest.clone()]);
        pf_side.asked.lock().unwrap().clear();
        restore(&mut host, &original).unwrap();
        assert_eq!(*pf_side.asked.lock().unwrap(), [vec![VfKnob::Mac], rest]);
        // And where nothing differs, none.
        pf_side.asked.lock().unwrap().clear();
        pf_side.apply(&node.vf.pf, VF_INDEX, &original.enforced).unwrap();
        assert!(pf_side.asked.lock().unwrap().is_empty());
    });
}

#[test]
fn a_setting_that_is_refused_is_named_and_the_others_are_made() {
    in_a_namespace(|| {
        let node = Node::new();
        let rail = node.rail();
        let pf_side = InOneRequest::new(&node, Some(VfKnob::Rate));
        let mut host = Host::with_pf_side(&node.layout(), pf_side.clone()).unwrap();
        assert!(!program(&mut host, &rail).unwrap(), "the minimum rate is not kept");
        let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().settings();
        let wanted = VfSettings {
            min_rate_mbps: 0,
            ..pf_settings(&rail)
        };
        assert_eq!(enforced, wanted);

        let pf_side = InOneRequest::new(&node, Some(VfKnob::Trust));
        let otherwise = VfSettings {
            trust: false,
            vlan: None,
            ..wanted
        };
        let error = pf_side.apply(&node.vf.pf, VF_INDEX, &otherwise).unwrap_err();
        assert!(
            matches!(
                &error,
                HostError::Vf(VfError::Unsupported {
                    knob: VfKnob::Trust,
                    ..
                })
            ),
            "{error}"
        );
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap().vlan, None);
    });
}

#[test]
fn a_pods_mac_on_a_free_vf_never_becomes_its_original() {
    in_a_namespace(|| {
        let node = Node::new();
        let original = node.record();
        // Its plan was lost: nobody gave it back.
        program(&mut node.host(), &node.rail()).unwrap();
        assert_eq!(node.record(), original);
        restore(&mut node.host(), &original).unwrap();
        node.vf.assert_at_home("after the give-back");
    });
}

#[test]
fn an_alternative_name_that_somebody_else_has_by_now_does_not_keep_a_vf_from_being_given_back() {
    in_a_namespace(|| {
        let node = Node::new();
        let (original, altname) = (node.record(), &node.vf.altname);
        ip(&format!("link property del dev {} altname {altname}", node.vf.name));
        ip(&format!("link property add dev lo altname {altname}"));
        assert!(!restore(&mut node.host(), &original).unwrap());
    });
}

#[test]
fn a_vf_without_a_record_is_given_back_without_what_its_pf_enforced_for_the_pod() {
    in_a_namespace(|| {
        let node = Node::new();
        let (before, rail) = (node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), node.rail());
        program(&mut node.host(), &rail).unwrap();
        ip(&format!("link set {} promisc on", node.vf.name));
        let originals = Originals::new(&node.layout(), "boot");
        let assumed = originals.assumed(&mut node.host(), &rail.vf, PATIENCE).unwrap();
        restore(&mut node.host(), &assumed).unwrap();
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), before);
        assert!(!ip(&format!("link show {}", node.vf.name)).contains("PROMISC"));
    });
}

#[test]
fn a_vf_that_the_host_uses_is_not_given_back_for_an_owed_rate() {
    in_a_namespace(|| {
        let node = Node::new();
        let originals = Originals::new(&node.layout(), "boot");
        originals.owe_rate(&node.record(), true).unwrap();
        program(&mut node.host(), &node.rail()).unwrap();
        ip(&format!("address add 192.0.2.7/24 dev {}", node.vf.name));
        let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        let settled = |host: &mut Host| settle(host, &originals, &node.layout(), &BTreeSet::new()).unwrap();
        assert_eq!(settled(&mut node.host()).len(), 1, "it is owed still");
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), enforced);
        ip(&format!("address del 192.0.2.7/24 dev {}", node.vf.name));
        assert!(settled(&mut node.host()).is_empty());
        node.vf.assert_at_home("when the host does not use it any more");
    });
}
