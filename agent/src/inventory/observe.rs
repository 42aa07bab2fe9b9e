//! Looks; changes nothing.

use railhead_crds::{Bandwidth, NodeNetworkSpec, NodeRail};
use railhead_host::{InvalidPciAddress, PciAddress, PhysicalFunction, Sysfs, SysfsError};
use thiserror::Error;

use super::{Eswitch, FoundFunction, FoundPort, FoundRdma, Inventory, MissingPort};

/// Why the node could not be looked at.
#[derive(Debug, Error)]
#[error("look for the node's ports: {source}; is the host's /sys mounted into the agent?")]
pub struct ObserveError {
    #[from]
    source: SysfsError,
}

/// The ports that `spec` names. `previous` knows the speed of links that are down now.
pub fn observe(sysfs: &Sysfs, spec: &NodeNetworkSpec, previous: Option<&Inventory>) -> Result<Inventory, ObserveError> {
    let mut inventory = Inventory {
        fabric: spec.fabric_name.clone(),
        mtu: spec.mtu,
        rdma_required: spec.rdma_required,
        rdma: FoundRdma {
            wanted: spec.rdma,
            exclusive: false,
            connection_manager: sysfs.has_rdma_cm(),
        },
        ..Inventory::default()
    };
    let all = sysfs.physical_functions()?;
    for rail in &spec.rails {
        match find(&all, rail).and_then(|port| only_once(&inventory, port, rail)) {
            Ok(port) => {
                let known = previous.and_then(|inventory| inventory.port(rail.id));
                inventory.ports.push(found(sysfs, rail, port, known)?);
            }
            Err(message) => inventory.missing.push(MissingPort {
                rail: rail.clone(),
                message,
            }),
        }
    }
    Ok(inventory)
}

/// The port that a rail names, or why there is none.
fn find<'a>(all: &'a [PhysicalFunction], rail: &NodeRail) -> Result<&'a PhysicalFunction, String> {
    let port = match (&rail.pci_address, &rail.netdev) {
        (Some(address), _) => {
            let address: PciAddress = address
                .parse()
                .map_err(|error: InvalidPciAddress| format!("{}: {error}", rail.name))?;
            all.iter().find(|port| port.address == address).ok_or_else(|| {
                format!(
                    "{}: no SR-IOV port at PCI address {address}; the node has {}",
                    rail.name,
                    list(all)
                )
            })
        }
        (None, Some(netdev)) => all
            .iter()
            .find(|port| port.link.as_ref().is_some_and(|link| link.as_str() == netdev))
            .ok_or_else(|| {
                format!(
                    "{}: no SR-IOV port with interface {netdev}; the node has {}",
                    rail.name,
                    list(all)
                )
            }),
        (None, None) => Err(format!("{}: the fabric names no port", rail.name)),
    }?;
    if port.link.is_some() {
        Ok(port)
    } else {
        Err(format!(
            "{}: port {} has no interface in the host's network namespace; load its driver",
            rail.name, port.address
        ))
    }
}

/// One port is one rail's: published twice, its bandwidth and its functions would be sold twice.
fn only_once<'a>(
    found: &Inventory,
    port: &'a PhysicalFunction,
    rail: &NodeRail,
) -> Result<&'a PhysicalFunction, String> {
    match found.ports.iter().find(|other| other.pci_address == port.address) {
        None => Ok(port),
        Some(other) => Err(format!(
            "{}: port {} is already {}'s; give every rail a port of its own in the Fabric",
            rail.name, port.address, other.rail.name
        )),
    }
}

fn list(all: &[PhysicalFunction]) -> String {
    let ports: Vec<String> = all
        .iter()
        .map(|port| match &port.link {
            Some(link) => format!("{} ({link})", port.address),
            None => port.address.to_string(),
        })
        .collect();
    if ports.is_empty() {
        "no SR-IOV port at all".to_owned()
    } else {
        ports.join(", ")
    }
}

fn found(
    sysfs: &Sysfs,
    rail: &NodeRail,
    port: &PhysicalFunction,
    previous: Option<&FoundPort>,
) -> Result<FoundPort, SysfsError> {
    let functions = sysfs
        .virtual_functions(&port.address)?
        .into_iter()
        .map(FoundFunction::from)
        .collect();
    let remembered = previous
        .filter(|known| known.pci_address == port.address)
        .and_then(|known| known.speed);
    Ok(FoundPort {
        rail: rail.clone(),
        pci_address: port.address.clone(),
        netdev: port.link.as_ref().map(ToString::to_string).unwrap_or_default(),
        driver: port.driver.clone().unwrap_or_default(),
        speed: port
            .speed_mbps
            .map(|mbps| Bandwidth::from_mbps(mbps.into()))
            .or(remembered),
        carrier: port.carrier.unwrap_or(false),
        mtu: port.mtu,
        numa_node: port.numa_node,
        pcie_root: port.pcie_root.clone(),
        rdma_device: port.rdma_devices.first().map(ToString::to_string),
        total_functions: port.total_vfs,
        eswitch: Eswitch::default(),
        functions,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use railhead_crds::VfManagement;

    use super::*;

    /// A sysfs with one igb port that has one VF at home and one in a pod.
    fn tree(root: &Path, speed: &str) -> Sysfs {
        let devices = root.join("bus/pci/devices");
        let pf = devices.join("0000:01:00.0");
        for (file, text) in [
            ("sriov_totalvfs", "7"),
            ("sriov_numvfs", "2"),
            ("numa_node", "-1"),
            ("class", "0x020000"),
            ("net/eth_r0/carrier", "1"),
            ("net/eth_r0/speed", speed),
            ("net/eth_r0/mtu", "9000"),
        ] {
            let path = pf.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(devices.join("0000:01:10.0/net/eth0v0")).unwrap();
        fs::create_dir_all(devices.join("0000:01:10.2/net")).unwrap();
        for (link, target) in [("virtfn0", "0000:01:10.0"), ("virtfn1", "0000:01:10.2")] {
            if !pf.join(link).exists() {
                symlink(format!("../{target}"), pf.join(link)).unwrap();
            }
        }
        Sysfs::new(root)
    }

    fn spec(pci_address: Option<&str>, netdev: Option<&str>) -> NodeNetworkSpec {
        NodeNetworkSpec {
            fabric_name: "backend".to_owned(),
            vf_management: VfManagement::Observed,
            mtu: 9000,
            rdma: false,
            rdma_required: false,
            teardown: false,
            recount: None,
            rails: vec![NodeRail {
                id: 0,
                name: "rail0".to_owned(),
                pci_address: pci_address.map(str::to_owned),
                netdev: netdev.map(str::to_owned),
                vfs: 7,
                speed: None,
            }],
        }
    }

    #[test]
    fn a_port_is_found_by_either_name_with_its_real_speed_and_functions() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = tree(root.path(), "1000");
        for spec in [spec(Some("0000:01:00.0"), None), spec(None, Some("eth_r0"))] {
            let inventory = observe(&sysfs, &spec, None).unwrap();
            let port = inventory.port(0).unwrap();
            assert_eq!(port.speed, Some(Bandwidth::from_mbps(1000)));
            assert_eq!(port.numa_node, None, "-1 is not a node");
            let home: Vec<bool> = port.functions.iter().map(|f| f.home).collect();
            assert_eq!(home, [true, false], "a function without interface is in a pod");
        }
    }

    /// Representors and sub-functions hang on the port's PCI address too, and may sort before its own interface.
    #[test]
    fn the_port_is_its_uplink_whatever_sorts_before_it() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = tree(root.path(), "1000");
        let net = root.path().join("bus/pci/devices/0000:01:00.0/net");
        for (link, port, mtu) in [
            ("eth_r0", "p0", "9000"),
            ("aa0", "pf0vf0", "1500"),
            ("en7sf0", "pf0sf0", "1500"),
        ] {
            fs::create_dir_all(net.join(link)).unwrap();
            fs::write(net.join(link).join("phys_port_name"), port).unwrap();
            fs::write(net.join(link).join("phys_switch_id"), "aa").unwrap();
            fs::write(net.join(link).join("mtu"), mtu).unwrap();
        }
        for spec in [spec(Some("0000:01:00.0"), None), spec(None, Some("eth_r0"))] {
            let inventory = observe(&sysfs, &spec, None).unwrap();
            let port = inventory.port(0).unwrap();
            assert_eq!((port.netdev.as_str(), port.mtu), ("eth_r0", Some(9000)));
        }
        let representor = observe(&sysfs, &spec(None, Some("aa0")), None).unwrap();
        assert!(
            representor.missing[0]
                .message
                .contains("the node has 0000:01:00.0 (eth_r0)")
        );
    }

    #[test]
    fn a_link_that_went_down_keeps_the_speed_that_was_seen() {
        let root = tempfile::tempdir().unwrap();
        let spec = spec(Some("0000:01:00.0"), None);
        let up = observe(&tree(root.path(), "1000"), &spec, None).unwrap();
        let down = observe(&tree(root.path(), "-1"), &spec, Some(&up)).unwrap();
        assert_eq!(down.port(0).unwrap().speed, Some(Bandwidth::from_mbps(1000)));
        let never_up = observe(&tree(root.path(), "-1"), &spec, None).unwrap();
        assert_eq!(never_up.port(0).unwrap().speed, None);
    }

    #[test]
    fn two_rails_do_not_share_a_port() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = tree(root.path(), "1000");
        let mut spec = spec(Some("0000:01:00.0"), None);
        spec.rails.push(NodeRail {
            id: 1,
            name: "rail1".to_owned(),
            pci_address: None,
            netdev: Some("eth_r0".to_owned()),
            ..spec.rails[0].clone()
        });
        let inventory = observe(&sysfs, &spec, None).unwrap();
        assert_eq!(inventory.ports.len(), 1);
        assert!(
            inventory.missing[0].message.contains("is already rail0's"),
            "{inventory:?}"
        );
    }

    #[test]
    fn a_function_under_a_bridge_is_not_for_pods() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = tree(root.path(), "1000");
        let port = |sysfs| {
            observe(sysfs, &spec(None, Some("eth_r0")), None)
                .unwrap()
                .ports
                .remove(0)
        };
        assert!(port(&sysfs).functions[0].usable());
        fs::create_dir_all(root.path().join("bus/pci/devices/0000:01:10.0/net/eth0v0/upper_br0")).unwrap();
        assert_eq!(port(&sysfs).functions[0].uppers, ["br0"]);
        assert!(!port(&sysfs).functions[0].usable());
    }

    #[test]
    fn a_missing_port_is_named_beside_those_that_exist() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = tree(root.path(), "1000");
        let inventory = observe(&sysfs, &spec(Some("0000:02:00.0"), None), None).unwrap();
        assert_eq!(
            inventory.missing[0].message,
            "rail0: no SR-IOV port at PCI address 0000:02:00.0; the node has 0000:01:00.0 (eth_r0)"
        );
    }
}
