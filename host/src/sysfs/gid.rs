//! GID tables and character devices of RDMA devices.

use std::net::{IpAddr, Ipv6Addr};

use super::{Sysfs, SysfsError, function::plain_name, names, read};

/// How a GID type reads in `gid_attrs/types` for RoCE v2 (drivers/infiniband/core/cache.c).
const ROCE_V2: &str = "RoCE v2";

/// One entry of a GID table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gid {
    /// Index in the table. It may change whenever addresses change.
    pub index: u32,
    /// The GID; an IPv4 address appears as IPv4-mapped IPv6.
    pub value: Ipv6Addr,
    /// Whether it is for RoCE v2 (and not v1).
    pub roce_v2: bool,
}

impl Gid {
    /// The RoCE v2 entry of an address in a table.
    pub fn of_address(table: &[Self], address: IpAddr) -> Option<&Self> {
        let wanted = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        table.iter().find(|gid| gid.roce_v2 && gid.value == wanted)
    }

    /// As sysfs writes it: eight groups of four digits, nothing left out.
    pub fn text(&self) -> String {
        let groups = self.value.segments().map(|group| format!("{group:04x}"));
        groups.join(":")
    }
}

impl Sysfs {
    /// The used entries of a port's GID table. Any namespace may read them, only `gid_attrs/ndevs` needs the link's own.
    pub fn gids(&self, device: &str, port: u32) -> Result<Vec<Gid>, SysfsError> {
        let port = self
            .root
            .join("class/infiniband")
            .join(plain_name(device)?)
            .join("ports")
            .join(port.to_string());
        let mut gids = Vec::new();
        for name in names(&port.join("gids"))? {
            let Ok(index) = name.parse::<u32>() else {
                continue;
            };
            let Some(value) = read(&port.join("gids").join(&name))?
                .and_then(|text| text.parse::<Ipv6Addr>().ok())
                .filter(|value| !value.is_unspecified())
            else {
                continue;
            };
            let kind = read(&port.join("gid_attrs/types").join(&name))?;
            gids.push(Gid {
                index,
                value,
                roce_v2: kind.as_deref() == Some(ROCE_V2),
            });
        }
        gids.sort_by_key(|gid| gid.index);
        Ok(gids)
    }

    /// Whether a port is in state ACTIVE (`4: ACTIVE`).
    pub fn rdma_port_is_active(&self, device: &str, port: u32) -> Result<bool, SysfsError> {
        let path = self
            .root
            .join("class/infiniband")
            .join(plain_name(device)?)
            .join(format!("ports/{port}/state"));
        Ok(read(&path)?.is_some_and(|state| state.starts_with("4:")))
    }

    /// Whether the host sees this RDMA device.
    pub fn rdma_device_exists(&self, device: &str) -> Result<bool, SysfsError> {
        Ok(self.root.join("class/infiniband").join(plain_name(device)?).exists())
    }

    /// Whether the connection manager's device, `/dev/infiniband/rdma_cm`, exists: the module rdma_ucm makes it
    /// (drivers/infiniband/core/ucma.c).
    pub fn has_rdma_cm(&self) -> bool {
        self.root.join("class/misc/rdma_cm").exists()
    }

    /// The character device of an RDMA device, for example `/dev/infiniband/uverbs3`.
    pub fn uverbs(&self, device: &str) -> Result<Option<String>, SysfsError> {
        let class = self.root.join("class/infiniband_verbs");
        for name in names(&class)? {
            if name.starts_with("uverbs")
                && plain_name(&name).is_ok()
                && read(&class.join(&name).join("ibdev"))?.as_deref() == Some(device)
            {
                return Ok(Some(format!("/dev/infiniband/{name}")));
            }
        }
        Ok(None)
    }
}
