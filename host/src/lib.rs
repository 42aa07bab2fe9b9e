//! Linux as typed values: links, SR-IOV functions, addresses, routes, RDMA devices, network namespaces, sysfs.
//!
//! The only crate that talks netlink, enters namespaces and reads sysfs. Everything is synchronous: one request, one
//! answer, on a blocking socket. A CNI binary that lives for milliseconds has no use for a runtime, and a service calls
//! these functions from a blocking thread.
//!
//! What a kernel or a driver answers is data here, never a panic: names are validated before they become paths, replies
//! are checked for their sequence number, dumps that the kernel interrupted are read again.

#[cfg(feature = "testing")]
pub mod answers;
mod boot;
mod devlink;
mod durable;
mod ethtool;
mod file_lock;
mod generic;
mod link_settings;
mod lock_holder;
mod memlock;
mod netlink;
mod netns;
mod rdma;
mod root_file;
mod route_socket;
mod state_file;
mod sysctl;
mod sysfs;
mod tc_programs;
#[cfg(feature = "testing")]
pub mod testing;
mod wait;

pub use boot::{BootIdError, boot_id};
pub use devlink::{DevlinkSocket, EswitchMode};
pub use durable::{ABANDONED, DurableError, remove, remove_abandoned, remove_durably, replace, write_durably};
pub use ethtool::{Channels, EthtoolSettings, EthtoolSocket, FilterError, Rings};
pub use file_lock::{FileLock, LockError};
pub use link_settings::{LinkSetting, LinkSettings, LinkSettingsError, LinkSettingsSocket};
pub use lock_holder::{LockHolder, sign_lock};
pub use memlock::{MemlockError, MemlockLimit, memlock_limit, raise_memlock};
pub use netlink::NetlinkError;
pub use netns::{Door, Netns, NetnsError, NetnsId};
pub use nix::errno::Errno;
pub use railhead_nic::{
    InterfaceName, InvalidInterfaceName, InvalidMacAddress, InvalidPciAddress, InvalidRdmaName, InvalidVlan,
    MacAddress, PciAddress, RdmaName, Vlan,
};
pub use rdma::{NetnsMode, RdmaDevice, RdmaError, RdmaPort, RdmaSocket};
pub use root_file::file_size_in_root;
pub use route_socket::{
    Address, Link, LinkChange, LinkOptions, LinkWatch, OffloadSizes, Route, RouteSocket, Rule, VfError, VfKnob,
    VfLinkState, VfSettings, VfState, XdpMode,
};
pub use state_file::{STATE_FILE_LIMIT, StateFileError, read_state_file};
pub use sysctl::{InterfaceSysctl, SysctlError, read_interface_sysctl, write_interface_sysctls};
pub use sysfs::{FunctionLink, Gid, PhysicalFunction, Sysfs, SysfsError, VirtualFunction};
pub use wait::{Poll, wait_until};
