//! Which functions device plugins give to pods: ports that they serve are left to them.

use std::collections::BTreeMap;

use super::Inventory;

/// PCI addresses of VFs, in the form that the plugin chose, and the resource under which it gives each to pods.
pub type ForeignVfs = BTreeMap<String, String>;

/// Marks the functions that device plugins serve.
pub fn mark_foreign(foreign: &ForeignVfs, inventory: &mut Inventory) {
    for function in inventory.ports.iter_mut().flat_map(|port| &mut port.functions) {
        function.foreign = foreign
            .iter()
            .find(|(id, _)| id.eq_ignore_ascii_case(function.pci_address.as_str()))
            .map(|(_, resource)| resource.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::slice::tests::port;

    #[test]
    fn a_vf_is_known_by_its_address_however_the_plugin_writes_it() {
        let mut inventory = Inventory {
            ports: vec![port(true, Some(1000), 3)],
            ..Inventory::default()
        };
        inventory.ports[0].functions[0].pci_address = "0000:3b:00.2".parse().unwrap();
        let foreign = ForeignVfs::from([
            ("0000:3B:00.2".to_owned(), "intel.com/sriov".to_owned()),
            ("GPU-1".to_owned(), "nvidia.com/gpu".to_owned()),
        ]);
        mark_foreign(&foreign, &mut inventory);
        assert_eq!(
            inventory.ports[0].foreign_resource().as_deref(),
            Some("intel.com/sriov")
        );
        mark_foreign(&ForeignVfs::new(), &mut inventory);
        assert_eq!(inventory.ports[0].foreign_resource(), None, "given up again");
    }
}
