//! How a PF was before Railhead made VFs on it, and what Railhead has set on it since.

use railhead_host::PciAddress;
use railhead_plan::Versioned;
use serde::{Deserialize, Serialize};

use super::{Originals, OriginalsError, VERSION};

/// How a PF was before Railhead made VFs on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortOriginal {
    /// Format version.
    pub version: u32,
    /// The boot in which it was seen; a reboot undoes all of it.
    pub boot_id: String,
    /// PCI address of the PF.
    pub pci_address: PciAddress,
    /// Number of VFs.
    #[serde(rename = "functions")]
    pub vfs: u32,
    /// MTU.
    pub mtu: u32,
    /// Whether the interface was up.
    pub up: bool,
    /// What Railhead has changed since; records of the release before do not say it.
    #[serde(default)]
    pub set: Option<PortSet>,
}

impl Versioned for PortOriginal {
    const WHAT: &'static str = "the original state of a port";
    const VERSION: u32 = VERSION;
}

/// What Railhead set on a port's interface: what is otherwise now, somebody else has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortSet {
    /// The MTU, if it did.
    pub mtu: Option<u32>,
    /// Whether it took the interface up.
    pub up: bool,
}

impl PortOriginal {
    /// Adds what is about to be set to what was set before.
    fn also_set(&mut self, more: Option<PortSet>) {
        if let (Some(set), Some(more)) = (&mut self.set, more) {
            set.mtu = more.mtu.or(set.mtu);
            set.up |= more.up;
        }
    }
}

impl Originals {
    /// Records a port before it is changed. The first record of a boot counts; what is set later is added to it.
    pub fn record_port(&self, original: PortOriginal) -> Result<(), OriginalsError> {
        if let Some(known) = self.port(&original.pci_address)? {
            let mut also = known.clone();
            also.also_set(original.set);
            return if also == known {
                Ok(())
            } else {
                self.write(&port_file(&known.pci_address), &also)
            };
        }
        let original = PortOriginal {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            ..original
        };
        self.write(&port_file(&original.pci_address), &original)
    }

    /// The record of a port, if there is one of this boot.
    pub fn port(&self, port: &PciAddress) -> Result<Option<PortOriginal>, OriginalsError> {
        let record: Option<PortOriginal> = self.read(&port_file(port))?;
        Ok(record.filter(|record| record.boot_id == self.boot_id && record.pci_address == *port))
    }

    /// All ports that were changed in this boot.
    pub fn ports(&self) -> Result<Vec<PortOriginal>, OriginalsError> {
        let mut ports = Vec::new();
        for name in self.names()? {
            if let Some(pci) = name.strip_prefix("port-")
                && let Ok(pci) = pci.parse()
                && let Some(port) = self.port(&pci)?
            {
                ports.push(port);
            }
        }
        Ok(ports)
    }

    /// Forgets a port that was given back.
    pub fn forget_port(&self, port: &PciAddress) -> Result<(), OriginalsError> {
        self.remove(&port_file(port))
    }
}

fn port_file(port: &PciAddress) -> String {
    format!("port-{port}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use railhead_plan::Layout;

    use super::*;

    fn port(vfs: u32) -> PortOriginal {
        PortOriginal {
            version: VERSION,
            boot_id: String::new(),
            pci_address: "0000:18:00.0".parse().unwrap(),
            vfs,
            mtu: 1500,
            up: false,
            set: Some(PortSet::default()),
        }
    }

    #[test]
    fn what_is_set_on_a_port_later_is_added_to_its_first_record() {
        let root = tempfile::tempdir().unwrap();
        let originals = Originals::new(&Layout::under(root.path()), "boot-1");
        let setting = |mtu, up| PortOriginal {
            set: Some(PortSet { mtu, up }),
            ..port(0)
        };
        originals.record_port(setting(None, true)).unwrap();
        originals.record_port(setting(Some(9000), false)).unwrap();
        let set = originals.ports().unwrap()[0].set.unwrap();
        assert_eq!((set.mtu, set.up), (Some(9000), true));
    }

    #[test]
    fn the_first_record_of_a_port_counts_and_another_boot_voids_it() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        let originals = Originals::new(&layout, "boot-1");
        originals.record_port(port(0)).unwrap();
        originals.record_port(port(4)).unwrap();
        assert_eq!(originals.ports().unwrap()[0].vfs, 0);

        let rebooted = Originals::new(&layout, "boot-2");
        assert!(rebooted.ports().unwrap().is_empty());
        rebooted.forget_earlier_boots().unwrap();
        assert!(originals.ports().unwrap().is_empty());
    }

    #[test]
    fn a_record_that_cannot_be_read_counts_as_absent() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::under(root.path());
        fs::create_dir_all(layout.originals()).unwrap();
        fs::write(layout.originals().join("port-0000:18:00.0.json"), "{").unwrap();
        let originals = Originals::new(&layout, "boot-1");
        originals.record_port(port(2)).unwrap();
        assert_eq!(originals.ports().unwrap()[0].vfs, 2);
    }
}
