//! The attachment plan: everything that ADD needs to wire one pod, decided beforehand.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::version::{self, FormatError};

/// The version that this release writes.
pub const PLAN_VERSION: u32 = 1;

/// How one pod is to be attached, on all its rails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentPlan {
    /// [`PLAN_VERSION`] when written by this release.
    pub version: u32,
    /// The boot in which the plan was made; a plan of an earlier boot describes functions that no longer exist.
    pub boot_id: String,
    /// Whose plan it is.
    pub pod: PodRef,
    /// UID of the ResourceClaim behind it.
    pub claim_uid: String,
    /// The network that the pod joins.
    pub network: NetworkRef,
    /// Name of the NetworkSlice.
    pub slice_name: String,
    /// The pod's place in the network, from 0.
    pub index: u32,
    /// How many pods the network has.
    pub pods: u32,
    /// One entry per rail, by ascending rail id.
    pub rails: Vec<RailPlan>,
    /// Whether ADD writes `nccl.conf`.
    pub nccl_file: bool,
    /// Lines of `nccl.conf` that do not depend on what ADD finds. ADD adds `NCCL_IB_HCA`.
    #[serde(default)]
    pub nccl: Vec<NcclSetting>,
}

impl AttachmentPlan {
    /// Reads a plan file's content.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        version::parse("the attachment plan", PLAN_VERSION, bytes)
    }
}

/// A pod, as kubelet names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRef {
    /// Namespace of the pod, its claim, its network and its slice.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID, the name of the plan's file.
    pub uid: String,
}

/// A TrainingNetwork in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkRef {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// One rail of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RailPlan {
    /// Absolute rail id of the fabric.
    pub rail: u32,
    /// Interface name in the pod, at most 15 bytes.
    pub name: String,
    /// The function that is moved into the pod and how its port's PF is programmed for it.
    pub vf: VfPlan,
    /// The interface's MAC address, `02:00:00:00:00:01` form; set by the PF and on the function.
    pub mac: String,
    /// Bytes.
    pub mtu: u32,
    /// Addresses with their prefix length on the interface.
    pub addresses: Vec<IpNet>,
    /// Prefixes reached directly over this interface beyond those that the addresses imply (scope link).
    #[serde(default)]
    pub on_link: Vec<IpNet>,
    /// Next hop of the rail's own routing table, if the rail has a router.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Routing table of this rail: traffic from the rail's addresses uses it.
    pub table: u32,
    /// What RDMA device the pod gets on this rail.
    pub rdma: RdmaPlan,
}

/// A virtual function and the settings that its physical function enforces on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfPlan {
    /// PCI address of the VF, `0000:18:00.3` form. The only identity of a function: names change.
    pub pci_address: String,
    /// PCI address of its PF.
    pub pf_pci_address: String,
    /// Number of the VF on its PF.
    pub index: u32,
    /// VLAN that the PF puts on the function's frames.
    #[serde(default)]
    pub vlan: Option<Vlan>,
    /// Maximum transmit rate, Mbit/s; 0 is none.
    pub max_rate_mbps: u32,
    /// Minimum transmit rate, Mbit/s; 0 where the port cannot guarantee one (said in a condition).
    pub min_rate_mbps: u32,
    /// Frames with a foreign source MAC are dropped.
    pub spoof_check: bool,
    /// The function may change its own MAC and filters.
    pub trust: bool,
}

/// An 802.1Q tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vlan {
    /// 1..=4094.
    pub id: u16,
    /// Priority code point, 0..=7.
    pub pcp: u8,
}

/// The RDMA device of a rail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum RdmaPlan {
    /// None: an Ethernet fabric, or a port without RDMA on a fabric that does not want a software device.
    None,
    /// The function's own device, which must exist (shared mode: it is found; its character devices are in the CDI spec).
    Function {
        /// Device name, for example `mlx5_10`.
        device: String,
    },
    /// A soft-RoCE device that ADD makes in the pod's network namespace; it completes the claim's CDI spec.
    Soft {
        /// Device name, unique on the node.
        device: String,
    },
}

/// One line of `nccl.conf`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NcclSetting {
    /// Variable, for example `NCCL_IB_TC`.
    pub name: String,
    /// Value as written after the `=`.
    pub value: String,
    /// Where it comes from, written as a comment above the line.
    pub origin: String,
}
