//! Why pods would not work on a port, in words and with the command to run: pure.

use std::collections::BTreeSet;

use railhead_crds::PortHealth;
use railhead_host::PciAddress;

use super::{FoundFunction, FoundPort, Inventory};

/// How many VFs are named in a message.
const NAMED: usize = 3;

/// Why pods would not work on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The node's RDMA subsystem is in exclusive mode.
    RdmaExclusive,
    /// The port's eswitch is in switchdev mode.
    Switchdev,
    /// A DPU manages the port's VFs.
    DpuManaged,
    /// A device plugin gives the port's VFs to pods.
    ForeignOwner {
        /// The resource under which it does.
        resource: String,
    },
    /// Pods can have none of the VFs, or some have no driver.
    VfsUnusable {
        /// Which and why.
        message: String,
    },
    /// Jumbo frames would be lost.
    SmallMtu {
        /// The port's MTU.
        found: u32,
        /// The fabric's.
        wanted: u32,
    },
    /// No RDMA.
    NoRdma {
        /// How many free VFs have no RDMA device.
        without: usize,
    },
}

impl Unfit {
    /// Whether a pod that is placed on the port would not work. VFs that cannot be had are not counted as the port's, so that
    /// pods get the others.
    pub fn keeps_pods_away(&self) -> bool {
        !matches!(self, Self::VfsUnusable { .. })
    }

    /// How the port's state is called.
    pub fn state(&self) -> PortHealth {
        match self {
            Self::RdmaExclusive => PortHealth::RdmaExclusive,
            Self::Switchdev => PortHealth::Switchdev,
            Self::DpuManaged => PortHealth::DpuManaged,
            Self::ForeignOwner { .. } => PortHealth::ForeignOwner,
            Self::VfsUnusable { .. } => PortHealth::VfsUnusable,
            Self::SmallMtu { .. } => PortHealth::SmallMtu,
            Self::NoRdma { .. } => PortHealth::NoRdma,
        }
    }

    /// What is the matter, and what to do.
    pub fn message(&self, port: &FoundPort) -> String {
        let name = port.title();
        match self {
            Self::RdmaExclusive => format!(
                "port {name}: the node's RDMA subsystem gives each network namespace its own devices (netns mode exclusive), which this version does not wire; drain the node, run `rdma system set netns shared` or put `options ib_core netns_mode=1` into /etc/modprobe.d, and reboot"
            ),
            Self::Switchdev => format!(
                "port {name}: its eswitch is in switchdev mode, in which it takes no VLAN for a VF; drain the node and run `devlink dev eswitch set pci/{} mode legacy`",
                port.pci_address
            ),
            Self::DpuManaged => format!(
                "port {name}: its VFs are managed by the DPU that it is on, and the host may not set their MAC or VLAN; put the DPU into NIC mode (mlxconfig -d {} set INTERNAL_CPU_OFFLOAD_ENGINE=1, then a cold reset), or take the rail's port out of the Fabric",
                port.pci_address
            ),
            Self::ForeignOwner { resource } => format!(
                "port {name}: a device plugin gives its VFs to pods as {resource}; a port has one owner: take it out of that plugin's configuration, or out of the Fabric"
            ),
            Self::VfsUnusable { message } => message.clone(),
            Self::SmallMtu { found, wanted } => format!(
                "port {name} has MTU {found}, the fabric {wanted}: frames would be lost; set the port's MTU, the Fabric's mtu, or management.vfs: Managed"
            ),
            Self::NoRdma { without } => format!(
                "{without} functions of port {name} have no RDMA device; load the NIC's RDMA driver, or set softRoCE: WhereMissing on the Fabric"
            ),
        }
    }
}

impl Inventory {
    /// What is wrong with a port beside its link and its number of VFs. `taken` are the VFs that plans name.
    pub fn unfit(&self, port: &FoundPort, taken: &BTreeSet<PciAddress>) -> Option<Unfit> {
        if self.rdma.wanted && self.rdma.exclusive {
            return Some(Unfit::RdmaExclusive);
        }
        match port.eswitch {
            Eswitch::Switchdev => return Some(Unfit::Switchdev),
            Eswitch::DpuManaged => return Some(Unfit::DpuManaged),
            Eswitch::Legacy => {}
        }
        if let Some(resource) = port.foreign_resource() {
            return Some(Unfit::ForeignOwner { resource });
        }
        if let Some(found) = port.mtu.filter(|found| *found < self.mtu) {
            return Some(Unfit::SmallMtu {
                found,
                wanted: self.mtu,
            });
        }
        let bare = |function: &&FoundFunction| function.usable() && function.rdma_device.is_none();
        let without = port.functions.iter().filter(bare).count();
        if self.rdma_required && without > 0 {
            return Some(Unfit::NoRdma { without });
        }
        let census = Census::of(port, taken);
        let none = census.free + census.taken == 0 && !port.functions.is_empty();
        if census.driverless.is_empty() && !none {
            return None;
        }
        census.message(port).map(|message| Unfit::VfsUnusable { message })
    }
}

/// Who decides what the port does with a VF's frames (`devlink dev eswitch show`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eswitch {
    /// The PF, through its VF settings; also where the driver has no eswitch to speak of.
    #[default]
    Legacy,
    /// A switch in software, by representors.
    Switchdev,
    /// The DPU behind the port: the host is not asked.
    DpuManaged,
}

/// What the VFs of a port are doing.
#[derive(Debug, Default)]
pub struct Census<'a> {
    /// Named by plans.
    taken: usize,
    /// A pod can have them.
    free: usize,
    /// Without driver.
    driverless: Vec<&'a FoundFunction>,
    /// With a driver and without an interface on the host.
    away: Vec<&'a FoundFunction>,
    /// With addresses, or links on top.
    host: Vec<&'a FoundFunction>,
    /// Given to pods by a device plugin.
    foreign: Vec<&'a FoundFunction>,
    /// Those of the free ones that programs on the host have open.
    open: Vec<&'a FoundFunction>,
}

impl<'a> Census<'a> {
    /// Counts; `taken` are the VFs that plans name.
    pub fn of(port: &'a FoundPort, taken: &BTreeSet<PciAddress>) -> Self {
        let mut census = Self::default();
        for function in &port.functions {
            if taken.contains(&function.pci_address) {
                census.taken += 1;
            } else if function.foreign.is_some() {
                census.foreign.push(function);
            } else if !function.home && function.driver.is_none() {
                census.driverless.push(function);
            } else if !function.home {
                census.away.push(function);
            } else if function.usable() {
                census.free += 1;
                if function.programs > 0 {
                    census.open.push(function);
                }
            } else {
                census.host.push(function);
            }
        }
        census
    }

    /// Which VFs pods do not get, and what to do; `None` when there are none.
    pub fn message(&self, port: &FoundPort) -> Option<String> {
        let total = port.functions.len();
        let mut parts = Vec::new();
        if !self.driverless.is_empty() {
            parts.push(format!(
                "{} of {total} VFs have no driver ({}): load it, or write 1 to /sys/bus/pci/devices/{}/sriov_drivers_autoprobe and each address to /sys/bus/pci/drivers_probe",
                self.driverless.len(),
                listed(&self.driverless, |function| function.pci_address.to_string()),
                port.pci_address
            ));
        }
        if !self.away.is_empty() {
            parts.push(format!(
                "{} of {total} VFs have no interface on the host ({}): bind them to their network driver, or end what has taken them into its namespace",
                self.away.len(),
                listed(&self.away, |function| format!(
                    "{} {}",
                    function.pci_address,
                    function.driver.as_deref().unwrap_or_default()
                ))
            ));
        }
        if !self.host.is_empty() {
            parts.push(format!(
                "{} of {total} VFs are used by the host ({}): take addresses and links away, and keep the node's network configuration off VFs",
                self.host.len(),
                listed(&self.host, FoundFunction::use_by_host)
            ));
        }
        if !self.foreign.is_empty() {
            parts.push(format!(
                "{} of {total} VFs are given to pods by a device plugin ({})",
                self.foreign.len(),
                listed(&self.foreign, |function| format!(
                    "{} {}",
                    function.pci_address,
                    function.foreign.as_deref().unwrap_or_default()
                ))
            ));
        }
        if !self.open.is_empty() {
            parts.push(format!(
                "{} of {total} VFs are open by RDMA programs on the host ({}): pods get the others first",
                self.open.len(),
                listed(&self.open, |function| function.pci_address.to_string())
            ));
        }
        (!parts.is_empty()).then(|| format!("port {}: {}", port.title(), parts.join("; ")))
    }
}

fn listed(functions: &[&FoundFunction], text: impl Fn(&FoundFunction) -> String) -> String {
    let mut texts: Vec<String> = functions.iter().take(NAMED).map(|function| text(function)).collect();
    if functions.len() > NAMED {
        texts.push(format!("{} more", functions.len() - NAMED));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::slice::tests::port;

    fn inventory(port: FoundPort) -> Inventory {
        Inventory {
            fabric: "backend".to_owned(),
            ports: vec![port],
            ..Inventory::default()
        }
    }

    fn unfit(inventory: &Inventory, taken: &[&str]) -> Option<Unfit> {
        let taken = taken.iter().map(|&address| address.parse().unwrap()).collect();
        inventory.unfit(&inventory.ports[0], &taken)
    }

    fn text(inventory: &Inventory, taken: &[&str]) -> String {
        unfit(inventory, taken).map_or_else(String::new, |unfit| unfit.message(&inventory.ports[0]))
    }

    #[test]
    fn vfs_without_driver_are_counted_at_every_look_and_the_way_out_is_named() {
        let mut bare = inventory(port(true, Some(1000), 4));
        for function in &mut bare.ports[0].functions {
            function.home = false;
            function.driver = None;
        }
        let said = text(&bare, &[]);
        assert!(said.contains("4 of 4 VFs have no driver"), "{said}");
        assert!(
            said.contains("sriov_drivers_autoprobe") && said.contains("0000:02:10.0"),
            "{said}"
        );
        assert!(said.contains("1 more"), "{said}");
        assert_eq!(unfit(&bare, &[]).unwrap().state(), PortHealth::VfsUnusable);
        // One is enough: it was lost, and is missed.
        let mut one = inventory(port(true, Some(1000), 4));
        one.ports[0].functions[2].home = false;
        one.ports[0].functions[2].driver = None;
        assert!(text(&one, &[]).contains("1 of 4 VFs have no driver (0000:02:10.2)"));
        assert_eq!(unfit(&one, &["0000:02:10.2"]), None, "a VF of a pod is at work");
    }

    #[test]
    fn vfs_that_the_host_uses_are_named_with_their_use() {
        let mut used = inventory(port(true, Some(1000), 2));
        used.ports[0].functions[0].addresses = vec!["192.168.123.1/24".to_owned()];
        assert_eq!(unfit(&used, &[]), None, "the other one is left");
        let census = Census::of(&used.ports[0], &BTreeSet::new());
        let said = census.message(&used.ports[0]).unwrap();
        assert!(
            said.contains("1 of 2 VFs are used by the host (0000:02:10.0 192.168.123.1/24)"),
            "{said}"
        );
        used.ports[0].functions[1].uppers = vec!["br0".to_owned()];
        let said = text(&used, &[]);
        assert!(
            said.contains("2 of 2 VFs") && said.contains("0000:02:10.1 under br0"),
            "{said}"
        );
        assert_eq!(unfit(&used, &["0000:02:10.1"]), None, "a pod has the other one");
    }

    #[test]
    fn vfs_with_a_driver_that_makes_no_interface_are_told_from_driverless_ones() {
        let mut vfio = inventory(port(true, Some(1000), 1));
        vfio.ports[0].functions[0].home = false;
        vfio.ports[0].functions[0].driver = Some("vfio-pci".to_owned());
        let said = text(&vfio, &[]);
        assert!(
            said.contains("1 of 1 VFs have no interface on the host (0000:02:10.0 vfio-pci)"),
            "{said}"
        );
    }

    #[test]
    fn nodes_that_cannot_work_say_the_command_to_run() {
        let mut node = inventory(port(true, Some(1000), 2));
        node.ports[0].eswitch = Eswitch::Switchdev;
        assert!(text(&node, &[]).contains("devlink dev eswitch set pci/0000:02:00.0 mode legacy"));
        node.ports[0].eswitch = Eswitch::DpuManaged;
        assert!(text(&node, &[]).contains("DPU"));
        node.rdma.exclusive = true;
        assert!(text(&node, &[]).contains("DPU"), "a fabric without RDMA works");
        node.rdma.wanted = true;
        assert!(text(&node, &[]).contains("rdma system set netns shared"));
        assert_eq!(unfit(&node, &[]).unwrap().state(), PortHealth::RdmaExclusive);
    }

    #[test]
    fn vfs_that_programs_on_the_host_have_open_are_said_and_given_last() {
        let mut busy = inventory(port(true, Some(1000), 3));
        busy.ports[0].functions[0].programs = 2;
        assert_eq!(unfit(&busy, &[]), None);
        let said = Census::of(&busy.ports[0], &BTreeSet::new())
            .message(&busy.ports[0])
            .unwrap();
        assert!(
            said.contains("1 of 3 VFs are open by RDMA programs on the host (0000:02:10.0)"),
            "{said}"
        );
        let now = |index: u32| railhead_host::VirtualFunction {
            index,
            address: format!("0000:02:10.{index}").parse().unwrap(),
            driver: Some("mlx5_core".to_owned()),
            link: None,
            uppers: Vec::new(),
            rdma_devices: Vec::new(),
        };
        let order: Vec<u32> = busy.ports[0]
            .as_known(vec![now(0), now(1), now(2)])
            .iter()
            .map(|function| function.index)
            .collect();
        assert_eq!(order, [1, 2, 0]);
    }

    #[test]
    fn a_port_that_a_device_plugin_serves_is_not_for_pods_with_rails() {
        let mut served = inventory(port(true, Some(1000), 2));
        served.ports[0].functions[1].foreign = Some("nvidia.com/mlnx_rail0".to_owned());
        assert!(!served.ports[0].functions[1].usable());
        let said = text(&served, &[]);
        assert!(
            said.contains("nvidia.com/mlnx_rail0") && said.contains("one owner"),
            "{said}"
        );
    }
}
