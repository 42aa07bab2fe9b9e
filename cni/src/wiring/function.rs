//! Where a function's link is: by PCI address in any namespace, never by name alone.

use std::{
    thread,
    time::{Duration, Instant},
};

use railhead_host::{Link, NetlinkError, PciAddress, RouteSocket, Sysfs};

use super::WireError;
use crate::journal::RailJournal;

/// How often something that is about to appear is looked for.
pub(super) const POLL: Duration = Duration::from_millis(20);

/// The link of a function on the host.
pub(crate) fn on_host(sysfs: &Sysfs, socket: &mut RouteSocket, vf: &PciAddress) -> Result<Option<Link>, WireError> {
    socket.function_link(sysfs, vf).map_err(WireError::Netlink)
}

/// As [`on_host`], waiting: a namespace that ended gives its functions back in the background.
pub(crate) fn wait_on_host(
    sysfs: &Sysfs,
    socket: &mut RouteSocket,
    vf: &PciAddress,
    patience: Duration,
) -> Result<Link, WireError> {
    let start = Instant::now();
    loop {
        if let Some(link) = on_host(sysfs, socket, vf)? {
            return Ok(link);
        }
        if start.elapsed() >= patience {
            return Err(WireError::NotOnHost {
                vf: vf.clone(),
                waited: patience,
            });
        }
        thread::sleep(POLL);
    }
}

/// The link of a journaled function in the namespace of `socket`.
pub(super) fn journaled(socket: &mut RouteSocket, rail: &RailJournal) -> Result<Option<Link>, NetlinkError> {
    let links = socket.links()?;
    Ok(links.into_iter().find(|link| {
        if rail.has_parent {
            return link.pci_address().as_ref() == Some(&rail.vf);
        }
        let names = [&rail.original.name, &rail.temporary_name, &rail.final_name];
        let macs = [Some(rail.original.mac), Some(rail.mac)];
        link.parent.is_none() && names.iter().any(|name| name.as_str() == link.name) && macs.contains(&link.mac)
    }))
}
