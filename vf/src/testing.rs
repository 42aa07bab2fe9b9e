//! Stand-ins for tests on the real kernel: a veth that stands for a VF, and a table for the PF side, which no veth has.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A test that cannot go on panics.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
};

use railhead_host::{
    InterfaceName, MacAddress, PciAddress, VfKnob, VfLinkState, VfSettings, VfState,
    testing::{ip, ip_json},
};
use railhead_plan::Layout;
use serde_json::json;

use crate::{HostError, POLL, PfSide};

/// The PF side of stand-ins: what is set is kept and reported.
#[derive(Clone, Debug, Default)]
pub struct PfTable(pub Arc<Mutex<HashMap<(PciAddress, u32), VfState>>>);

impl PfTable {
    /// Makes VF `index` of `pf` known, as it is before anybody sets anything.
    pub fn add(&self, pf: PciAddress, index: u32) {
        let fresh = VfState {
            index,
            mac: MacAddress::new([0; 6]),
            vlan: None,
            min_rate_mbps: 0,
            max_rate_mbps: 0,
            spoof_check: true,
            trust: false,
            link_state: VfLinkState::Auto,
        };
        self.0.lock().unwrap().insert((pf, index), fresh);
    }
}

impl PfSide for PfTable {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        let table = self.0.lock().unwrap();
        let state = table.get(&(pf.clone(), vf));
        state.cloned().ok_or_else(|| HostError::NoPfLink { pf: pf.clone() })
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        let mut table = self.0.lock().unwrap();
        let state = table
            .get_mut(&(pf.clone(), vf))
            .ok_or_else(|| HostError::NoPfLink { pf: pf.clone() })?;
        state.set(knob, wanted);
        Ok(())
    }
}

/// A stand-in for a VF as it is on the host before anybody uses it: a veth whose other end, `leaf<rail>`, is its cable's.
#[derive(Clone, Debug)]
pub struct StandIn {
    /// The PCI address that the tree below the layout's sysfs gives it.
    pub pci_address: PciAddress,
    /// The PCI address of its PF; it is VF 2 of it.
    pub pf: PciAddress,
    /// Name.
    pub name: InterfaceName,
    /// Its own MAC address.
    pub mac: MacAddress,
    /// Its alternative name.
    pub altname: String,
    /// The other end of its cable.
    pub cable: String,
}

/// The number of a stand-in on its PF.
pub const VF_INDEX: u32 = 2;

impl StandIn {
    /// Makes the stand-in of rail `rail`, at most 9, in the namespace of the thread, and shows it below `layout`'s sysfs.
    pub fn new(layout: &Layout, pf_side: &PfTable, rail: u32) -> Self {
        let vf = Self {
            pci_address: format!("0000:18:0{rail}.3").parse().unwrap(),
            pf: pf_address(rail),
            name: format!("enp24s{rail}v3").parse().unwrap(),
            mac: MacAddress::new([2, 0xaa, 0, 0, u8::try_from(rail).unwrap(), 9]),
            altname: format!("enp24s0f{rail}v3-of-the-host"),
            cable: format!("leaf{rail}"),
        };
        let Self { name, altname, .. } = &vf;
        vf.make();
        ip(&format!("link set {name} alias before"));
        ip(&format!("link property add dev {name} altname {altname}"));
        let device = layout.sysfs().join("bus/pci/devices").join(vf.pci_address.as_str());
        fs::create_dir_all(device.join("net").join(name.as_str())).unwrap();
        pf_side.add(vf.pf.clone(), VF_INDEX);
        vf
    }

    /// The link as its driver makes it.
    fn make(&self) {
        let Self { name, mac, cable, .. } = self;
        ip(&format!(
            "link add {name} numrxqueues 4 numtxqueues 4 type veth peer name {cable} numrxqueues 4 numtxqueues 4"
        ));
        ip(&format!("link set {name} address {mac} mtu 1500"));
        ip(&format!("link set {cable} mtu 9000 up"));
    }

    /// Keeps `layout`'s sysfs in step with the kernel, as sysfs does by itself, until the answer is dropped: what the VF is
    /// called in the namespace of the thread, and nothing while it is away.
    pub fn mirrored(&self, layout: &Layout) -> Mirror {
        let devices = layout.sysfs().join("bus/pci/devices");
        let net = devices.join(self.pci_address.as_str()).join("net");
        let cable = self.cable.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, shown) = (stop.clone(), net.clone());
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                show(&shown, link_at(&cable).as_deref());
                thread::sleep(POLL / 2);
            }
        });
        Mirror {
            net,
            stop,
            thread: Some(thread),
        }
    }

    /// Plays the driver `name` for the VF until the answer is dropped: what is written to `unbind`, `bind` and `drivers_probe`
    /// removes the link and makes a new one, as the kernel does, and a bind gives RDMA devices without node GUID one, as mlx5 does. As the
    /// kernel, it refuses binds while the PF's `sriov_drivers_autoprobe` is 0.
    pub fn driven(&self, layout: &Layout, name: &str) -> Driver {
        let bus = layout.sysfs().join("bus/pci");
        let (device, driver) = (
            bus.join("devices").join(self.pci_address.as_str()),
            bus.join("drivers").join(name),
        );
        fs::create_dir_all(&driver).unwrap();
        let autoprobe = self.autoprobe(layout);
        let target = Path::new("../../drivers").join(name);
        symlink(&target, device.join("driver")).unwrap();
        let (vf, cable, fresh) = (self.pci_address.clone(), self.cable.clone(), self.clone());
        let (stop, binds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, bound) = (stop.clone(), binds.clone());
        let told = move |file: PathBuf| {
            let told = fs::read_to_string(&file).is_ok_and(|text| text == vf.as_str());
            if told {
                fs::write(&file, "").unwrap();
            }
            told
        };
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if told(driver.join("unbind")) {
                    if let Some(link) = link_at(&cable) {
                        ip(&format!("link del {link}"));
                    }
                    fs::remove_file(device.join("driver")).unwrap();
                }
                let wanted = told(driver.join("bind")) || told(bus.join("drivers_probe"));
                let refused = fs::read_to_string(&autoprobe).is_ok_and(|text| text.trim() == "0");
                if wanted && !refused {
                    for rdma in fs::read_dir(device.join("infiniband")).into_iter().flatten() {
                        fs::write(rdma.unwrap().path().join("node_guid"), "0200:00ff:fe00:0001").unwrap();
                    }
                    bound.fetch_add(1, Ordering::Relaxed);
                    fresh.make();
                    symlink(&target, device.join("driver")).unwrap();
                }
                thread::sleep(POLL / 4);
            }
        });
        Driver {
            binds,
            stop,
            thread: Some(thread),
        }
    }

    /// The file that says whether the kernel gives VFs of the PF to drivers.
    pub fn autoprobe(&self, layout: &Layout) -> PathBuf {
        let pf = layout.sysfs().join("bus/pci/devices").join(self.pf.as_str());
        fs::create_dir_all(&pf).unwrap();
        pf.join("sriov_drivers_autoprobe")
    }

    /// Fails unless the VF is on the host exactly as it was made.
    pub fn assert_at_home(&self, when: &str) {
        let links = ip_json("-d link show");
        let link = links
            .as_array()
            .unwrap()
            .iter()
            .find(|link| link["ifname"] == self.name.as_str())
            .unwrap_or_else(|| panic!("{when}: {} is not on the host: {links:#}", self.name));
        assert_eq!(link["address"], self.mac.to_string(), "{when}");
        assert_eq!(link["mtu"], 1500, "{when}");
        assert_eq!(link["altnames"], json!([self.altname]), "{when}");
        assert_eq!(link["ifalias"], "before", "{when}");
        assert_eq!(link["operstate"], "DOWN", "{when}");
        assert_eq!(link["txqlen"], 1000, "{when}");
        for flag in ["PROMISC", "ALLMULTI"] {
            assert!(
                !link["flags"].as_array().unwrap().contains(&json!(flag)),
                "{when}: {flag}"
            );
        }
    }
}

/// Keeps a stand-in's sysfs in step until it is dropped.
#[derive(Debug)]
pub struct Mirror {
    net: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Mirror {
    /// Waits until sysfs shows the VF under `name`.
    pub fn wait_for(&self, name: &str) {
        while !self.net.join(name).exists() {
            thread::sleep(POLL);
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A driver that is played until it is dropped.
#[derive(Debug)]
pub struct Driver {
    /// How often the VF was bound.
    pub binds: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The name of the link with this cable.
fn link_at(cable: &str) -> Option<String> {
    let links = ip_json("link show");
    let link = links.as_array().unwrap().iter().find(|link| link["link"] == cable);
    link.and_then(|link| link["ifname"].as_str()).map(str::to_owned)
}

fn show(net: &Path, name: Option<&str>) {
    let shown: Vec<String> = fs::read_dir(net)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for stale in shown.iter().filter(|shown| Some(shown.as_str()) != name) {
        fs::remove_dir(net.join(stale)).unwrap();
    }
    if let Some(name) = name {
        fs::create_dir_all(net.join(name)).unwrap();
    }
}

/// The PF of the stand-in of rail `rail`.
pub fn pf_address(rail: u32) -> PciAddress {
    format!("0000:18:0{rail}.0").parse().unwrap()
}
