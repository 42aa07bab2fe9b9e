//! Names and numbers of network hardware as checked types.
//!
//! What one of these types holds may reach a path or the kernel as it is: it was checked when it was made, also when serde
//! made it from a file. No I/O, no other crate of the workspace.

mod interface_name;
mod mac_address;
mod pci_address;
mod rdma_name;
mod vlan;

pub use interface_name::{InterfaceName, InvalidInterfaceName};
pub use mac_address::{InvalidMacAddress, MacAddress};
pub use pci_address::{InvalidPciAddress, PciAddress};
pub use rdma_name::{InvalidRdmaName, RdmaName};
pub use vlan::{InvalidVlan, Vlan};
