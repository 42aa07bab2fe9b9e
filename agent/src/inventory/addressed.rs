//! Which functions a host service has given an address: pods do not get them.

use std::{collections::BTreeSet, net::IpAddr};

use railhead_host::{Address, NetlinkError, PciAddress, RouteSocket};

use super::Inventory;

/// Marks the functions whose interface has an address that somebody gave it.
pub fn mark_addressed(route: &mut RouteSocket, inventory: &mut Inventory) -> Result<(), NetlinkError> {
    let addresses = route.all_addresses()?;
    let links: BTreeSet<u32> = addresses.iter().filter(|a| is_given(a)).map(|a| a.link).collect();
    let used: BTreeSet<PciAddress> = route
        .links()?
        .into_iter()
        .filter(|link| links.contains(&link.index))
        .filter_map(|link| link.pci_address())
        .collect();
    for port in &mut inventory.ports {
        for function in &mut port.functions {
            function.addressed = used.contains(&function.pci_address);
        }
    }
    Ok(())
}

/// Whether somebody gave the link this address: link-local ones are the kernel's own.
pub fn is_given(address: &Address) -> bool {
    match address.net.addr() {
        IpAddr::V4(address) => !address.is_link_local(),
        IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}
