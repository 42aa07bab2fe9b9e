//! The content of one pod's attachment plan.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::core::v1::Pod;
use railhead_crds::{
    Bandwidth, LinkType, NcclInject, NetworkSlice, SlicePrefix, SliceRail, SoftRoce, TrainingNetworkSpec,
};
use railhead_nic::{InvalidInterfaceName, InvalidRdmaName, MacAddress, PciAddress, RdmaName, Vlan};
use railhead_plan::{AttachmentPlan, BlockRef, NetworkRef, PLAN_VERSION, PodRef, RailPlan, RdmaPlan, VfPlan};
use thiserror::Error;

use crate::nccl;

/// Routing tables of rails are numbered from here: rail 3 uses table 1003.
const FIRST_TABLE: u32 = 1000;

/// The VF that the agent chose for one rail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfChoice {
    /// Rail id.
    pub rail: u32,
    /// PCI address of the VF.
    pub vf_pci: PciAddress,
    /// PCI address of the PF.
    pub pf_pci: PciAddress,
    /// Number of the VF on its PF.
    pub vf_index: u32,
    /// The VF's own RDMA device.
    pub rdma_device: Option<RdmaName>,
    /// Whether the port can guarantee a minimum rate.
    pub min_rate: bool,
}

/// Why no plan can be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// The slice does not hold valid prefixes.
    #[error(
        "slice {slice} is damaged: rail {rail} has prefix {prefix:?} in pool {pool:?}; delete the network and apply it anew"
    )]
    BadSlice {
        /// The slice.
        slice: String,
        /// Rail name.
        rail: String,
        /// As found.
        prefix: String,
        /// As found.
        pool: String,
    },
    /// The slice has blocks that this release does not wire.
    #[error(
        "slice {slice}: rail {rail} has {prefixes}, and the agent of this node wires one IPv4 prefix per rail: bring it to the operator's release"
    )]
    NotWired {
        /// The slice.
        slice: String,
        /// Rail name.
        rail: String,
        /// What it has.
        prefixes: String,
    },
    /// The agent chose no function for a rail.
    #[error("no function was chosen for rail {rail} of slice {slice}")]
    NoFunction {
        /// The slice.
        slice: String,
        /// Rail name.
        rail: String,
    },
    /// The fabric wants RDMA and the port has none.
    #[error(
        "rail {rail}: the port {port} has no RDMA device and the fabric says softRoCE: Never; load the NIC's RDMA driver, or use linkType: Ethernet"
    )]
    NoRdma {
        /// Rail name.
        rail: String,
        /// PCI address of the port.
        port: PciAddress,
    },
    /// The slice holds a name, a VLAN or a priority that no interface can have.
    #[error("slice {slice} is damaged: rail {rail}: {reason}; delete the network and apply it anew")]
    BadRail {
        /// The slice.
        slice: String,
        /// Rail name.
        rail: String,
        /// What is wrong.
        reason: String,
    },
}

/// A pod's ResourceClaim, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimOfPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// The plan of `pod` as index `index` of `slice`, with the functions that the agent chose, one per rail.
pub fn plan(
    slice: &NetworkSlice,
    pod: &Pod,
    claim: &ClaimOfPod,
    network: &TrainingNetworkSpec,
    index: u32,
    boot_id: &str,
    functions: &[VfChoice],
) -> Result<AttachmentPlan, PlanError> {
    let slice_name = slice.metadata.name.clone().unwrap_or_default();
    let pod_uid = pod.metadata.uid.clone().unwrap_or_default();
    let fabric = fabric_byte(&slice.spec.fabric.uid);
    let rails = slice
        .spec
        .rails
        .iter()
        .map(|rail| {
            let function = functions
                .iter()
                .find(|function| function.rail == rail.id)
                .ok_or_else(|| PlanError::NoFunction {
                    slice: slice_name.clone(),
                    rail: rail.name.clone(),
                })?;
            rail_plan(slice, rail, fabric, index, &pod_uid, function)
        })
        .collect::<Result<_, _>>()?;
    Ok(AttachmentPlan {
        version: PLAN_VERSION,
        boot_id: boot_id.to_owned(),
        pod: PodRef {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod_uid,
        },
        claim_uid: claim.uid.clone(),
        claim_name: Some(claim.name.clone()),
        network: NetworkRef {
            name: slice.spec.network.name.clone(),
            uid: slice.spec.network.uid.clone(),
        },
        block: Some(BlockRef {
            fabric: slice.spec.fabric.name.clone(),
            base: slice.spec.base,
            size: slice.spec.capacity,
            ledger_sequence: slice.spec.ledger_sequence,
        }),
        slice_name,
        index,
        pods: slice.spec.pods.min(network.pods),
        rails,
        nccl_file: network.nccl.inject != NcclInject::None,
        nccl_by_variable: network.nccl.inject == NcclInject::FileAndEnv,
        nccl: nccl::settings(slice, &network.nccl),
        nccl_environment: nccl::environment(pod, &claim.name),
        traffic_class: nccl::traffic_class(slice),
    })
}

fn rail_plan(
    slice: &NetworkSlice,
    rail: &SliceRail,
    fabric: u8,
    index: u32,
    pod_uid: &str,
    function: &VfChoice,
) -> Result<RailPlan, PlanError> {
    // A pod with some of its addresses would look attached; other blocks than one IPv4 prefix are of later releases.
    let [
        SlicePrefix {
            prefix: IpNet::V4(prefix),
            pool: IpNet::V4(pool),
            gateway,
        },
    ] = rail.prefixes[..]
    else {
        let prefixes: Vec<String> = rail.prefixes.iter().map(|block| block.prefix.to_string()).collect();
        return Err(PlanError::NotWired {
            slice: slice.metadata.name.clone().unwrap_or_default(),
            rail: rail.name.clone(),
            prefixes: prefixes.join(", "),
        });
    };
    let bad = || PlanError::BadSlice {
        slice: slice.metadata.name.clone().unwrap_or_default(),
        rail: rail.name.clone(),
        prefix: prefix.to_string(),
        pool: pool.to_string(),
    };
    if !pool.contains(&prefix) || index >= slice.spec.pods || slice.spec.pods > slice.spec.capacity {
        return Err(bad());
    }
    let (address, on_link) = address(prefix, pool, index, slice.spec.pods).ok_or_else(bad)?;
    let qos = &slice.spec.qos;
    let bad_rail = |reason: String| PlanError::BadRail {
        slice: slice.metadata.name.clone().unwrap_or_default(),
        rail: rail.name.clone(),
        reason,
    };
    let vlan = rail.vlan.map(|id| Vlan::new(id, qos.priority)).transpose();
    let vlan = vlan.map_err(|error| bad_rail(error.to_string()))?;
    let mbps = |bandwidth: Bandwidth| u32::try_from(bandwidth.mbps()).unwrap_or(u32::MAX);
    Ok(RailPlan {
        rail: rail.id,
        name: rail
            .name
            .parse()
            .map_err(|error: InvalidInterfaceName| bad_rail(error.to_string()))?,
        vf: VfPlan {
            pci_address: function.vf_pci.clone(),
            pf_pci_address: function.pf_pci.clone(),
            index: function.vf_index,
            vlan,
            max_rate_mbps: qos.maximum.map_or(0, mbps),
            min_rate_mbps: if function.min_rate { mbps(qos.guaranteed) } else { 0 },
            spoof_check: qos.spoof_check,
            trust: qos.trust,
        },
        mac: mac_of(fabric, rail.id, slice.spec.base + index),
        mtu: slice.spec.fabric.mtu,
        addresses: vec![IpNet::V4(address)],
        on_link: on_link.map(IpNet::V4).into_iter().collect(),
        gateway,
        table: FIRST_TABLE + rail.id,
        rdma: rdma(slice, rail, pod_uid, function)?,
    })
}

/// The address of `index` of a network that has this block; none beyond it.
pub fn address_of(prefix: Ipv4Net, index: u32) -> Option<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(prefix.network()).checked_add(index)?);
    prefix.contains(&address).then_some(address)
}

/// The address of `index` with the prefix length for the interface, and the on-link prefix where the address needs one.
///
/// The pool's length, unless the network reaches the first or the last address of the pool: the kernel would make the last
/// one a broadcast address, so then all its pods get a /32 and a route to the pool.
fn address(prefix: Ipv4Net, pool: Ipv4Net, index: u32, pods: u32) -> Option<(Ipv4Net, Option<Ipv4Net>)> {
    let address = address_of(prefix, index)?;
    let first = u32::from(prefix.network());
    let last_used = first.checked_add(pods.checked_sub(1)?)?;
    let edge = first == u32::from(pool.network()) || last_used == u32::from(pool.broadcast());
    if edge {
        Some((Ipv4Net::new(address, 32).ok()?, Some(pool)))
    } else {
        Some((Ipv4Net::new(address, pool.prefix_len()).ok()?, None))
    }
}

/// A locally administered address that is unique in the fabric by construction: `02`, one byte of the fabric's identity, the
/// rail, and the slot in 24 bits. It stays with the index on every node.
pub fn mac(fabric_uid: &str, rail: u32, slot: u32) -> MacAddress {
    mac_of(fabric_byte(fabric_uid), rail, slot)
}

/// The byte of a fabric in the addresses of all its rails.
fn fabric_byte(fabric_uid: &str) -> u8 {
    let hash = fabric_uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a
    });
    let [fabric, ..] = hash.to_le_bytes();
    fabric
}

fn mac_of(fabric: u8, rail: u32, slot: u32) -> MacAddress {
    let [.., high, middle, low] = slot.to_be_bytes();
    let [rail, ..] = rail.to_le_bytes();
    MacAddress::new([2, fabric, rail, high, middle, low])
}

fn rdma(slice: &NetworkSlice, rail: &SliceRail, pod_uid: &str, function: &VfChoice) -> Result<RdmaPlan, PlanError> {
    let fabric = &slice.spec.fabric;
    if fabric.link_type == LinkType::Ethernet {
        return Ok(RdmaPlan::None);
    }
    if let Some(device) = &function.rdma_device {
        return Ok(RdmaPlan::Function { device: device.clone() });
    }
    match fabric.soft_roce {
        SoftRoce::WhereMissing => {
            let pod: String = pod_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
            let device = format!("rxe{pod}r{}", rail.id);
            let device = device.parse().map_err(|error: InvalidRdmaName| PlanError::BadRail {
                slice: slice.metadata.name.clone().unwrap_or_default(),
                rail: rail.name.clone(),
                reason: error.to_string(),
            })?;
            Ok(RdmaPlan::Soft { device })
        }
        SoftRoce::Never => Err(PlanError::NoRdma {
            rail: rail.name.clone(),
            port: function.pf_pci.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::network::tests::{network, reserved};

    fn functions() -> Vec<VfChoice> {
        (0..2)
            .map(|rail| VfChoice {
                rail,
                vf_pci: format!("0000:0{}:10.0", rail + 1).parse().unwrap(),
                pf_pci: format!("0000:0{}:00.0", rail + 1).parse().unwrap(),
                vf_index: 0,
                rdma_device: None,
                min_rate: false,
            })
            .collect()
    }

    /// Of a network with so many pods, which may be fewer than its slice has.
    fn spec(pods: u32) -> TrainingNetworkSpec {
        network(json!({"pods": pods})).spec
    }

    fn claim() -> ClaimOfPod {
        ClaimOfPod {
            name: "llama-1-railhead-x".to_owned(),
            uid: "c".to_owned(),
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "llama-1", "namespace": "team-a", "uid": "0b7d2c1e-1-2-3"}}))
            .unwrap()
    }

    #[test]
    fn the_plan_of_an_index_is_the_same_on_every_node() {
        let (_, slice) = reserved(&network(json!({"pods": 2})));
        let here = plan(&slice, &pod(), &claim(), &spec(2), 1, "boot-a", &functions()).unwrap();
        let mut elsewhere = functions();
        elsewhere[0].vf_pci = "0000:41:00.5".parse().unwrap();
        let there = plan(&slice, &pod(), &claim(), &spec(2), 1, "boot-b", &elsewhere).unwrap();
        for (a, b) in here.rails.iter().zip(&there.rails) {
            assert_eq!(
                (&a.addresses, &a.mac, &a.vf.vlan, &a.name),
                (&b.addresses, &b.mac, &b.vf.vlan, &b.name)
            );
        }
        assert_eq!(here.rails[1].addresses, ["10.1.0.3/16".parse::<IpNet>().unwrap()]);
        assert_eq!(here.rails[0].vf.vlan, Some(Vlan::new(1000, 3).unwrap()));
        assert_eq!(
            (here.rails[0].vf.max_rate_mbps, here.rails[0].vf.min_rate_mbps),
            (400, 0)
        );
    }

    #[test]
    fn a_network_at_the_edge_of_its_pool_gets_host_addresses_and_a_route() {
        let pool: Ipv4Net = "10.0.0.0/24".parse().unwrap();
        let (address, on_link) = super::address(pool, pool, 255, 256).unwrap();
        assert_eq!((address.to_string(), on_link), ("10.0.0.255/32".into(), Some(pool)));
        let inner: Ipv4Net = "10.0.0.64/26".parse().unwrap();
        assert_eq!(
            super::address(inner, pool, 3, 64).unwrap(),
            ("10.0.0.67/24".parse().unwrap(), None)
        );
        assert_eq!(super::address(inner, pool, 64, 64), None, "an index outside the block");
    }

    #[test]
    fn a_slice_of_the_first_release_gives_the_same_addresses_and_a_later_one_is_refused() {
        let old = include_str!("../../crds/tests/release_0_1/slice.json");
        let mut slice: NetworkSlice = serde_json::from_str(old).unwrap();
        let made = plan(&slice, &pod(), &claim(), &spec(2), 5, "b", &functions()).unwrap();
        assert_eq!(made.rails[0].addresses, ["10.0.0.13/16".parse::<IpNet>().unwrap()]);
        assert_eq!(made.rails[0].gateway, Some("10.0.255.254".parse().unwrap()));
        assert_eq!(made.rails[1].addresses, ["10.1.0.13/16".parse::<IpNet>().unwrap()]);
        slice.spec.rails[1].vlan = None;
        let untagged = plan(&slice, &pod(), &claim(), &spec(2), 5, "b", &functions()).unwrap();
        assert_eq!(untagged.rails[1].vf.vlan, None);
        slice.spec.rails[1].prefixes.push(SlicePrefix {
            prefix: "fd00::8/125".parse().unwrap(),
            pool: "fd00::/48".parse().unwrap(),
            gateway: None,
        });
        let refused = plan(&slice, &pod(), &claim(), &spec(2), 5, "b", &functions()).unwrap_err();
        assert!(
            refused.to_string().contains("rail1 has 10.1.0.8/29, fd00::8/125"),
            "{refused}"
        );
    }

    #[test]
    fn macs_are_local_unicast_and_differ_by_rail_and_slot() {
        let mut seen = std::collections::BTreeSet::new();
        for rail in 0..8 {
            for slot in [0, 1, 255, 256, 65535, 65536, 0x00ff_ffff] {
                let mac = mac("fabric", rail, slot);
                assert_eq!(mac.bytes()[0], 0x02);
                assert!(seen.insert(mac));
            }
        }
    }

    #[test]
    fn a_roce_fabric_without_rdma_on_the_port_is_refused_unless_software_is_wanted() {
        let (_, mut slice) = reserved(&network(json!({"pods": 2})));
        let soft = plan(&slice, &pod(), &claim(), &spec(2), 0, "b", &functions()).unwrap();
        assert_eq!(
            soft.rails[1].rdma,
            RdmaPlan::Soft {
                device: "rxe0b7d2c1er1".parse().unwrap()
            }
        );
        slice.spec.fabric.soft_roce = SoftRoce::Never;
        let refused = plan(&slice, &pod(), &claim(), &spec(2), 0, "b", &functions()).unwrap_err();
        assert!(matches!(refused, PlanError::NoRdma { .. }));
    }

    #[test]
    fn of_a_network_that_has_shrunk_pods_keep_their_addresses_and_new_ones_are_told_how_many_there_are() {
        let (_, slice) = reserved(&network(json!({"pods": 6, "maxPods": 16})));
        assert_eq!((slice.spec.pods, slice.spec.capacity), (6, 16));
        let made = |pods| plan(&slice, &pod(), &claim(), &spec(pods), 1, "b", &functions()).unwrap();
        let (before, after) = (made(6), made(2));
        assert_eq!((before.pods, after.pods), (6, 2));
        assert_eq!(before.rails, after.rails);
    }
}
