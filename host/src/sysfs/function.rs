//! Any PCI function: its links, its driver, its RDMA devices.

use std::path::PathBuf;

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

    /// Whether the kernel gives the port's VFs to drivers; `None` where it does not say (before 4.13) and does. Where it does
    /// not, it refuses every probe of a VF, a bind by name too (`pci_device_can_probe`, drivers/pci/pci-driver.c).
    pub fn autoprobe(&self, pf: &PciAddress) -> Result<Option<bool>, SysfsError> {
        Ok(read(&self.autoprobe_file(pf))?.map(|text| text != "0"))
    }

    /// Sets whether the kernel gives the port's VFs to drivers.
    pub fn set_autoprobe(&self, pf: &PciAddress, on: bool) -> Result<(), SysfsError> {
        write(&self.autoprobe_file(pf), if on { "1" } else { "0" })
    }

    fn autoprobe_file(&self, pf: &PciAddress) -> PathBuf {
        self.pci_device(pf).join("sriov_drivers_autoprobe")
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
