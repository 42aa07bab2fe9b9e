//! Why a rail was not wired or not given back.

use std::time::Duration;

use railhead_host::{
    InterfaceName, MacAddress, NetlinkError, NetnsError, PciAddress, RdmaError, RdmaName, SysctlError, SysfsError,
};
use railhead_vf::HostError;
use thiserror::Error;

use crate::protocol::Code;

/// Why a rail was not wired.
#[derive(Debug, Error)]
pub(crate) enum WireError {
    #[error("the function {vf} left the host and did not arrive in the pod")]
    LostOnTheWay { vf: PciAddress },
    #[error("the pod already has an interface {name}; another plugin of the chain made it, rename one of them")]
    NameTaken { name: InterfaceName },
    #[error("the function {vf} does not take the MAC address {mac} ({source}); its driver has to be bound again")]
    Mac {
        vf: PciAddress,
        mac: MacAddress,
        #[source]
        source: NetlinkError,
    },
    #[error("{name} has no carrier after {} s; look at the port's cable and its leaf, and whether the PF is up", waited.as_secs())]
    NoCarrier { name: InterfaceName, waited: Duration },
    #[error("RDMA device {device} has no active port with a RoCE v2 GID of {address} after {} s", waited.as_secs())]
    NoGid {
        device: RdmaName,
        address: std::net::IpAddr,
        waited: Duration,
    },
    #[error("the VF {vf} has no RDMA device; is its RDMA driver loaded?")]
    NoRdmaDevice { vf: PciAddress },
    #[error("RDMA device {device} has no character device; is the module ib_uverbs loaded?")]
    NoUverbs { device: RdmaName },
    #[error(
        "RDMA device {device} of a function in RDMA netns mode exclusive cannot be wired by this release; boot the node with ib_core netns_mode=1 (shared)"
    )]
    ExclusiveMode { device: RdmaName },
    #[error("read back {name}: {what}")]
    NotAsPlanned { name: InterfaceName, what: String },
    #[error(transparent)]
    Host(HostError),
    #[error(transparent)]
    Netlink(NetlinkError),
    #[error(transparent)]
    Sysfs(SysfsError),
    #[error(transparent)]
    Sysctl(SysctlError),
    #[error(transparent)]
    Rdma(RdmaError),
    #[error(transparent)]
    Netns(NetnsError),
    #[error("stopped")]
    Stopped,
}

impl WireError {
    /// What the runtime is told.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Host(HostError::NotHome { .. }) | Self::NoCarrier { .. } | Self::NoGid { .. } => Code::TryAgain,
            _ => Code::Io,
        }
    }
}

/// Why a function was not brought home. What is already gone is never an error.
#[derive(Debug, Error)]
pub(crate) enum UndoError {
    #[error("give back function {vf}: {source}")]
    Netlink {
        vf: PciAddress,
        #[source]
        source: NetlinkError,
    },
    #[error("give back function {vf}: {source}")]
    Netns {
        vf: PciAddress,
        #[source]
        source: NetnsError,
    },
    #[error("give back function {vf}: {source}")]
    Rdma {
        vf: PciAddress,
        #[source]
        source: RdmaError,
    },
    #[error("stopped")]
    Stopped,
}
