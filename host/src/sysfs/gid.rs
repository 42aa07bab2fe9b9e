//! GID tables and character devices of RDMA devices.

use std::net::{IpAddr, Ipv6Addr};

use super::{Sysfs, SysfsError, function::plain_name, link_target, names, read};
use crate::PciAddress;

/// How a GID type reads in `gid_attrs/types` for RoCE v2 (drivers/infiniband/core/cache.c).
const ROCE_V2: &str = "RoCE v2";

/// Places of a GID table that are looked at before the table is listed. It may have 1,024 of them, each a file of its own
/// (`RXE_PORT_GID_TBL_LEN`, drivers/infiniband/sw/rxe/rxe_param.h), and the kernel fills the first that is empty (`find_gid`,
/// drivers/infiniband/core/cache.c).
const FIRST_GIDS: u32 = 16;

/// A RoCE v2 entry of a GID table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gid {
    /// Index in the table. It may change whenever addresses change.
    pub index: u32,
    /// The GID; an IPv4 address appears as IPv4-mapped IPv6.
    pub value: Ipv6Addr,
}

impl Gid {
    /// As sysfs writes it: eight groups of four digits, nothing left out.
    pub fn text(&self) -> String {
        let groups = self.value.segments().map(|group| format!("{group:04x}"));
        groups.join(":")
    }
}

impl Sysfs {
    /// The RoCE v2 entry of `address` in a port's GID table. Any namespace may read the table, only `gid_attrs/ndevs` needs the
    /// link's own.
    pub fn gid_of(&self, device: &str, port: u32, address: IpAddr) -> Result<Option<Gid>, SysfsError> {
        let value = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let port = self
            .root
            .join("class/infiniband")
            .join(plain_name(device)?)
            .join("ports")
            .join(port.to_string());
        let (gids, types) = (port.join("gids"), port.join("gid_attrs/types"));
        let is_at = |index: u32| -> Result<bool, SysfsError> {
            let name = index.to_string();
            Ok(
                read(&gids.join(&name))?.and_then(|text| text.parse::<Ipv6Addr>().ok()) == Some(value)
                    && read(&types.join(&name))?.as_deref() == Some(ROCE_V2),
            )
        };
        for index in 0..FIRST_GIDS {
            if is_at(index)? {
                return Ok(Some(Gid { index, value }));
            }
        }
        let mut others: Vec<u32> = names(&gids)?
            .iter()
            .filter_map(|name| name.parse().ok())
            .filter(|index| *index >= FIRST_GIDS)
            .collect();
        others.sort_unstable();
        for index in others {
            if is_at(index)? {
                return Ok(Some(Gid { index, value }));
            }
        }
        Ok(None)
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

    /// The PCI function below an RDMA device (`ib_device.dev.parent`); soft devices have none.
    pub fn function_of_rdma_device(&self, device: &str) -> Result<Option<PciAddress>, SysfsError> {
        let link = self
            .root
            .join("class/infiniband")
            .join(plain_name(device)?)
            .join("device");
        Ok(link_target(&link).and_then(|name| name.parse().ok()))
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
