//! Any PCI function: its links, its driver, its RDMA devices.

use super::{Sysfs, SysfsError, link_target, names, read, write};
use crate::{InterfaceName, PciAddress, RdmaName};

impl Sysfs {
    /// Whether the function exists.
    pub fn exists(&self, function: &PciAddress) -> bool {
        self.pci_device(function).exists()
    }

    /// The names of the function's links, as far as they are in the namespace that mounted this sysfs. Empty for a VF whose
    /// link is in a pod.
    pub fn links(&self, function: &PciAddress) -> Result<Vec<InterfaceName>, SysfsError> {
        Ok(names(&self.pci_device(function).join("net"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// The names of the links on top of one of the function's links (`upper_*`, `net/core/dev.c`).
    pub fn uppers(&self, function: &PciAddress, link: &InterfaceName) -> Result<Vec<String>, SysfsError> {
        let entries = names(&self.pci_device(function).join("net").join(link.as_str()))?;
        Ok(entries
            .iter()
            .filter_map(|name| name.strip_prefix("upper_").map(str::to_owned))
            .collect())
    }

    /// The names of the function's RDMA devices. Soft devices have no function and are never listed.
    pub fn rdma_devices(&self, function: &PciAddress) -> Result<Vec<RdmaName>, SysfsError> {
        Ok(names(&self.pci_device(function).join("infiniband"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect())
    }

    /// The node GUIDs of the function's RDMA devices, `0200:00ff:fe00:0001` form (`node_guid_show`,
    /// drivers/infiniband/core/sysfs.c).
    pub fn rdma_node_guids(&self, function: &PciAddress) -> Result<Vec<String>, SysfsError> {
        let folder = self.pci_device(function).join("infiniband");
        let mut guids = Vec::new();
        for device in self.rdma_devices(function)? {
            guids.extend(read(&folder.join(device.as_str()).join("node_guid"))?);
        }
        Ok(guids)
    }

    /// The name of the function's driver, if it is bound to one.
    pub fn driver(&self, function: &PciAddress) -> Option<String> {
        link_target(&self.pci_device(function).join("driver"))
    }

    /// The PF of a VF.
    pub fn physical_function_of(&self, function: &PciAddress) -> Option<PciAddress> {
        link_target(&self.pci_device(function).join("physfn"))?.parse().ok()
    }

    /// Takes the function from its driver. Its link disappears.
    pub fn unbind(&self, function: &PciAddress) -> Result<(), SysfsError> {
        let device = self.pci_device(function);
        if self.driver(function).is_none() {
            return Err(SysfsError::NoDriver {
                address: function.clone(),
            });
        }
        write(&device.join("driver/unbind"), function.as_str())
    }

    /// Gives the function to a driver, or to whichever claims it when `driver` is `None`.
    pub fn bind(&self, function: &PciAddress, driver: Option<&str>) -> Result<(), SysfsError> {
        match driver {
            None => write(&self.root.join("bus/pci/drivers_probe"), function.as_str()),
            Some(driver) => {
                let driver = plain_name(driver)?;
                let path = self.root.join("bus/pci/drivers").join(driver).join("bind");
                write(&path, function.as_str())
            }
        }
    }

    /// Gives a VF without driver to whichever claims it, also where the port's new VFs are left alone: the kernel obeys
    /// `sriov_drivers_autoprobe` for every probe of a VF (`pci_device_can_probe`, drivers/pci/pci-driver.c), so it is on for as
    /// long as this takes.
    pub fn probe_vf(&self, pf: &PciAddress, vf: &PciAddress) -> Result<(), SysfsError> {
        let autoprobe = self.pci_device(pf).join("sriov_drivers_autoprobe");
        let off = read(&autoprobe)?.as_deref() == Some("0");
        if off {
            write(&autoprobe, "1")?;
        }
        let probed = self.bind(vf, None);
        if off {
            write(&autoprobe, "0")?;
        }
        probed
    }

    /// Unbinds and binds to the same driver: some take a MAC address that the PF set only then (igbvf, mlx5).
    pub fn rebind(&self, function: &PciAddress) -> Result<(), SysfsError> {
        let driver = self.driver(function).ok_or_else(|| SysfsError::NoDriver {
            address: function.clone(),
        })?;
        self.unbind(function)?;
        self.bind(function, Some(&driver))
    }
}

/// A name that stays inside its folder.
pub(super) fn plain_name(name: &str) -> Result<&str, SysfsError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(SysfsError::Name {
            name: name.chars().take(64).collect(),
        })
    }
}
