//! `Fabric`: the backend network of a cluster, described once by the platform team.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Bandwidth, NamespaceSelector};

/// A Fabric is the backend network of a cluster: its rails, the ports that belong to each, the address pools and the VLANs
/// from which networks are cut. The platform team writes it once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "railhead.dev",
    version = "v1alpha1",
    kind = "Fabric",
    plural = "fabrics",
    shortname = "fab",
    category = "railhead",
    derive = "PartialEq",
    doc = "The backend network of a cluster: rails, ports, pools and VLANs. Written once by the platform team.",
    status = "FabricStatus",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.linkType"),
    printcolumn(name = "Addressing", type_ = "string", json_path = ".spec.addressing.mode"),
    printcolumn(name = "Rails", type_ = "integer", json_path = ".status.rails"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes"),
    printcolumn(name = "IPv4-Used", type_ = "string", json_path = ".status.ipv4Used"),
    printcolumn(name = "VLANs-Free", type_ = "integer", json_path = ".status.vlansFree"),
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
    validation = Rule::new("size(self.metadata.name) <= 57")
        .message("a Fabric's name has at most 57 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.rails.all(r, size(r.pools) == size(self.rails[0].pools) && r.pools.map(p, isCIDR(p.cidr) ? cidr(p.cidr).prefixLength() : -1) == self.rails[0].pools.map(p, isCIDR(p.cidr) ? cidr(p.cidr).prefixLength() : -1))"
    )
    .message("every rail needs the same number of pools with the same prefix lengths, in the same order: index i of a network has the same offset on every rail"),
    validation = Rule::new(
        "self.rails.all(r, r.pools.all(p, self.rails.all(s, s.id <= r.id || s.pools.all(q, !isCIDR(p.cidr) || !isCIDR(q.cidr) || !(cidr(p.cidr).containsCIDR(q.cidr) || cidr(q.cidr).containsCIDR(p.cidr))))))"
    )
    .message("pools of two rails overlap: give every rail prefixes of its own"),
    validation = Rule::new("self.rails.all(r, oldSelf.rails.exists(o, o.id == r.id) ? oldSelf.rails.filter(o, o.id == r.id)[0].name == r.name : true)")
        .message("a rail's name is the interface name in running pods and cannot be changed; add a rail with a new id")
)]
pub struct FabricSpec {
    /// Whether networks that name no fabric use this one. At most one Fabric may say true; default false.
    #[serde(default)]
    pub default: bool,
    /// The nodes that belong to the fabric. Default: every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// The namespaces whose networks may use the fabric. Others are refused (FabricNotAllowed); a network that has its slice keeps it,
    /// whatever is changed here or at its namespace. Default: every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<NamespaceSelector>,
    /// RoCE gives pods an RDMA device on every rail, Ethernet only an interface. Default RoCE.
    #[serde(default)]
    pub link_type: LinkType,
    /// MTU of the interface inside the pod, in bytes. The ports must carry it. Default 9000.
    #[serde(default = "default_mtu")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: u32,
    /// How many SR-IOV virtual functions a port shall have: the number of pods that can share it. Only created where
    /// `management.vfs` is Managed. Default 8.
    #[serde(default = "default_vfs_per_port")]
    #[schemars(range(min = 1, max = 128))]
    pub vfs_per_port: u32,
    /// WhereMissing makes a software RoCE device in the pod where the port has no RDMA of its own (labs and CI; slow).
    /// Never is for production. Default Never.
    #[serde(default, rename = "softRoCE")]
    pub soft_roce: SoftRoce,
    /// What Railhead may change on the nodes, beside other operators. Default: Observed for everything.
    #[serde(default)]
    pub management: Management,
    /// How addresses relate to the network's segments.
    #[serde(default)]
    pub addressing: Addressing,
    /// How networks are kept apart on the wire.
    pub vlan: VlanPolicy,
    /// The rails, by id.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    #[x_kube(validation = Rule::new("self.all(r, self.exists_one(o, o.name == r.name))").message("two rails have the same name"))]
    #[x_kube(validation = Rule::new(
        "self.all(r, r.ports.all(p, self.all(o, o.id >= r.id || !o.ports.exists(q, (has(p.netdev) ? has(q.netdev) && q.netdev == p.netdev : has(p.pciAddress) && has(q.pciAddress) && q.pciAddress == p.pciAddress) && has(q.nodeSelector) == has(p.nodeSelector) && (!has(p.nodeSelector) || q.nodeSelector == p.nodeSelector)))))"
    )
    .message("two rails name the same port: a port belongs to one rail; correct one of them, or say in their nodeSelectors on which nodes each applies"))]
    pub rails: Vec<Rail>,
    /// Set by the uninstall hook: every node gives back what Railhead changed on it (chain entry, virtual functions, binary).
    /// Refused by the hook while pods are attached. Default false.
    #[serde(default)]
    pub teardown: bool,
}

fn default_mtu() -> u32 {
    9000
}

fn default_vfs_per_port() -> u32 {
    8
}

/// Selects nodes by labels; there is at least one.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("size(self.matchLabels) > 0")
        .message("nodeSelector names no label, and would select every node: leave nodeSelector out where that is meant, else write matchLabels"),
    validation = Rule::new("self.matchLabels.all(label, dyn(self.matchLabels[label]) != null)")
        .message("a label of nodeSelector.matchLabels has no value, and would be left out: write one, \"\" where the label has none on the nodes")
)]
pub struct NodeSelector {
    /// Labels that a node must carry with these values.
    #[serde(default)]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "nullable": true}))]
    pub match_labels: BTreeMap<String, String>,
}

/// What the ports speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LinkType {
    /// RDMA over Converged Ethernet v2.
    #[default]
    RoCE,
    /// No RDMA.
    Ethernet,
}

/// Whether pods get a software RoCE device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SoftRoce {
    /// Never.
    #[default]
    Never,
    /// Where the port has no RDMA device.
    WhereMissing,
}

/// What Railhead may change on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Management {
    /// Managed: Railhead creates `vfsPerPort` virtual functions on ports that have none. Observed: it uses those that exist
    /// and says what is missing. Default Observed.
    #[serde(default)]
    pub vfs: VfManagement,
}

/// Who creates virtual functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VfManagement {
    /// Somebody else; Railhead only looks.
    #[default]
    Observed,
    /// Railhead.
    Managed,
}

/// How addresses relate to segments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Addressing {
    /// RailSubnet: one layer 2 (or EVPN) segment per rail; a network's addresses are contiguous and stay with the index when
    /// a pod moves to another node. Default RailSubnet, the only mode of this version.
    #[serde(default)]
    pub mode: AddressingMode,
}

/// Addressing mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressingMode {
    /// One segment per rail.
    #[default]
    RailSubnet,
}

/// How networks are kept apart on the wire.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VlanPolicy {
    /// PerNetwork: every network gets a VLAN of its own from `range`, the same on all rails. The only mode of this version.
    #[serde(default)]
    pub mode: VlanMode,
    /// The VLANs that the switches carry on the rails' ports.
    pub range: VlanRange,
}

/// VLAN mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VlanMode {
    /// A VLAN per network.
    #[default]
    PerNetwork,
}

/// An inclusive range of VLAN ids.
#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max").message("vlan.range: min is larger than max"))]
pub struct VlanRange {
    /// First VLAN id, 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub min: u16,
    /// Last VLAN id, 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub max: u16,
}

/// One rail: the ports with the same place in every node, and the addresses on them.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.pools.all(p, self.pools.exists_one(o, isCIDR(o.cidr) && isCIDR(p.cidr) && (cidr(o.cidr).containsCIDR(p.cidr) || cidr(p.cidr).containsCIDR(o.cidr))))"
    )
    .message("pools of one rail overlap")
)]
pub struct Rail {
    /// Absolute and immutable: rail 0 is rail 0 on every node.
    #[schemars(range(min = 0, max = 63))]
    pub id: u32,
    /// Interface name in the pod, for example rail0.
    #[schemars(length(min = 1, max = 15), regex(pattern = r"^[a-z][a-z0-9-]*$"))]
    #[x_kube(validation = Rule::new("!(self in ['lo', 'eth0'])").message("lo and eth0 belong to the cluster network"))]
    pub name: String,
    /// Speed that a port of this rail should have, for example 400G. A slower port is reported as PortSlow; what can be
    /// reserved is always the port's real speed. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Bandwidth>,
    /// Where the rail's port is found on a node. The first entry that fits the node wins.
    #[schemars(length(min = 1, max = 16))]
    pub ports: Vec<Port>,
    /// Address pools, as many as every other rail has and of the same lengths. Append one to grow. One of which no network holds
    /// anything may be changed or go; one that is in use is drained first (`draining: true`). Live networks never move: an
    /// edit against them has no effect and is told in the condition EditConflict.
    #[schemars(length(min = 1, max = 4))]
    pub pools: Vec<Pool>,
}

/// Where a rail's port (the physical function) is found.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.pciAddress) != has(self.netdev)").message("a port is named by exactly one of pciAddress and netdev"),
    validation = Rule::new("!has(self.pciAddress) || self.pciAddress.matches('^[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f][.][0-7]$')")
        .message("pciAddress is no PCI address: write it as `lspci -D` prints it, in lower case, for example 0000:3b:00.0 or 10002:01:00.0")
)]
pub struct Port {
    /// PCI address of the physical function as `lspci -D` prints it, for example 0000:18:00.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub pci_address: Option<String>,
    /// Interface name of the physical function on the node, for example eth_r0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub netdev: Option<String>,
    /// Only on these nodes. Default: all nodes of the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
}

/// An address pool of a rail.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("isCIDR(self.cidr) && cidr(self.cidr).ip().family() == 4")
        .message("a pool is an IPv4 prefix such as 10.0.0.0/16"),
    validation = Rule::new("!isCIDR(self.cidr) || cidr(self.cidr).masked() == cidr(self.cidr)")
        .message("the pool's address has bits set beyond its prefix length; write the network address, for example 10.0.0.0/16"),
    validation = Rule::new("!isCIDR(self.cidr) || (cidr(self.cidr).prefixLength() >= 8 && cidr(self.cidr).prefixLength() <= 30)")
        .message("a pool is between a /8 and a /30"),
    validation = Rule::new("!has(self.gateway) || (isIP(self.gateway) && isCIDR(self.cidr) && cidr(self.cidr).containsIP(self.gateway))")
        .message("the gateway is not an address of the pool"),
    validation = Rule::new("!has(self.exclude) || self.exclude.all(e, isCIDR(e) && isCIDR(self.cidr) && cidr(e).masked() == cidr(e) && cidr(self.cidr).containsCIDR(e))")
        .message("an excluded prefix is not inside the pool, or is not written as a network address")
)]
pub struct Pool {
    /// IPv4 prefix, for example 10.0.0.0/16.
    #[schemars(length(max = 18))]
    pub cidr: String,
    /// Router of the segment, if it has one. Never given to a pod; default route of the rail's own table. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 15))]
    pub gateway: Option<String>,
    /// Prefixes that are never given to pods, for example those of switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 18)))]
    pub exclude: Vec<String>,
    /// Nothing new is cut from this pool, nor from those with the same place in the other rails' lists. Networks that have some of
    /// it keep it; when none has, the pool may go. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// What the operator sees of a Fabric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FabricStatus {
    /// Generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes whose ports are all there, of those selected: 497/500.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Number of rails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rails: Option<i32>,
    /// Share of the IPv4 slots that networks hold: 61%.
    #[serde(default, rename = "ipv4Used", skip_serializing_if = "Option::is_none")]
    pub ipv4_used: Option<String>,
    /// VLANs of the range that no network holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans_free: Option<i32>,
    /// Use per rail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolStatus>,
    /// Ready, NodesReady, PoolsHealthy. Default: networks that name no fabric get this one (else NotDefault, or DefaultConflict: several
    /// say so, and none counts). EditConflict where the spec was changed against live networks. VlansShared where another Fabric's
    /// range has the same VLANs.
    #[serde(default)]
    #[schemars(schema_with = "crate::meta::conditions")]
    pub conditions: Vec<Condition>,
}

/// Use of one rail's pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// Rail id.
    pub rail: u32,
    /// Slots held by networks, in percent.
    pub used: String,
    /// The largest prefix that a new network could get, for example /18.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest_free: Option<String>,
}
