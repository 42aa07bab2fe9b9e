//! The node's ports and functions, as the kernel shows them now.

mod addressed;
mod create;
mod observe;

use railhead_crds::{Bandwidth, NodeRail};
use railhead_host::{PciAddress, RdmaName, VirtualFunction};

pub use addressed::{is_given, mark_addressed};
pub use create::{CreateError, create_functions};
pub use observe::{ObserveError, observe};

/// What was found for the rails that the node should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Fabric that the node belongs to.
    pub fabric: String,
    /// MTU that ports must carry.
    pub mtu: u32,
    /// Whether every function needs an RDMA device of its own.
    pub rdma_required: bool,
    /// Ports by rail id.
    pub ports: Vec<FoundPort>,
    /// Rails without a port.
    pub missing: Vec<MissingPort>,
}

impl Inventory {
    /// What keeps pods from working on a port, in words: they are not placed there.
    pub fn unfit(&self, port: &FoundPort) -> Option<Unfit> {
        if let Some(found) = port.mtu.filter(|found| *found < self.mtu) {
            return Some(Unfit::SmallMtu {
                found,
                wanted: self.mtu,
            });
        }
        let bare = |function: &&FoundFunction| function.usable() && function.rdma_device.is_none();
        let without = port.functions.iter().filter(bare).count();
        (self.rdma_required && without > 0).then_some(Unfit::NoRdma { without })
    }

    /// The port of a rail.
    pub fn port(&self, rail: u32) -> Option<&FoundPort> {
        self.ports.iter().find(|port| port.rail.id == rail)
    }
}

/// Why pods would not work on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Jumbo frames would be lost.
    SmallMtu {
        /// The port's MTU.
        found: u32,
        /// The fabric's.
        wanted: u32,
    },
    /// No RDMA.
    NoRdma {
        /// How many free functions have no RDMA device.
        without: usize,
    },
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
    /// Functions by number.
    pub functions: Vec<FoundFunction>,
}

/// A function of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// PCI address.
    pub pci_address: PciAddress,
    /// Number on the PF.
    pub index: u32,
    /// Whether its interface is in the host's namespace.
    pub home: bool,
    /// Its own RDMA device.
    pub rdma_device: Option<RdmaName>,
    /// Links that somebody made on top of its interface: a host service uses it.
    pub uppers: Vec<String>,
    /// Whether somebody gave its interface an address; sysfs does not tell, so [`mark_addressed`] does.
    pub addressed: bool,
}

impl FoundFunction {
    /// Whether pods can have it.
    pub fn usable(&self) -> bool {
        self.home && self.uppers.is_empty() && !self.addressed
    }
}

impl From<VirtualFunction> for FoundFunction {
    fn from(function: VirtualFunction) -> Self {
        Self {
            home: function.link.is_some(),
            rdma_device: function.rdma_devices.into_iter().next(),
            uppers: function.uppers,
            addressed: false,
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
