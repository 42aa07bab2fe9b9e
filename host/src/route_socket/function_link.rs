//! The link of a PCI function on the host, in constant time.
//!
//! The kernel marks a dump of all links as interrupted whenever a link comes, goes or moves meanwhile (`nl_dump_check_consistent`,
//! include/net/netlink.h); on a node whose pods start, that is nearly every dump. Sysfs says which link it is, and one link
//! is read whole.

use super::{Link, RouteSocket};
use crate::{FunctionLink, PciAddress, Sysfs, netlink::NetlinkError};

/// A link may be renamed or leave between the two looks.
const LOOKS: u32 = 3;

impl RouteSocket {
    /// The function's own link, if its driver made one and it is in the namespace of this socket, which has to be the one
    /// that mounted `sysfs`. Never a representor of something behind the function.
    ///
    /// All links are read only where sysfs does not know the function or cannot be read.
    pub fn function_link(&mut self, sysfs: &Sysfs, function: &PciAddress) -> Result<Option<Link>, NetlinkError> {
        for _ in 0..LOOKS {
            match sysfs.function_link(function) {
                Ok(Some(named)) => {
                    if let Some(link) = self.read_named(&named, function)? {
                        return Ok(Some(link));
                    }
                }
                Ok(None) if sysfs.exists(function) => return Ok(None),
                Ok(None) | Err(_) => return self.link_of(function),
            }
        }
        Ok(None)
    }

    fn read_named(&mut self, named: &FunctionLink, function: &PciAddress) -> Result<Option<Link>, NetlinkError> {
        let link = match named.index {
            Some(index) => self.link(index)?,
            None => self.link_named(&named.name)?,
        };
        Ok(link.filter(|link| match &link.parent {
            Some(_) => link.pci_address().as_ref() == Some(function),
            // Kernels before 5.14, and drivers that name no device: the name is what the two looks have in common.
            None => link.name == named.name.as_str(),
        }))
    }
}
