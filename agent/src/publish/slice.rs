//! The content of the ResourceSlice: pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::resource::v1::{
        CapacityRequestPolicy, CapacityRequestPolicyRange, Device, DeviceAttribute, DeviceCapacity, DeviceTaint,
        ResourcePool, ResourceSliceSpec,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use railhead_crds::{Bandwidth, names};
use railhead_host::PciAddress;

use crate::inventory::{FoundFunction, FoundPort, Inventory};

/// Taint of a port without a signal: no new pod, running ones stay.
pub const PORT_DOWN_TAINT: &str = "railhead.dev/port-down";
/// Taint of all ports while the runtime does not call the CNI binary: a new pod would come up unwired and never start.
pub const CHAIN_NOT_READY_TAINT: &str = "railhead.dev/chain-not-ready";
/// Taint of all ports while the runtime does not read the CDI specs: containers with rails could not be created.
pub const CDI_NOT_READY_TAINT: &str = "railhead.dev/cdi-not-ready";
/// Taint of a port on which pods would not work: see [`Inventory::unfit`].
pub const PORT_UNFIT_TAINT: &str = "railhead.dev/port-unfit";

/// What the ports are offered with, beside what was found.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// What was found.
    pub inventory: &'a Inventory,
    /// PCI addresses of the functions that plans name.
    pub taken: &'a BTreeSet<PciAddress>,
    /// Whether the runtime calls the CNI binary.
    pub chained: bool,
    /// Whether the runtime reads the CDI specs.
    pub cdi: bool,
}

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
pub fn devices(offer: &Offer<'_>) -> Vec<Device> {
    offer
        .inventory
        .ports
        .iter()
        .filter_map(|port| {
            let functions = functions(port, offer.taken);
            (functions > 0 && !is_left_out(offer, port)).then_some(())?;
            Some(device(offer, port, port.speed?, functions))
        })
        .collect()
}

/// A port that a device plugin serves has another owner. While pods with rails are on it, it stays, tainted: what they have is
/// counted on it.
fn is_left_out(offer: &Offer<'_>, port: &FoundPort) -> bool {
    let has_pod = |function: &FoundFunction| offer.taken.contains(&function.pci_address);
    port.foreign_resource().is_some() && !port.functions.iter().any(has_pod)
}

/// How many functions pods have or can have. One that a host service uses, or another operator moved away, would be chosen
/// by the scheduler and refused in Prepare again and again.
fn functions(port: &FoundPort, taken: &BTreeSet<PciAddress>) -> usize {
    let counts = |function: &&FoundFunction| function.usable() || taken.contains(&function.pci_address);
    port.functions.iter().filter(counts).count()
}

fn device(offer: &Offer<'_>, port: &FoundPort, speed: Bandwidth, functions: usize) -> Device {
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
        (ours(names::FABRIC_ATTRIBUTE), string(&offer.inventory.fabric)),
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
    let vfs = DeviceCapacity {
        value: quantity(functions.to_string()),
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
    let unfit = offer.inventory.unfit(port, offer.taken);
    let taints: Vec<DeviceTaint> = [
        (!port.carrier, PORT_DOWN_TAINT),
        (!offer.chained, CHAIN_NOT_READY_TAINT),
        (!offer.cdi, CDI_NOT_READY_TAINT),
        (unfit.is_some_and(|unfit| unfit.keeps_pods_away()), PORT_UNFIT_TAINT),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .map(|(_, key)| DeviceTaint {
        key: key.to_owned(),
        effect: "NoSchedule".to_owned(),
        value: None,
        time_added: None,
    })
    .collect();
    Device {
        name: names::rail_device(port.rail.id),
        allow_multiple_allocations: Some(true),
        attributes: Some(attributes),
        capacity: Some(BTreeMap::from([
            (names::BANDWIDTH_CAPACITY.to_owned(), bandwidth),
            (names::VFS_CAPACITY.to_owned(), vfs),
        ])),
        taints: (!taints.is_empty()).then_some(taints),
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
            eswitch: crate::inventory::Eswitch::default(),
            functions: (0..functions)
                .map(|index| FoundFunction {
                    addresses: Vec::new(),
                    foreign: None,
                    programs: 0,
                    driver: Some("igbvf".to_owned()),
                    pci_address: format!("0000:02:10.{index}").parse().unwrap(),
                    index,
                    home: true,
                    rdma_device: None,
                    uppers: Vec::new(),
                })
                .collect(),
        }
    }

    fn inventory(port: FoundPort) -> Inventory {
        Inventory {
            fabric: "backend".to_owned(),
            ports: vec![port],
            ..Inventory::default()
        }
    }

    fn devices(inventory: &Inventory) -> Vec<Device> {
        offered(inventory, &[], true)
    }

    fn offered(inventory: &Inventory, taken: &[&str], chained: bool) -> Vec<Device> {
        let taken = taken.iter().map(|address| address.parse().unwrap()).collect();
        super::devices(&Offer {
            inventory,
            taken: &taken,
            chained,
            cdi: true,
        })
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
    fn a_vf_without_driver_is_not_offered_and_the_others_are_without_a_taint() {
        let mut inventory = inventory(port(true, Some(1000), 4));
        let lost = &mut inventory.ports[0].functions[2];
        (lost.home, lost.driver) = (false, None);
        let device = &devices(&inventory)[0];
        assert_eq!(device.capacity.as_ref().unwrap()["vfs"].value.0, "3");
        assert!(device.taints.is_none(), "{:?}", device.taints);
    }

    #[test]
    fn a_port_of_a_device_plugin_is_offered_only_as_long_as_pods_with_rails_are_on_it() {
        let mut inventory = inventory(port(true, Some(1000), 4));
        inventory.ports[0].functions[3].foreign = Some("intel.com/sriov".to_owned());
        assert!(devices(&inventory).is_empty());
        let device = &offered(&inventory, &["0000:02:10.0"], true)[0];
        let taints = device.taints.as_ref().unwrap();
        assert_eq!(taints[0].key, PORT_UNFIT_TAINT);
    }

    #[test]
    fn a_port_that_went_down_keeps_its_capacity_and_takes_no_new_pod() {
        let devices = devices(&inventory(port(false, Some(1000), 7)));
        let taint = &devices[0].taints.as_ref().unwrap()[0];
        assert_eq!(taint.effect, "NoSchedule", "never NoExecute on a link flap");
    }

    #[test]
    fn no_new_pod_comes_while_the_runtime_does_not_call_us() {
        let devices = offered(&inventory(port(true, Some(1000), 7)), &[], false);
        let taint = &devices[0].taints.as_ref().unwrap()[0];
        assert_eq!(
            (taint.key.as_str(), taint.effect.as_str()),
            (CHAIN_NOT_READY_TAINT, "NoSchedule")
        );
    }

    #[test]
    fn no_new_pod_comes_to_a_port_that_would_lose_its_frames() {
        let mut inventory = inventory(port(true, Some(1000), 7));
        inventory.mtu = 9216;
        let devices = devices(&inventory);
        assert_eq!(devices[0].taints.as_ref().unwrap()[0].key, PORT_UNFIT_TAINT);
    }

    #[test]
    fn only_functions_that_pods_have_or_can_have_are_offered() {
        let mut port = port(true, Some(1000), 4);
        port.functions[0].home = false;
        port.functions[1].home = false;
        port.functions[2].uppers = vec!["br0".to_owned()];
        let count = |taken: &[&str]| {
            let devices = offered(&inventory(port.clone()), taken, true);
            devices[0].capacity.as_ref().unwrap()["vfs"].value.0.clone()
        };
        assert_eq!(count(&[]), "1", "one is under a bridge, two are with somebody else");
        assert_eq!(count(&["0000:02:10.0"]), "2", "a pod of ours has one of them");
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
