//! SR-IOV ports (PFs) and their VFs.

use super::{Sysfs, SysfsError, link_target, names, read, read_number, write};
use crate::{InterfaceName, MacAddress, PciAddress, RdmaName};

/// A network port that can have VFs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhysicalFunction {
    /// PCI address.
    pub address: PciAddress,
    /// Driver, if bound.
    pub driver: Option<String>,
    /// Its link, if it is in the namespace that mounted this sysfs.
    pub link: Option<InterfaceName>,
    /// The link's hardware address.
    pub mac: Option<MacAddress>,
    /// Whether the link has a signal; `None` while it is down.
    pub carrier: Option<bool>,
    /// The link's speed, Mbit/s; `None` while it is unknown (no signal).
    pub speed_mbps: Option<u32>,
    /// The link's MTU.
    pub mtu: Option<u32>,
    /// How many VFs the hardware can have.
    pub total_vfs: u32,
    /// How many VFs there are.
    pub num_vfs: u32,
    /// NUMA node; `None` when the platform does not say.
    pub numa_node: Option<u32>,
    /// PCIe root complex, `pci0000:00` form.
    pub pcie_root: Option<String>,
    /// PCI vendor, `0x8086` form.
    pub vendor: Option<String>,
    /// PCI device, `0x10c9` form.
    pub device: Option<String>,
    /// Names of its RDMA devices.
    pub rdma_devices: Vec<RdmaName>,
    /// Name that the port has on the NIC or the switch (`phys_port_name`), where the driver knows one.
    pub port_name: Option<String>,
}

/// A VF of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualFunction {
    /// Number on its PF.
    pub index: u32,
    /// PCI address.
    pub address: PciAddress,
    /// Driver, if bound.
    pub driver: Option<String>,
    /// Its link; `None` when it has none, or when it is in another namespace (a pod uses it).
    pub link: Option<InterfaceName>,
    /// Links on top of that link: the bridge or bond that it is a port of, VLANs and macvlans made on it.
    pub uppers: Vec<String>,
    /// Names of its RDMA devices.
    pub rdma_devices: Vec<RdmaName>,
}

impl Sysfs {
    /// All network ports that can have VFs, by PCI address.
    pub fn physical_functions(&self) -> Result<Vec<PhysicalFunction>, SysfsError> {
        let mut functions = Vec::new();
        for name in names(&self.pci_devices())? {
            let Ok(address) = name.parse::<PciAddress>() else {
                continue;
            };
            let device = self.pci_device(&address);
            // A disk or a GPU can have VFs too; a port without driver has no net folder but its class says network.
            let network = read(&device.join("class"))?.is_none_or(|class| class.starts_with("0x02"));
            if network && device.join("sriov_totalvfs").exists() {
                functions.push(self.physical_function(&address)?);
            }
        }
        Ok(functions)
    }

    /// One port.
    pub fn physical_function(&self, address: &PciAddress) -> Result<PhysicalFunction, SysfsError> {
        if !self.exists(address) {
            return Err(SysfsError::NoFunction {
                address: address.clone(),
            });
        }
        let device = self.pci_device(address);
        let link = self.function_link(address)?.map(|link| link.name);
        let net = link.as_ref().map(|link| device.join("net").join(link.as_str()));
        let of_link = |file: &str| match &net {
            Some(net) => read(&net.join(file)),
            None => Ok(None),
        };
        Ok(PhysicalFunction {
            address: address.clone(),
            driver: self.driver(address),
            mac: of_link("address")?.and_then(|mac| mac.parse().ok()),
            carrier: of_link("carrier")?.map(|carrier| carrier == "1"),
            // -1 or 4294967295 when unknown.
            speed_mbps: of_link("speed")?
                .and_then(|speed| speed.parse::<i32>().ok())
                .and_then(|speed| u32::try_from(speed).ok())
                .filter(|speed| *speed > 0),
            mtu: of_link("mtu")?.and_then(|mtu| mtu.parse().ok()),
            port_name: of_link("phys_port_name")?.filter(|name| !name.is_empty()),
            link,
            total_vfs: read_number(&device.join("sriov_totalvfs"))?.unwrap_or(0),
            num_vfs: read_number(&device.join("sriov_numvfs"))?.unwrap_or(0),
            // -1 when the platform does not say.
            numa_node: read_number::<i64>(&device.join("numa_node"))?.and_then(|node| u32::try_from(node).ok()),
            pcie_root: self.pcie_root(address),
            vendor: read(&device.join("vendor"))?,
            device: read(&device.join("device"))?,
            rdma_devices: self.rdma_devices(address)?,
        })
    }

    /// The VFs of a port that exist now, by number.
    pub fn virtual_functions(&self, pf: &PciAddress) -> Result<Vec<VirtualFunction>, SysfsError> {
        let device = self.pci_device(pf);
        let mut functions = Vec::new();
        for name in names(&device)? {
            let Some(index) = name
                .strip_prefix("virtfn")
                .and_then(|number| number.parse::<u32>().ok())
            else {
                continue;
            };
            let Some(address) = link_target(&device.join(&name)).and_then(|name| name.parse().ok()) else {
                continue;
            };
            let link = self.function_link(&address)?.map(|link| link.name);
            let uppers = match &link {
                Some(link) => self.uppers(&address, link)?,
                None => Vec::new(),
            };
            functions.push(VirtualFunction {
                index,
                driver: self.driver(&address),
                link,
                uppers,
                rdma_devices: self.rdma_devices(&address)?,
                address,
            });
        }
        functions.sort_by_key(|function| function.index);
        Ok(functions)
    }

    /// Sets how many VFs a port has. Drivers refuse a change between two numbers above zero, so all VFs go first when some
    /// exist: never call it while a pod uses one of them, its link would vanish without an error.
    pub fn set_num_vfs(&self, pf: &PciAddress, count: u32) -> Result<(), SysfsError> {
        let file = self.pci_device(pf).join("sriov_numvfs");
        let current = read_number::<u32>(&file)?.unwrap_or(0);
        if current == count {
            return Ok(());
        }
        if current > 0 && count > 0 {
            write(&file, "0")?;
        }
        write(&file, &count.to_string())
    }

    /// The root complex that the function hangs on, as the kernel's standard DRA attribute names it.
    fn pcie_root(&self, function: &PciAddress) -> Option<String> {
        let path = std::fs::canonicalize(self.pci_device(function)).ok()?;
        path.components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .find(|part| {
                part.strip_prefix("pci").is_some_and(|rest| {
                    rest.contains(':') && rest.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
                })
            })
    }
}
