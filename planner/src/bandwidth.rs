//! What is left on every port, as the scheduler counts it.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::resource::v1::{Device, DeviceRequestAllocationResult, ResourceClaim, ResourceSlice};
use railhead_crds::{Bandwidth, names};

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortBandwidth {
    /// Node.
    pub node: Arc<str>,
    /// Rail id.
    pub rail: u32,
    /// Fabric.
    pub fabric: Arc<str>,
    /// Speed of the port.
    pub capacity: Bandwidth,
    /// Guaranteed to pods.
    pub used: Bandwidth,
    /// Functions that no pod holds.
    pub vfs_free: u32,
}

impl PortBandwidth {
    /// What a new pod could be guaranteed.
    pub fn free(&self) -> Bandwidth {
        Bandwidth::from_mbps(self.capacity.mbps().saturating_sub(self.used.mbps()))
    }
}

/// Why no node has room for a pod: the rail on which the fewest of them have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage<'a> {
    /// Rail id.
    pub rail: u32,
    /// The rail's ports, those with most left first; as many as were asked for.
    pub ports: Vec<&'a PortBandwidth>,
    /// How many ports the rail has.
    pub count: usize,
}

/// Why no node has a VF and `asked` left on each of `rails` of `fabric`; `None` where one has, and where no rail is wanted.
/// `ports` as [`free`] returns them, by node. Each port is looked at once; of the tightest rail's, `shown` are told.
pub fn shortage<'a>(
    ports: &'a [PortBandwidth],
    fabric: &str,
    rails: &[u32],
    asked: Bandwidth,
    shown: usize,
) -> Option<Shortage<'a>> {
    let fits = |port: &PortBandwidth| port.vfs_free > 0 && port.free() >= asked;
    let mut fitting: HashMap<u32, usize> = rails.iter().map(|rail| (*rail, 0)).collect();
    for node in ports.chunk_by(|a, b| a.node == b.node) {
        let mut of_node = 0;
        for port in node.iter().filter(|port| &*port.fabric == fabric && fits(port)) {
            if let Some(count) = fitting.get_mut(&port.rail) {
                *count += 1;
                of_node += 1;
            }
        }
        if of_node == fitting.len() {
            return None;
        }
    }
    let rail = *rails.iter().min_by_key(|rail| fitting.get(*rail))?;
    let mut ports: Vec<&PortBandwidth> = ports
        .iter()
        .filter(|port| port.rail == rail && &*port.fabric == fabric)
        .collect();
    let count = ports.len();
    let order = |a: &&PortBandwidth, b: &&PortBandwidth| (b.free(), &a.node).cmp(&(a.free(), &b.node));
    if count > shown {
        ports.select_nth_unstable_by(shown, order);
        ports.truncate(shown);
    }
    ports.sort_by(order);
    Some(Shortage { rail, ports, count })
}

/// What of a ResourceSlice counts here: the ports of a node. With attributes and policies a slice is twenty times as large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePorts {
    node: Arc<str>,
    ports: Box<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    device: Box<str>,
    rail: u32,
    fabric: Arc<str>,
    capacity: Bandwidth,
    vfs: u32,
}

impl NodePorts {
    /// The ports of a slice; `None` for one of another driver.
    pub fn of(slice: &ResourceSlice) -> Option<Self> {
        let spec = &slice.spec;
        (spec.driver == names::DRIVER).then(|| {
            let mut fabric: Arc<str> = "".into();
            let devices = spec.devices.iter().flatten();
            Self {
                node: spec.pool.name.as_str().into(),
                ports: devices.filter_map(|device| port(device, &mut fabric)).collect(),
            }
        })
    }
}

/// What of a ResourceClaim counts here: what it was allocated of ports. A claim as the scheduler writes it is twenty times as large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held(Box<[Share]>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Share {
    pool: Arc<str>,
    device: Box<str>,
    mbps: u64,
}

impl Held {
    /// What a claim holds of ports; `None` where that is nothing: it is not allocated, or other drivers' devices only.
    pub fn by(claim: &ResourceClaim) -> Option<Self> {
        let results = claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?;
        let mut pool: Arc<str> = "".into();
        let ours = |result: &&DeviceRequestAllocationResult| result.driver == names::DRIVER;
        let shares: Box<[Share]> = results
            .results
            .iter()
            .flatten()
            .filter(ours)
            .map(|result| Share {
                pool: shared(&mut pool, &result.pool),
                device: result.device.as_str().into(),
                mbps: bandwidth(result).map_or(0, Bandwidth::mbps),
            })
            .collect();
        (!shares.is_empty()).then_some(Self(shares))
    }
}

/// A text that is mostly the one before, kept once.
fn shared(last: &mut Arc<str>, text: &str) -> Arc<str> {
    if &**last != text {
        *last = text.into();
    }
    Arc::clone(last)
}

/// Every port of `nodes` with what is `held` taken off, by node and rail.
///
/// With thousands of nodes and pods this is most of what the operator computes while somebody waits for room. So a pool is looked up once
/// for all shares that a claim has of it, and its ports, of which there are few, one after the other.
pub fn free<'a>(
    nodes: impl IntoIterator<Item = &'a NodePorts>,
    held: impl IntoIterator<Item = &'a Held>,
) -> Vec<PortBandwidth> {
    // A pool may be published in several slices.
    let mut nodes: Vec<&NodePorts> = nodes.into_iter().collect();
    nodes.sort_by(|a, b| a.node.cmp(&b.node));
    // Mbit/s and VFs, port by port.
    let mut taken: Vec<Vec<(u64, u32)>> = nodes.iter().map(|node| vec![(0, 0); node.ports.len()]).collect();
    let of_pool = |pool: &str| {
        let first = nodes.partition_point(|node| &*node.node < pool);
        let count = nodes[first..].partition_point(|node| &*node.node == pool);
        first..first + count
    };
    for held in held {
        let (mut pool, mut found) = ("", 0..0);
        for share in &*held.0 {
            if pool != &*share.pool {
                pool = &share.pool;
                found = of_pool(pool);
            }
            let ports = found
                .clone()
                .flat_map(|node| (0..nodes[node].ports.len()).map(move |port| (node, port)));
            for (node, port) in ports.filter(|&(node, port)| nodes[node].ports[port].device == share.device) {
                let (mbps, vfs) = &mut taken[node][port];
                *mbps += share.mbps;
                *vfs += 1;
            }
        }
    }
    let with_taken = nodes.iter().zip(&taken);
    let mut ports: Vec<PortBandwidth> = with_taken
        .flat_map(|(node, taken)| {
            node.ports
                .iter()
                .zip(taken)
                .map(move |(port, taken)| (node, port, taken))
        })
        .map(|(node, port, &(mbps, vfs))| PortBandwidth {
            node: Arc::clone(&node.node),
            rail: port.rail,
            fabric: Arc::clone(&port.fabric),
            capacity: port.capacity,
            used: Bandwidth::from_mbps(mbps),
            vfs_free: port.vfs.saturating_sub(vfs),
        })
        .collect();
    ports.sort_by(|a, b| (&a.node, a.rail).cmp(&(&b.node, b.rail)));
    ports
}

fn port(device: &Device, fabric: &mut Arc<str>) -> Option<Port> {
    let attribute = |name: &str| {
        let attributes = device.attributes.as_ref()?;
        attributes
            .get(name)
            .or_else(|| attributes.get(&format!("{}/{name}", names::DRIVER)))
    };
    let capacity = |name: &str| Some(device.capacity.as_ref()?.get(name)?.value.0.as_str());
    Some(Port {
        device: device.name.as_str().into(),
        rail: u32::try_from(attribute(names::RAIL_ATTRIBUTE)?.int?).ok()?,
        fabric: shared(fabric, attribute(names::FABRIC_ATTRIBUTE)?.string.as_ref()?),
        capacity: Bandwidth::from_quantity(capacity(names::BANDWIDTH_CAPACITY)?)?,
        vfs: capacity(names::VFS_CAPACITY)?.parse().ok()?,
    })
}

/// What an allocation takes of its port, where the scheduler counted it.
pub fn bandwidth(result: &DeviceRequestAllocationResult) -> Option<Bandwidth> {
    let capacity = result.consumed_capacity.as_ref()?;
    Bandwidth::from_quantity(&capacity.get(names::BANDWIDTH_CAPACITY)?.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn port(node: &str, rail: u32, free: u64) -> PortBandwidth {
        PortBandwidth {
            node: node.into(),
            rail,
            fabric: "backend".into(),
            capacity: Bandwidth::from_mbps(1000),
            used: Bandwidth::from_mbps(1000 - free),
            vfs_free: 1,
        }
    }

    #[test]
    fn the_tightest_rail_is_told_with_its_best_ports() {
        let asked = Bandwidth::from_mbps(500);
        let mut ports: Vec<PortBandwidth> = (0..20).map(|node| port(&format!("n{node:02}"), 0, 600)).collect();
        ports.extend((0..20).map(|node| port(&format!("n{node:02}"), 1, node * 20)));
        ports.sort_by(|a, b| (&a.node, a.rail).cmp(&(&b.node, b.rail)));
        let found = shortage(&ports, "backend", &[0, 1], asked, 3).unwrap();
        let told: Vec<&str> = found.ports.iter().map(|port| &*port.node).collect();
        assert_eq!((found.rail, found.count, told), (1, 20, vec!["n19", "n18", "n17"]));
        assert_eq!(shortage(&ports, "backend", &[0], asked, 3), None, "rail 0 has room");
        assert_eq!(shortage(&ports, "backend", &[], asked, 3), None);
        let none = shortage(&ports, "other", &[0], asked, 3).unwrap();
        assert_eq!((none.rail, none.count), (0, 0));
        ports.push(port("n99", 0, 500));
        ports.push(port("n99", 1, 500));
        assert_eq!(shortage(&ports, "backend", &[0, 1], asked, 3), None);
    }

    #[test]
    fn what_pods_hold_is_taken_from_the_ports_speed() {
        let slice: ResourceSlice = serde_json::from_value(json!({
            "metadata": {"name": "node1-railhead"},
            "spec": {"driver": "railhead.dev", "nodeName": "node1",
                "pool": {"name": "node1", "generation": 1, "resourceSliceCount": 1},
                "devices": [{"name": "rail0", "attributes": {"rail": {"int": 0}, "fabric": {"string": "backend"}},
                    "capacity": {"bandwidth": {"value": "1G"}, "vfs": {"value": "4"}}}]},
        }))
        .unwrap();
        let claim: ResourceClaim = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "spec": {},
            "status": {"allocation": {"devices": {"results": [{"driver": "railhead.dev", "pool": "node1", "device": "rail0",
                "request": "rail0", "consumedCapacity": {"bandwidth": "200M", "vfs": "1"}}]}}},
        }))
        .unwrap();
        let mut foreign = claim.clone();
        let allocation = foreign.status.as_mut().unwrap().allocation.as_mut().unwrap();
        allocation.devices.as_mut().unwrap().results.as_mut().unwrap()[0].driver = "gpu.example.com".into();
        assert_eq!(Held::by(&foreign), None, "nothing is kept of other drivers' claims");
        let mut mixed = claim.clone();
        let mut of_others = foreign.status.unwrap().allocation.unwrap().devices.unwrap().results;
        let allocation = mixed.status.as_mut().unwrap().allocation.as_mut().unwrap();
        let results = allocation.devices.as_mut().unwrap().results.as_mut().unwrap();
        results.append(of_others.as_mut().unwrap());
        let held = [Held::by(&mixed).unwrap(), Held::by(&claim).unwrap()];
        let ports = free(&[NodePorts::of(&slice).unwrap()], &held);
        assert_eq!(ports[0].free(), Bandwidth::from_mbps(600));
        assert_eq!(ports[0].vfs_free, 2);
    }

    proptest! {
        /// Against a count that looks at every share for every port.
        #[test]
        fn each_share_is_taken_from_its_own_port(
            slices in proptest::collection::vec((0_u8..4, proptest::collection::vec(0_u8..3, 0..4)), 0..6),
            claims in proptest::collection::vec(proptest::collection::vec((0_u8..5, 0_u8..4, 1_u64..50), 1..6), 0..8),
        ) {
            let nodes: Vec<NodePorts> = slices
                .iter()
                .map(|(pool, rails)| NodePorts {
                    node: format!("node{pool}").into(),
                    ports: rails
                        .iter()
                        .map(|rail| Port {
                            device: format!("rail{rail}").into(),
                            rail: (*rail).into(),
                            fabric: "backend".into(),
                            capacity: Bandwidth::from_mbps(1000),
                            vfs: 4,
                        })
                        .collect(),
                })
                .collect();
            let held: Vec<Held> = claims
                .iter()
                .map(|shares| {
                    let share = |(pool, rail, mbps): &(u8, u8, u64)| Share {
                        pool: format!("node{pool}").into(),
                        device: format!("rail{rail}").into(),
                        mbps: *mbps,
                    };
                    Held(shares.iter().map(share).collect())
                })
                .collect();
            let found = free(&nodes, &held);
            prop_assert_eq!(found.len(), nodes.iter().map(|node| node.ports.len()).sum::<usize>());
            for port in &found {
                let is_of = |pool: u8, rail: u8| *port.node == format!("node{pool}") && port.rail == u32::from(rail);
                let of_port = claims.iter().flatten().filter(|(pool, rail, _)| is_of(*pool, *rail));
                let (mbps, vfs) = of_port.fold((0, 0), |(mbps, vfs), share| (mbps + share.2, vfs + 1));
                prop_assert_eq!((port.used.mbps(), port.vfs_free), (mbps, 4_u32.saturating_sub(vfs)));
            }
            prop_assert!(found.is_sorted_by_key(|port| (port.node.clone(), port.rail)));
        }
    }
}
