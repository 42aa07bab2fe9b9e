//! Where the link of a journaled VF is: by PCI address, never by name alone.

use railhead_host::{Link, NetlinkError, RouteSocket, Sysfs};

use crate::journal::RailJournal;

/// The link of a journaled VF on the host, whose sysfs knows it by its PCI address.
pub(super) fn journaled_on_host(
    sysfs: &Sysfs,
    socket: &mut RouteSocket,
    rail: &RailJournal,
) -> Result<Option<Link>, NetlinkError> {
    if rail.has_parent {
        socket.function_link(sysfs, &rail.vf)
    } else {
        by_names(socket, rail)
    }
}

/// The link of a journaled VF in the pod. Only one that the pod renamed has to be looked for among all.
pub(super) fn journaled(socket: &mut RouteSocket, rail: &RailJournal) -> Result<Option<Link>, NetlinkError> {
    match by_names(socket, rail)? {
        None if rail.has_parent => socket.link_of(&rail.vf),
        link => Ok(link),
    }
}

/// Under one of the names that it can have. A link whose driver names no device below it is known by its names and MAC
/// addresses.
fn by_names(socket: &mut RouteSocket, rail: &RailJournal) -> Result<Option<Link>, NetlinkError> {
    let macs = [rail.original.mac, Some(rail.mac)];
    let is_it = |link: &Link| {
        if rail.has_parent {
            link.pci_address().as_ref() == Some(&rail.vf)
        } else {
            link.parent.is_none() && link.mac.is_some() && macs.contains(&link.mac)
        }
    };
    for name in [&rail.final_name, &rail.original.name, &rail.temporary_name] {
        if let Some(link) = socket.link_named(name)?.filter(is_it) {
            return Ok(Some(link));
        }
    }
    Ok(None)
}
