//! `NetworkSlice`: what a network got.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bandwidth, LinkType, SoftRoce};

/// A NetworkSlice is what a TrainingNetwork got of its Fabric. Written by Railhead's operator only; its spec never changes,
/// and it goes when no pod is attached any more.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "NetworkSlice",
    plural = "networkslices",
    shortname = "nslice",
    category = "railhead",
    derive = "PartialEq",
    doc = "What a TrainingNetwork got of its Fabric. Written by Railhead only.",
    namespaced,
    status = "NetworkSliceStatus",
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network.name"),
    printcolumn(name = "Fabric", type_ = "string", json_path = ".spec.fabric.name"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".spec.pods"),
    printcolumn(name = "Attached", type_ = "integer", json_path = ".status.attached"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.rails[0].prefix"),
    printcolumn(name = "VLAN", type_ = "integer", json_path = ".spec.rails[0].vlan"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("the spec of a NetworkSlice never changes"))]
pub struct NetworkSliceSpec {
    /// The network that owns the slice.
    pub network: SliceNetwork,
    /// The fabric it was cut from, and the fabric's settings at that time.
    pub fabric: SliceFabric,
    /// Number of pods: indices 0 to pods-1.
    pub pods: u32,
    /// First slot of the block in the fabric's slot space.
    pub base: u32,
    /// Slots in the block, a power of two.
    pub capacity: u32,
    /// Sequence of the ledger entry behind it.
    pub ledger_sequence: u64,
    /// The class, as it was when the slice was made.
    pub qos: SliceQos,
    /// One entry per rail, by ascending id.
    #[schemars(length(min = 1, max = 16))]
    pub rails: Vec<SliceRail>,
}

/// The owner of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceNetwork {
    /// Name, in the slice's namespace.
    pub name: String,
    /// UID.
    pub uid: String,
}

/// The fabric of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceFabric {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// MTU of the interfaces.
    pub mtu: u32,
    /// RoCE or Ethernet.
    pub link_type: LinkType,
    /// Whether pods get software RoCE where a port has no RDMA.
    #[serde(rename = "softRoCE")]
    pub soft_roce: SoftRoce,
}

/// The class of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceQos {
    /// Name of the QosClass.
    pub class_name: String,
    /// Differentiated services code point.
    #[schemars(range(min = 0, max = 63))]
    pub dscp: u8,
    /// 802.1p priority.
    #[schemars(range(min = 0, max = 7))]
    pub priority: u8,
    /// Guaranteed bandwidth per pod and rail.
    pub guaranteed: Bandwidth,
    /// Maximum per pod and rail; absent is line rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Bandwidth>,
    /// Trust of the virtual functions.
    pub trust: bool,
    /// Spoof check of the virtual functions.
    pub spoof_check: bool,
}

/// One rail of a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SliceRail {
    /// Rail id.
    pub id: u32,
    /// Interface name in the pods.
    pub name: String,
    /// VLAN id.
    #[schemars(range(min = 1, max = 4094))]
    pub vlan: u16,
    /// The network's block: index i has its i-th address.
    pub prefix: String,
    /// The pool that the block was cut from: the segment's prefix.
    pub pool: String,
    /// Router of the segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

/// State of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSliceStatus {
    /// Pods that are wired.
    #[serde(default)]
    pub attached: i32,
    /// InUse, Releasable.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}
