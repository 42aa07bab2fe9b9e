//! The attachment plan: everything that ADD needs to wire one pod, decided beforehand.

use std::net::IpAddr;

use ipnet::IpNet;
use railhead_nic::{InterfaceName, MacAddress, PciAddress, RdmaName, Vlan};
use serde::{Deserialize, Serialize};

use crate::version::Versioned;

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
    /// Name of that claim, in the pod's namespace. Plans of release 0.1 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim_name: Option<String>,
    /// The network that the pod joins.
    pub network: NetworkRef,
    /// The block that the network has. Plans of release 0.1 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<BlockRef>,
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
    /// Whether containers are told of that file by `NCCL_CONF_FILE`, and it is not mounted over theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nccl_by_variable: bool,
    /// Lines of `nccl.conf` that do not depend on what ADD finds. ADD adds `NCCL_IB_GID_INDEX` and `NCCL_IB_HCA`.
    #[serde(default)]
    pub nccl: Vec<NcclSetting>,
    /// Variables that the pod's own containers set, which win over `nccl.conf`; only those that may be wrong in this pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nccl_environment: Vec<ContainerVariable>,
    /// The traffic class of the network's RDMA packets; none without RoCE. Plans of release 0.1 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic_class: Option<TrafficClass>,
}

impl AttachmentPlan {
    /// Whether a container of the pod sets this variable itself, as far as its manifest says.
    pub fn sets(&self, variable: &str) -> bool {
        self.nccl_environment.iter().any(|set| set.name == variable)
    }
}

impl Versioned for AttachmentPlan {
    const WHAT: &'static str = "the attachment plan";
    const VERSION: u32 = PLAN_VERSION;
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

/// A network's block of its fabric's slots, as the ledger gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockRef {
    /// Name of the Fabric.
    pub fabric: String,
    /// First slot.
    pub base: u32,
    /// Number of slots.
    pub size: u32,
    /// Sequence of the ledger entry.
    pub ledger_sequence: u64,
}

/// One rail of one pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RailPlan {
    /// Absolute rail id of the fabric.
    pub rail: u32,
    /// Interface name in the pod.
    pub name: InterfaceName,
    /// The function that is moved into the pod and how its port's PF is programmed for it.
    pub vf: VfPlan,
    /// The interface's MAC address; set by the PF and on the VF.
    pub mac: MacAddress,
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
    /// PCI address of the VF. Its only identity: names change.
    pub pci_address: PciAddress,
    /// PCI address of its PF.
    pub pf_pci_address: PciAddress,
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
        device: RdmaName,
    },
    /// A soft-RoCE device that ADD makes in the pod's network namespace; it completes the claim's CDI spec.
    Soft {
        /// Device name, unique on the node.
        device: RdmaName,
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

/// The byte of an RDMA packet's header that carries the DSCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficClass {
    /// DSCP times 4.
    pub value: u32,
    /// Where it comes from, written as a comment above lines with it.
    pub origin: String,
}

/// A variable in the environment of one of the pod's containers, as the pod's manifest sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerVariable {
    /// The container.
    pub container: String,
    /// Variable.
    pub name: String,
    /// Value, cut off where it is long; none where the manifest does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::version::FormatError;

    fn file() -> Value {
        json!({
            "version": 1, "bootId": "b", "pod": {"namespace": "ml", "name": "train-0", "uid": "6f1c"},
            "claimUid": "77aa", "network": {"name": "train", "uid": "u"}, "sliceName": "train-0", "index": 0, "pods": 2,
            "rails": [{
                "rail": 0, "name": "rail0", "mac": "02:00:00:00:00:01", "mtu": 9000, "addresses": ["10.0.0.7/24"],
                "onLink": [], "gateway": null, "table": 1000, "rdma": {"kind": "function", "device": "mlx5_10"},
                "vf": {
                    "pciAddress": "0000:18:00.3", "pfPciAddress": "0000:18:00.0", "index": 2,
                    "vlan": {"id": 1012, "pcp": 3}, "maxRateMbps": 400, "minRateMbps": 0, "spoofCheck": true,
                    "trust": false,
                },
            }],
            "ncclFile": true, "nccl": [],
        })
    }

    fn parse(file: &Value) -> Result<AttachmentPlan, FormatError> {
        AttachmentPlan::parse(file.to_string().as_bytes())
    }

    #[test]
    fn a_plan_of_release_0_1_is_read_and_written_as_it_was() {
        let plan = parse(&file()).unwrap();
        assert_eq!(serde_json::to_value(&plan).unwrap(), file());
    }

    #[test]
    fn a_text_that_is_no_name_makes_the_file_a_damaged_one() {
        let broken: [(&str, Value); 6] = [
            ("/rails/0/name", json!("../rail")),
            ("/rails/0/mac", json!("02")),
            ("/rails/0/vf/pciAddress", json!("../../x")),
            ("/rails/0/vf/pfPciAddress", json!("")),
            ("/rails/0/vf/vlan/id", json!(0)),
            ("/rails/0/rdma/device", json!("a/b")),
        ];
        for (place, value) in broken {
            let mut file = file();
            *file.pointer_mut(place).unwrap() = value;
            let refused = parse(&file);
            assert!(
                matches!(refused, Err(FormatError::Damaged { .. })),
                "{place}: {refused:?}"
            );
        }
    }
}
