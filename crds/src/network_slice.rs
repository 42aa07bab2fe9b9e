//! `NetworkSlice`: what a network got.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Bandwidth, LinkType, SoftRoce, names::QUARANTINED};

/// A NetworkSlice is what a TrainingNetwork got of its Fabric. Written by Railhead's operator only. Of its spec only the
/// number of pods, within the block, and the guarantee may change. It goes when no pod is attached any more.
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
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.rails[0].prefixes[0].prefix"),
    printcolumn(name = "VLAN", type_ = "integer", json_path = ".spec.rails[0].vlan"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.pods <= self.capacity")
        .message("a NetworkSlice has at most as many pods as its block has slots"),
    validation = Rule::new("self.network == oldSelf.network && self.fabric == oldSelf.fabric && self.base == oldSelf.base && self.capacity == oldSelf.capacity && self.ledgerSequence == oldSelf.ledgerSequence && self.rails == oldSelf.rails")
        .message("of the spec of a NetworkSlice only pods and qos.guaranteed may change"),
    validation = Rule::new("self.qos.className == oldSelf.qos.className && self.qos.dscp == oldSelf.qos.dscp && self.qos.priority == oldSelf.qos.priority && has(self.qos.maximum) == has(oldSelf.qos.maximum) && (!has(self.qos.maximum) || self.qos.maximum == oldSelf.qos.maximum) && self.qos.trust == oldSelf.qos.trust && self.qos.spoofCheck == oldSelf.qos.spoofCheck")
        .message("of the qos of a NetworkSlice only guaranteed may change")
)]
pub struct NetworkSliceSpec {
    /// The network that owns the slice.
    pub network: SliceNetwork,
    /// The fabric it was cut from, and the fabric's settings at that time.
    pub fabric: SliceFabric,
    /// Number of pods: indices 0 to pods-1. At most the capacity.
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
    #[schemars(with = "Vec<RailAsWritten>", length(min = 1, max = 16))]
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
    #[schemars(length(max = 253))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RailAsWritten", into = "RailAsWritten")]
pub struct SliceRail {
    /// Rail id.
    pub id: u32,
    /// Interface name in the pods.
    pub name: String,
    /// VLAN id; none where the fabric has no VLANs.
    pub vlan: Option<u16>,
    /// The network's blocks; index i has the i-th address of each. There is at least one.
    pub prefixes: Vec<SlicePrefix>,
}

/// A block of a network on one rail.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("isCIDR(self.prefix) && isCIDR(self.pool) && cidr(self.pool).containsCIDR(cidr(self.prefix)) && (!has(self.gateway) || (isIP(self.gateway) && cidr(self.pool).containsIP(ip(self.gateway))))")
        .message("a prefix of a NetworkSlice and its gateway lie in its pool, and all three are of one family")
)]
pub struct SlicePrefix {
    /// The block, IPv4 or IPv6: index i has its i-th address.
    #[schemars(with = "String", length(max = 43))]
    pub prefix: IpNet,
    /// The pool that it was cut from: the segment's prefix.
    #[schemars(with = "String", length(max = 43))]
    pub pool: IpNet,
    /// Router of the segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", length(max = 39))]
    pub gateway: Option<IpAddr>,
}

/// A rail as the API server has it: with a list of prefixes, or with the single one of release 0.1.
#[derive(KubeSchema, Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "One rail of a slice.")]
#[x_kube(
    validation = Rule::new("has(self.prefixes) ? !has(self.prefix) && !has(self.pool) && !has(self.gateway) : has(self.prefix) && has(self.pool)")
        .message("a rail of a NetworkSlice has prefixes, or prefix and pool as release 0.1 wrote them")
)]
struct RailAsWritten {
    /// Rail id.
    id: u32,
    /// Interface name in the pods.
    name: String,
    /// VLAN id; absent where the fabric has no VLANs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4094))]
    vlan: Option<u16>,
    /// The network's blocks; index i has the i-th address of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 8))]
    prefixes: Vec<SlicePrefix>,
    /// The only block of a slice that release 0.1 made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    prefix: Option<IpNet>,
    /// Its pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pool: Option<IpNet>,
    /// Its router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    gateway: Option<IpAddr>,
}

/// A rail of a slice that says not, or twice, which addresses it has.
#[derive(Debug, Error)]
#[error("{rail} has neither prefixes nor prefix and pool, or both")]
pub struct NoPrefix {
    rail: String,
}

impl TryFrom<RailAsWritten> for SliceRail {
    type Error = NoPrefix;

    fn try_from(written: RailAsWritten) -> Result<Self, NoPrefix> {
        let prefixes = match (written.prefix, written.pool, written.prefixes) {
            (Some(prefix), Some(pool), none) if none.is_empty() => vec![SlicePrefix {
                prefix,
                pool,
                gateway: written.gateway,
            }],
            (None, None, prefixes) if !prefixes.is_empty() => prefixes,
            _ => return Err(NoPrefix { rail: written.name }),
        };
        Ok(Self {
            id: written.id,
            name: written.name,
            vlan: written.vlan,
            prefixes,
        })
    }
}

impl From<SliceRail> for RailAsWritten {
    fn from(rail: SliceRail) -> Self {
        Self {
            id: rail.id,
            name: rail.name,
            vlan: rail.vlan,
            prefixes: rail.prefixes,
            prefix: None,
            pool: None,
            gateway: None,
        }
    }
}

impl NetworkSlice {
    /// Why no more pods may be attached, if that is so.
    pub fn quarantine(&self) -> Option<&str> {
        let conditions = &self.status.as_ref()?.conditions;
        let quarantined = conditions.iter().find(|said| said.type_ == QUARANTINED)?;
        (quarantined.status == "True").then_some(quarantined.message.as_str())
    }
}

/// State of a slice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSliceStatus {
    /// Generation of the slice that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Pods that are wired.
    #[serde(default)]
    pub attached: i32,
    /// InUse: pods are attached. Releasable is there while a deletion waits, False with those it waits for (AttachmentsLeft).
    /// Quarantined: the ledger, or another slice, gives its addresses or its VLAN to somebody else as well; its pods go on, and no
    /// more are attached until that ends. Nothing is said of a slice that no pod has used yet.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}
