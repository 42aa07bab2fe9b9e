//! The node's ports and functions, as the kernel shows them now.

mod addressed;
mod create;
mod foreign;
mod modes;
mod observe;
mod programs;
mod unfit;

use railhead_crds::{Bandwidth, NodeRail};
use railhead_host::{PciAddress, RdmaName, VirtualFunction};

pub use addressed::{is_given, mark_addressed};
pub use create::{CreateError, create_functions, probe_driverless};
pub use foreign::{ForeignVfs, mark_foreign};
pub use modes::mark_modes;
pub use observe::{ObserveError, observe};
pub use programs::mark_programs;
pub use unfit::{Census, Eswitch, Unfit};

/// What was found for the rails that the node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Fabric that the node belongs to.
    pub fabric: String,
    /// MTU that ports must carry.
    pub mtu: u32,
    /// Whether every function needs an RDMA device of its own.
    pub rdma_required: bool,
    /// The node's RDMA subsystem.
    pub rdma: FoundRdma,
    /// Ports by rail id.
    pub ports: Vec<FoundPort>,
    /// Rails without a port.
    pub missing: Vec<MissingPort>,
}

impl Inventory {
    /// The port of a rail.
    pub fn port(&self, rail: u32) -> Option<&FoundPort> {
        self.ports.iter().find(|port| port.rail.id == rail)
    }
}

/// What the node's RDMA subsystem is like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoundRdma {
    /// Whether the fabric's pods get RDMA devices.
    pub wanted: bool,
    /// Whether each network namespace has devices of its own (netns mode exclusive).
    pub exclusive: bool,
    /// Whether there is the connection manager's device, `/dev/infiniband/rdma_cm`.
    pub connection_manager: bool,
}

/// A rail's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPort {
    /// What the fabric says about it.
    pub rail: NodeRail,
    /// PCI address of the PF.
    pub pci_address: PciAddress,
    /// Interface name.
    pub netdev: String,
    /// Kernel driver.
    pub driver: String,
    /// Speed of the link: now, or while it is down the last one seen.
    pub speed: Option<Bandwidth>,
    /// Whether the link has a signal.
    pub carrier: bool,
    /// MTU.
    pub mtu: Option<u32>,
    /// NUMA node.
    pub numa_node: Option<u32>,
    /// PCIe root complex.
    pub pcie_root: Option<String>,
    /// RDMA device of the port.
    pub rdma_device: Option<String>,
    /// How many functions the hardware can have.
    pub total_functions: u32,
    /// Who decides what the port does with a VF's frames.
    pub eswitch: Eswitch,
    /// Functions by number.
    pub functions: Vec<FoundFunction>,
}

impl FoundPort {
    /// For messages: `0000:18:00.0 (ens1f0)`.
    pub fn title(&self) -> String {
        format!("{} ({})", self.pci_address, self.netdev)
    }

    /// Functions as sysfs shows them now, with what it does not tell of them; first those that no program has open.
    pub(crate) fn as_known(&self, now: Vec<VirtualFunction>) -> Vec<FoundFunction> {
        let with_known = |now: VirtualFunction| {
            let known = self.functions.iter().find(|known| known.pci_address == now.address);
            FoundFunction {
                foreign: known.and_then(|known| known.foreign.clone()),
                programs: known.map_or(0, |known| known.programs),
                ..FoundFunction::from(now)
            }
        };
        let mut functions: Vec<FoundFunction> = now.into_iter().map(with_known).collect();
        functions.sort_by_key(|function| function.programs);
        functions
    }

    /// The resource under which a device plugin gives VFs of this port to pods.
    pub fn foreign_resource(&self) -> Option<String> {
        self.functions.iter().find_map(|function| function.foreign.clone())
    }
}

/// A function of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// PCI address.
    pub pci_address: PciAddress,
    /// Number on the PF.
    pub index: u32,
    /// Kernel driver, if it is bound to one.
    pub driver: Option<String>,
    /// Whether its interface is in the host's namespace.
    pub home: bool,
    /// Its own RDMA device.
    pub rdma_device: Option<RdmaName>,
    /// Links that somebody made on top of its interface: a host service uses it.
    pub uppers: Vec<String>,
    /// Addresses that somebody gave its interface; sysfs does not tell, so [`mark_addressed`] does.
    pub addresses: Vec<String>,
    /// The resource under which a device plugin gives it to pods; kubelet tells, see [`mark_foreign`].
    pub foreign: Option<String>,
    /// How many programs on the host have its RDMA device open; a service that opens every device is among them, so that this
    /// only tells which function is the better choice. See [`mark_programs`].
    pub programs: u64,
}

impl FoundFunction {
    /// Whether pods can have it.
    pub fn usable(&self) -> bool {
        self.home && self.uppers.is_empty() && self.addresses.is_empty() && self.foreign.is_none()
    }

    /// How the host uses it: `0000:18:00.2 under br0, 192.168.1.2/24`.
    pub(crate) fn use_by_host(&self) -> String {
        let uppers = self.uppers.iter().map(|upper| format!("under {upper}"));
        let uses: Vec<String> = uppers.chain(self.addresses.iter().cloned()).collect();
        format!("{} {}", self.pci_address, uses.join(", "))
    }
}

impl From<VirtualFunction> for FoundFunction {
    fn from(function: VirtualFunction) -> Self {
        Self {
            home: function.link.is_some(),
            rdma_device: function.rdma_devices.into_iter().next(),
            uppers: function.uppers,
            addresses: Vec::new(),
            foreign: None,
            programs: 0,
            driver: function.driver,
            index: function.index,
            pci_address: function.address,
        }
    }
}

/// A rail for which the node has no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPort {
    /// What the fabric says about it.
    pub rail: NodeRail,
    /// Why.
    pub message: String,
}
