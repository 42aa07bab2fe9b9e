//! Where the link of a journaled VF is in a namespace: by PCI address, never by name alone.

use railhead_host::{Link, NetlinkError, RouteSocket};

use crate::journal::RailJournal;

/// The link of a journaled VF in the namespace of `socket`.
pub(super) fn journaled(socket: &mut RouteSocket, rail: &RailJournal) -> Result<Option<Link>, NetlinkError> {
    let links = socket.links()?;
    Ok(links.into_iter().find(|link| {
        if rail.has_parent {
            return link.pci_address().as_ref() == Some(&rail.vf);
        }
        let names = [&rail.original.name, &rail.temporary_name, &rail.final_name];
        let macs = [rail.original.mac, Some(rail.mac)];
        link.parent.is_none()
            && names.iter().any(|name| name.as_str() == link.name)
            && link.mac.is_some()
            && macs.contains(&link.mac)
    }))
}
