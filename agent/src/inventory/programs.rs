//! Which free functions' RDMA devices programs on the host have open.

use std::collections::{BTreeMap, BTreeSet};

use railhead_host::{PciAddress, RdmaDevice, RdmaSocket};

use super::Inventory;

/// Counts, for functions that no plan names: those of pods are open by the pods. What the kernel does not tell counts as none.
pub fn mark_programs(inventory: &mut Inventory, taken: &BTreeSet<PciAddress>) {
    let mut free: Vec<_> = inventory
        .ports
        .iter_mut()
        .flat_map(|port| &mut port.functions)
        .filter(|function| function.rdma_device.is_some() && !taken.contains(&function.pci_address))
        .collect();
    if free.is_empty() {
        return;
    }
    let Ok(mut socket) = RdmaSocket::open() else {
        return;
    };
    let devices: BTreeMap<String, RdmaDevice> = match socket.devices() {
        Ok(devices) => devices
            .into_iter()
            .map(|device| (device.name.clone(), device))
            .collect(),
        Err(error) => {
            tracing::debug!(%error, "it is not known what uses the RDMA devices");
            return;
        }
    };
    for function in &mut free {
        let device = function
            .rdma_device
            .as_ref()
            .and_then(|name| devices.get(name.as_str()));
        function.programs = device.map_or(0, |device| socket.open_contexts(device).unwrap_or(0));
    }
}
