//! What is left on every port, as the scheduler counts it.

use k8s_openapi::api::resource::v1::{Device, ResourceClaim, ResourceSlice};
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

/// Every port of `slices` with what the allocations of `claims` leave, by node and rail.
pub fn free(slices: &[ResourceSlice], claims: &[ResourceClaim]) -> Vec<PortBandwidth> {
    let mut ports: Vec<PortBandwidth> = slices
        .iter()
        .filter(|slice| slice.spec.driver == names::DRIVER)
        .flat_map(|slice| {
            let pool = &slice.spec.pool.name;
            slice
                .spec
                .devices
                .iter()
                .flatten()
                .filter_map(move |device| port(pool, device, claims))
        })
        .collect();
    ports.sort_by(|a, b| (&a.node, a.rail).cmp(&(&b.node, b.rail)));
    ports
}

fn port(pool: &str, device: &Device, claims: &[ResourceClaim]) -> Option<PortBandwidth> {
    let attribute = |name: &str| {
        let attributes = device.attributes.as_ref()?;
        attributes
            .get(name)
            .or_else(|| attributes.get(&format!("{}/{name}", names::DRIVER)))
    };
    let capacity = |name: &str| Some(device.capacity.as_ref()?.get(name)?.value.0.clone());
    let (mut used, mut pods) = (0, 0);
    for result in allocations(claims).filter(|r| r.driver == names::DRIVER && r.pool == pool && r.device == device.name)
    {
        let held = result
            .consumed_capacity
            .as_ref()
            .and_then(|capacity| capacity.get(names::BANDWIDTH_CAPACITY));
        used += held
            .and_then(|quantity| Bandwidth::from_quantity(&quantity.0))
            .map_or(0, Bandwidth::mbps);
        pods += 1;
    }
    let vfs: u32 = capacity(names::VFS_CAPACITY)?.parse().ok()?;
    Some(PortBandwidth {
        node: pool.to_owned(),
        rail: u32::try_from(attribute(names::RAIL_ATTRIBUTE)?.int?).ok()?,
        fabric: attribute(names::FABRIC_ATTRIBUTE)?.string.clone()?,
        capacity: Bandwidth::from_quantity(&capacity(names::BANDWIDTH_CAPACITY)?)?,
        used: Bandwidth::from_mbps(used),
        vfs_free: vfs.saturating_sub(pods),
    })
}

fn allocations(
    claims: &[ResourceClaim],
) -> impl Iterator<Item = &k8s_openapi::api::resource::v1::DeviceRequestAllocationResult> {
    claims
        .iter()
        .filter_map(|claim| {
            claim
                .status
                .as_ref()?
                .allocation
                .as_ref()?
                .devices
                .as_ref()?
                .results
                .as_ref()
        })
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
        let ports = free(&[slice], &[claim.clone(), claim]);
        assert_eq!(ports[0].free(), Bandwidth::from_mbps(600));
        assert_eq!(ports[0].vfs_free, 2);
    }
}
