//! Programming a VF and giving it back, on the real kernel over stand-ins; iproute2 is the witness.

#![allow(clippy::unwrap_used)] // Also in the functions that tests share.

mod node;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use node::{Node, PATIENCE};
use railhead_host::{
    Errno, NetlinkError, PciAddress, VfError, VfKnob, VfSettings, VfState,
    testing::{in_a_namespace, ip, ip_json},
};
use railhead_vf::{
    Host, HostError, Originals, PfSide, pf_settings, program, restore, settle,
    testing::{PfTable, VF_INDEX},
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

/// As ice in the middle of a reset: the VF is left out of the PF's answer, and each setting is invalid, each time twice.
struct InReset(PfTable, Mutex<u32>);

impl InReset {
    fn is_away(&self) -> bool {
        let mut asked = self.1.lock().unwrap();
        *asked += 1;
        !asked.is_multiple_of(3)
    }
}

impl PfSide for InReset {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        if self.is_away() {
            let pf = pf.to_string();
            return Err(VfError::NoSuchVf { pf, vf }.into());
        }
        self.0.read(pf, vf)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        if knob != VfKnob::Rate && self.is_away() {
            let source = NetlinkError::Refused {
                request: format!("set {knob:?}"),
                errno: Errno::EINVAL,
                text: None,
            };
            let pf = pf.to_string();
            return Err(VfError::Unsupported { pf, vf, knob, source }.into());
        }
        self.0.set(pf, vf, knob, wanted)
    }
}

#[test]
fn a_vf_in_the_middle_of_a_reset_is_waited_for() {
    in_a_namespace(|| {
        let node = Node::new();
        let (original, before) = (node.record(), node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap());
        let pf_side = Arc::new(InReset(node.pf_side.clone(), Mutex::default()));
        let mut host = Host::with_pf_side(&node.layout(), pf_side).unwrap();
        assert!(program(&mut host, &node.rail()).unwrap());
        let enforced = node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap();
        assert_eq!(enforced.settings(), pf_settings(&node.rail()));
        assert!(!restore(&mut host, &original).unwrap());
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), before);
    });
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
        let all = [vec![VfKnob::Mac], rest.clone()].concat();
        assert_eq!(*pf_side.asked.lock().unwrap(), [all]);
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
        let settled = |host: &mut Host| settle(host, &originals, || Some(BTreeSet::new())).unwrap();
        assert_eq!(settled(&mut node.host()).len(), 1, "it is owed still");
        assert_eq!(node.pf_side.read(&node.vf.pf, VF_INDEX).unwrap(), enforced);
        ip(&format!("address del 192.0.2.7/24 dev {}", node.vf.name));
        assert!(settled(&mut node.host()).is_empty());
        node.vf.assert_at_home("when the host does not use it any more");
    });
}
