//! The content of the ResourceSlice: pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::resource::v1::{
        CapacityRequestPolicy, CapacityRequestPolicyRange, Device, DeviceAttribute, DeviceCapacity, DeviceTaint,
        ResourcePool, ResourceSliceSpec,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use railhead_crds::{Bandwidth, names};

use crate::inventory::{FoundPort, Inventory};

/// Taint of a port without a signal: no new pod, running ones stay.
pub const PORT_DOWN_TAINT: &str = "railhead.dev/port-down";

/// The spec of the node's slice.
pub(super) fn spec(node: &str, devices: Vec<Device>, generation: i64) -> ResourceSliceSpec {
    ResourceSliceSpec {
        driver: names::DRIVER.to_owned(),
        node_name: Some(node.to_owned()),
        pool: ResourcePool {
            name: node.to_owned(),
            generation,
            resource_slice_count: 1,
        },
        devices: Some(devices),
        ..ResourceSliceSpec::default()
    }
}

/// One device per port that can serve pods. A port whose speed was never seen is left out: its bandwidth could only be
/// guessed, and what is guessed can be oversold.
pub fn devices(inventory: &Inventory) -> Vec<Device> {
    inventory
        .ports
        .iter()
        .filter(|port| !port.functions.is_empty())
        .filter_map(|port| Some(device(&inventory.fabric, port, port.speed?)))
        .collect()
}

fn device(fabric: &str, port: &FoundPort, speed: Bandwidth) -> Device {
    let int = |value: i64| DeviceAttribute {
        int: Some(value),
        ..DeviceAttribute::default()
    };
    let string = |value: &str| DeviceAttribute {
        string: Some(value.to_owned()),
        ..DeviceAttribute::default()
    };
    let ours = |name: &str| format!("{}/{name}", names::DRIVER);
    let mut attributes = BTreeMap::from([
        (ours(names::RAIL_ATTRIBUTE), int(port.rail.id.into())),
        (ours(names::FABRIC_ATTRIBUTE), string(fabric)),
        (
            "resource.kubernetes.io/pciBusID".to_owned(),
            string(port.pci_address.as_str()),
        ),
    ]);
    if let Some(root) = &port.pcie_root {
        attributes.insert("resource.kubernetes.io/pcieRoot".to_owned(), string(root));
    }
    if let Some(node) = port.numa_node {
        attributes.insert("resource.kubernetes.io/numaNode".to_owned(), int(node.into()));
    }
    let quantity = |value: String| Quantity(value);
    let bandwidth = DeviceCapacity {
        value: quantity(speed.to_string()),
        request_policy: Some(CapacityRequestPolicy {
            default: Some(quantity("1M".to_owned())),
            valid_range: Some(CapacityRequestPolicyRange {
                min: quantity("1M".to_owned()),
                step: Some(quantity("1M".to_owned())),
                max: None,
            }),
            valid_values: None,
        }),
    };
    // One claim takes one function of a port: it is wired as one interface.
    let functions = DeviceCapacity {
        value: quantity(port.functions.len().to_string()),
        request_policy: Some(CapacityRequestPolicy {
            default: Some(quantity("1".to_owned())),
            valid_range: Some(CapacityRequestPolicyRange {
                min: quantity("1".to_owned()),
                max: Some(quantity("1".to_owned())),
                step: None,
            }),
            valid_values: None,
        }),
    };
    let taints = (!port.carrier).then(|| {
        vec![DeviceTaint {
            key: PORT_DOWN_TAINT.to_owned(),
            effect: "NoSchedule".to_owned(),
            value: None,
            time_added: None,
        }]
    });
    Device {
        name: names::rail_device(port.rail.id),
        allow_multiple_allocations: Some(true),
        attributes: Some(attributes),
        capacity: Some(BTreeMap::from([
            (names::BANDWIDTH_CAPACITY.to_owned(), bandwidth),
            (names::VFS_CAPACITY.to_owned(), functions),
        ])),
        taints,
        ..Device::default()
    }
}

/// Whether published devices are the wanted ones, apart from what the API server adds.
pub fn same(published: &[Device], wanted: &[Device]) -> bool {
    let plain = |devices: &[Device]| -> Vec<Device> {
        let mut devices = devices.to_vec();
        for taint in devices.iter_mut().flat_map(|d| d.taints.iter_mut().flatten()) {
            taint.time_added = None;
        }
        devices
    };
    plain(published) == plain(wanted)
}

#[cfg(test)]
pub(crate) mod tests {
    use railhead_crds::NodeRail;

    use super::*;
    use crate::inventory::FoundFunction;

    pub(crate) fn port(carrier: bool, speed: Option<u64>, functions: u32) -> FoundPort {
        FoundPort {
            rail: NodeRail {
                id: 1,
                name: "rail1".to_owned(),
                pci_address: None,
                netdev: Some("eth_r1".to_owned()),
                vfs: 7,
                speed: None,
            },
            pci_address: "0000:02:00.0".parse().unwrap(),
            netdev: "eth_r1".to_owned(),
            driver: "igb".to_owned(),
            speed: speed.map(Bandwidth::from_mbps),
            carrier,
            mtu: Some(9000),
            numa_node: None,
            pcie_root: Some("pci0000:00".to_owned()),
            rdma_device: None,
            total_functions: 7,
            functions: (0..functions)
                .map(|index| FoundFunction {
                    pci_address: format!("0000:02:10.{index}").parse().unwrap(),
                    index,
                    home: true,
                    rdma_device: None,
                })
                .collect(),
        }
    }

    fn inventory(port: FoundPort) -> Inventory {
        Inventory {
            fabric: "backend".to_owned(),
            ports: vec![port],
            missing: Vec::new(),
        }
    }

    #[test]
    fn a_port_is_one_device_that_many_pods_share_at_its_real_speed() {
        let devices = devices(&inventory(port(true, Some(1000), 7)));
        let device = &devices[0];
        assert_eq!(device.name, "rail1");
        assert_eq!(device.allow_multiple_allocations, Some(true));
        let capacity = device.capacity.as_ref().unwrap();
        assert_eq!(capacity["bandwidth"].value.0, "1G");
        assert_eq!(capacity["vfs"].value.0, "7");
        let attributes = device.attributes.as_ref().unwrap();
        assert_eq!(attributes["railhead.dev/rail"].int, Some(1));
        assert_eq!(attributes["railhead.dev/fabric"].string.as_deref(), Some("backend"));
        assert!(!attributes.contains_key("resource.kubernetes.io/numaNode"));
        assert!(device.taints.is_none());
    }

    #[test]
    fn a_port_that_went_down_keeps_its_capacity_and_takes_no_new_pod() {
        let devices = devices(&inventory(port(false, Some(1000), 7)));
        let taint = &devices[0].taints.as_ref().unwrap()[0];
        assert_eq!(taint.effect, "NoSchedule", "never NoExecute on a link flap");
    }

    #[test]
    fn a_port_without_known_speed_or_functions_is_not_offered() {
        assert!(devices(&inventory(port(false, None, 7))).is_empty());
        assert!(devices(&inventory(port(true, Some(1000), 0))).is_empty());
    }

    #[test]
    fn what_the_api_server_adds_is_no_change() {
        let wanted = devices(&inventory(port(false, Some(1000), 7)));
        let mut stored = wanted.clone();
        stored[0].taints.as_mut().unwrap()[0].time_added = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            k8s_openapi::jiff::Timestamp::now(),
        ));
        assert!(same(&stored, &wanted));
        assert!(!same(&stored, &devices(&inventory(port(true, Some(1000), 7)))));
    }
}
