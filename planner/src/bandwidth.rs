//! What is left on every port, as the scheduler counts it.

use std::{borrow::Borrow, collections::HashMap};

use k8s_openapi::api::resource::v1::{Device, DeviceRequestAllocationResult, ResourceClaim, ResourceSlice};
use railhead_crds::{Bandwidth, names};

/// One port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortBandwidth {
    /// Node.
    pub node: String,
    /// Rail id.
    pub rail: u32,
    /// Fabric.
    pub fabric: String,
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
        for port in node.iter().filter(|port| port.fabric == fabric && fits(port)) {
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
        .filter(|port| port.rail == rail && port.fabric == fabric)
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

/// What the allocations take from one device.
#[derive(Clone, Copy, Default)]
struct Held {
    mbps: u64,
    vfs: u32,
}

/// Held by pool and device.
type HeldByDevice<'a> = HashMap<(&'a str, &'a str), Held>;

/// Every port of `slices` with what the allocations of `claims` leave, by node and rail.
pub fn free(slices: &[impl Borrow<ResourceSlice>], claims: &[impl Borrow<ResourceClaim>]) -> Vec<PortBandwidth> {
    let mut held = HeldByDevice::new();
    for result in claims.iter().flat_map(|claim| allocations(claim.borrow())) {
        let held = held.entry((&result.pool, &result.device)).or_default();
        held.mbps += bandwidth(result).map_or(0, Bandwidth::mbps);
        held.vfs += 1;
    }
    let mut ports: Vec<PortBandwidth> = slices
        .iter()
        .map(Borrow::borrow)
        .filter(|slice: &&ResourceSlice| slice.spec.driver == names::DRIVER)
        .flat_map(|slice| {
            let pool = &slice.spec.pool.name;
            let devices = slice.spec.devices.iter().flatten();
            devices.filter_map(|device| {
                let held = held.get(&(pool.as_str(), device.name.as_str()));
                port(pool, device, held.copied().unwrap_or_default())
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.node, a.rail).cmp(&(&b.node, b.rail)));
    ports
}

fn port(pool: &str, device: &Device, held: Held) -> Option<PortBandwidth> {
    let attribute = |name: &str| {
        let attributes = device.attributes.as_ref()?;
        attributes
            .get(name)
            .or_else(|| attributes.get(&format!("{}/{name}", names::DRIVER)))
    };
    let capacity = |name: &str| Some(device.capacity.as_ref()?.get(name)?.value.0.as_str());
    let vfs: u32 = capacity(names::VFS_CAPACITY)?.parse().ok()?;
    Some(PortBandwidth {
        node: pool.to_owned(),
        rail: u32::try_from(attribute(names::RAIL_ATTRIBUTE)?.int?).ok()?,
        fabric: attribute(names::FABRIC_ATTRIBUTE)?.string.clone()?,
        capacity: Bandwidth::from_quantity(capacity(names::BANDWIDTH_CAPACITY)?)?,
        used: Bandwidth::from_mbps(held.mbps),
        vfs_free: vfs.saturating_sub(held.vfs),
    })
}

/// What a claim holds of our driver's devices.
fn allocations(claim: &ResourceClaim) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    let results = devices.and_then(|devices| devices.results.as_ref());
    results
        .into_iter()
        .flatten()
        .filter(|result| result.driver == names::DRIVER)
}

fn bandwidth(result: &DeviceRequestAllocationResult) -> Option<Bandwidth> {
    let capacity = result.consumed_capacity.as_ref()?;
    Bandwidth::from_quantity(&capacity.get(names::BANDWIDTH_CAPACITY)?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn port(node: &str, rail: u32, free: u64) -> PortBandwidth {
        PortBandwidth {
            node: node.to_owned(),
            rail,
            fabric: "backend".to_owned(),
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
        let told: Vec<&str> = found.ports.iter().map(|port| port.node.as_str()).collect();
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
        let ports = free(&[slice], &[claim.clone(), foreign, claim]);
        assert_eq!(ports[0].free(), Bandwidth::from_mbps(600));
        assert_eq!(ports[0].vfs_free, 2);
    }
}
