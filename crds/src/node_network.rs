//! `NodeNetwork`: what a node should have and what it has.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bandwidth, VfManagement};

/// A NodeNetwork, named as its node, says which ports the node should have (written by the operator) and what the node's
/// agent found.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "NodeNetwork",
    plural = "nodenetworks",
    shortname = "nodenet",
    category = "railhead",
    derive = "PartialEq",
    doc = "The ports that a node should have and those that its agent found. Written by Railhead only.",
    status = "NodeNetworkStatus",
    printcolumn(name = "Fabric", type_ = "string", json_path = ".spec.fabricName"),
    printcolumn(name = "Rails", type_ = "string", json_path = ".status.summary.rails"),
    printcolumn(name = "VFs-Used", type_ = "string", json_path = ".status.summary.vfs"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Speed", type_ = "string", json_path = ".status.ports[*].speed", priority = 1),
    printcolumn(name = "Chain", type_ = "string", json_path = ".status.chain.network", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkSpec {
    /// The Fabric that the node belongs to.
    pub fabric_name: String,
    /// Whether the agent creates virtual functions.
    pub vf_management: VfManagement,
    /// MTU that the ports must carry.
    pub mtu: u32,
    /// Whether pods get RDMA devices: linkType RoCE.
    #[serde(default)]
    pub rdma: bool,
    /// Whether every function needs an RDMA device of its own: linkType RoCE without software RoCE.
    #[serde(default)]
    pub rdma_required: bool,
    /// Whether the agent gives back everything that it changed on the node.
    #[serde(default)]
    pub teardown: bool,
    /// Asks the agent to say anew which networks pods on the node hold something of; it repeats this in its status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub recount: Option<String>,
    /// The rails of this node.
    #[schemars(length(max = 16))]
    pub rails: Vec<NodeRail>,
}

/// One rail of a node. The port is named by exactly one of `pciAddress` and `netdev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRail {
    /// Rail id.
    pub id: u32,
    /// Rail name.
    pub name: String,
    /// PCI address of the physical function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci_address: Option<String>,
    /// Interface name of the physical function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netdev: Option<String>,
    /// Virtual functions that it should have.
    pub vfs: u32,
    /// Expected speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Bandwidth>,
}

/// What the agent found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeNetworkStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// In short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<NodeSummary>,
    /// The rails' ports, by rail.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub ports: Vec<NodePort>,
    /// The CNI chain entry, as the container runtime has loaded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<ChainStatus>,
    /// Networks of which pods on this node hold something, by the plans on the node, whatever the API server knows of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub networks: Vec<NodeHolding>,
    /// The spec's `recount` that `networks` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub recount: Option<String>,
    /// Ready, ChainReady, CdiReady, RdmaReady, TornDown.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// A node in short.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeSummary {
    /// Healthy rails, of those wanted: 8/8.
    pub rails: String,
    /// Functions in use, of those that exist: 3/64.
    pub vfs: String,
}

/// What pods on a node hold of one network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeHolding {
    /// The Fabric.
    #[schemars(length(max = 253))]
    pub fabric: String,
    /// Namespace of the TrainingNetwork.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 128))]
    pub uid: String,
    /// First slot of its block.
    pub base: u32,
    /// Slots of its block.
    pub size: u32,
    /// VLAN id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: Option<u16>,
    /// Sequence of the ledger entry that gave it.
    pub ledger_sequence: u64,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePort {
    /// Rail id.
    pub rail: u32,
    /// PCI address of the physical function.
    pub pci_address: String,
    /// Interface name of the physical function.
    pub netdev: String,
    /// Kernel driver.
    pub driver: String,
    /// Speed of the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Bandwidth>,
    /// RDMA device of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma_device: Option<String>,
    /// NUMA node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// Its virtual functions.
    pub vfs: PortVfs,
    /// Health.
    pub state: PortHealth,
    /// Why it is not healthy, or which of its functions pods do not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Virtual functions of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortVfs {
    /// Taken by pods.
    pub used: u32,
    /// That exist.
    pub total: u32,
}

/// Health of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PortHealth {
    /// Link up at the expected speed, with functions.
    Healthy,
    /// No carrier.
    Down,
    /// Slower than the fabric says.
    Slow,
    /// No or too few functions.
    NoVfs,
    /// MTU below the fabric's. No pod is placed on it.
    SmallMtu,
    /// A function has no RDMA device, and the fabric allows no software RoCE. No pod is placed on it.
    NoRdma,
    /// Functions exist, but pods can have none of them, or some have no driver.
    VfsUnusable,
    /// A device plugin gives its functions to pods. No pod is placed on it.
    ForeignOwner,
    /// Its eswitch is in switchdev mode, in which the port takes no VLAN for a function. No pod is placed on it.
    Switchdev,
    /// A DPU manages its functions. No pod is placed on it.
    DpuManaged,
    /// The node's RDMA subsystem gives each network namespace its own devices. No pod is placed on it.
    RdmaExclusive,
}

/// The CNI chain entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChainStatus {
    /// Name of the cluster network's conflist that Railhead is chained to.
    pub network: String,
    /// Whether the runtime has loaded it.
    pub loaded: bool,
}
