//! Which functions a host service has given an address: pods do not get them.

use std::{collections::BTreeMap, net::IpAddr};

use railhead_host::{Address, NetlinkError, PciAddress, RouteSocket};

use super::Inventory;

/// Marks the functions whose interface has addresses that somebody gave it.
pub fn mark_addressed(route: &mut RouteSocket, inventory: &mut Inventory) -> Result<(), NetlinkError> {
    let mut by_link: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for address in route.all_addresses()?.iter().filter(|address| is_given(address)) {
        by_link.entry(address.link).or_default().push(address.net.to_string());
    }
    let mut by_function: BTreeMap<PciAddress, Vec<String>> = BTreeMap::new();
    if !by_link.is_empty() {
        for link in route.links()? {
            if let (Some(addresses), Some(function)) = (by_link.remove(&link.index), link.pci_address()) {
                by_function.entry(function).or_default().extend(addresses);
            }
        }
    }
    for function in inventory.ports.iter_mut().flat_map(|port| &mut port.functions) {
        function.addresses = by_function.remove(&function.pci_address).unwrap_or_default();
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
