//! The attachment record: what ADD made and saw, `attachment.json` in the pod's folder.

use ipnet::IpNet;
use railhead_nic::{InterfaceName, MacAddress, PciAddress, RdmaName, Vlan};
use serde::{Deserialize, Serialize};

use crate::{
    attachment_plan::{NetworkRef, PodRef},
    version::Versioned,
};

/// The version that this release writes.
pub const RECORD_VERSION: u32 = 1;

/// One wired sandbox. Everything in it was read back from the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentRecord {
    /// [`RECORD_VERSION`] when written by this release.
    pub version: u32,
    /// The sandbox.
    pub container_id: String,
    /// The pod.
    pub pod: PodRef,
    /// Its network.
    pub network: NetworkRef,
    /// Name of the NetworkSlice.
    pub slice_name: String,
    /// The pod's place in the network.
    pub index: u32,
    /// How many pods the network has.
    pub pods: u32,
    /// How long ADD took, milliseconds.
    pub wired_in_ms: u64,
    /// One entry per rail, by ascending rail id.
    pub rails: Vec<RailRecord>,
}

impl Versioned for AttachmentRecord {
    const WHAT: &'static str = "the attachment record";
    const VERSION: u32 = RECORD_VERSION;
}

/// One wired rail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RailRecord {
    /// Absolute rail id.
    pub rail: u32,
    /// Interface name in the pod.
    pub name: InterfaceName,
    /// PCI address of the VF.
    pub vf: PciAddress,
    /// The interface's MAC address.
    pub mac: MacAddress,
    /// The interface's MTU.
    pub mtu: u32,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// VLAN as read back from the PF.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// Maximum rate as read back from the PF, Mbit/s; 0 is none.
    pub max_rate_mbps: u32,
    /// Minimum rate as read back from the PF, Mbit/s; 0 is none.
    pub min_rate_mbps: u32,
    /// Spoof check as read back from the PF.
    pub spoof_check: bool,
    /// The RDMA device, if the rail has one.
    #[serde(default)]
    pub rdma: Option<RdmaRecord>,
}

/// The RDMA device of a wired rail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RdmaRecord {
    /// Device name.
    pub device: RdmaName,
    /// Its character device, for example `/dev/infiniband/uverbs3`.
    pub uverbs: String,
    /// Index of the RoCE v2 GID of the rail's first address. Found in the GID table, never assumed.
    pub gid_index: u32,
    /// That GID.
    pub gid: String,
}
