//! How PFs and VFs were before Railhead touched them, in files that outlive the agent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use railhead_host::{
    DurableError, MacAddress, PciAddress, StateFileError, VfLinkState, VfSettings, read_state_file, remove_durably,
    write_durably,
};
use railhead_plan::{Layout, VfPlan};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{Host, HostError, LinkState, driver};

/// The version that this release writes. It reads its neighbours too; a record is only worth its own boot.
const VERSION: u32 = 1;

/// How a VF was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VfOriginal {
    /// Format version.
    pub version: u32,
    /// The boot in which it was seen; a reboot makes VFs anew.
    pub boot_id: String,
    /// PCI address of the VF.
    pub pci_address: PciAddress,
    /// PCI address of its PF.
    pub pf_pci_address: PciAddress,
    /// Number on the PF.
    pub index: u32,
    /// Its driver. A record of release 0.1 does not say it.
    #[serde(default)]
    pub driver: Option<String>,
    /// Its link.
    #[serde(flatten)]
    pub link: LinkState,
    /// What the PF enforced; its `mac` is the administrative one.
    pub enforced: VfSettings,
    /// The port refused to give the rate back: what it shows is a pod's and not the VF's own.
    #[serde(default)]
    pub rate_owed: bool,
}

impl VfOriginal {
    /// Takes the rate from an earlier record where the port owes it.
    fn keep_owed_rate(&mut self, known: &Self) {
        if known.rate_owed {
            self.enforced.min_rate_mbps = known.enforced.min_rate_mbps;
            self.enforced.max_rate_mbps = known.enforced.max_rate_mbps;
            self.rate_owed = true;
        }
    }

    /// Whether the VF has a MAC address as Railhead gives them to pods, which begin with 02, beside those that it is known
    /// to have had. Then nobody gave it back, for example because its plan was damaged.
    fn has_a_pods_mac(&self, known: &Self) -> bool {
        let known = [known.link.mac, known.enforced.mac];
        let mut now = [self.link.mac, self.enforced.mac].into_iter().flatten();
        now.any(|mac| mac.bytes()[0] == 0x02 && !known.contains(&Some(mac)))
    }

    /// Whether the VF itself differs, apart from what is known of it.
    pub fn differs_from(&self, other: &Self) -> bool {
        let same = Self {
            version: self.version,
            rate_owed: self.rate_owed,
            driver: self.driver.clone(),
            ..other.clone()
        };
        *self != same
    }
}

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

/// Why a record was not written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OriginalsError {
    /// The VF could not be read.
    #[error("record the original state of VF {vf}: {source}")]
    Observe {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The folder or a file could not be read.
    #[error("read {path}: {source}")]
    Read {
        /// Which path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A record could not be read.
    #[error("the original state: {0}")]
    File(#[source] StateFileError),
    /// A record could not be written.
    #[error(transparent)]
    Write(#[from] DurableError),
    /// A record could not be encoded.
    #[error("encode the record of {pci_address}: {source}")]
    Encode {
        /// PCI address.
        pci_address: PciAddress,
        /// What happened.
        #[source]
        source: serde_json::Error,
    },
}

/// The folder of records.
#[derive(Clone, Debug)]
pub struct Originals {
    folder: PathBuf,
    boot_id: String,
}

impl Originals {
    /// The records of this boot.
    pub fn new(layout: &Layout, boot_id: &str) -> Self {
        Self {
            folder: layout.originals(),
            boot_id: boot_id.to_owned(),
        }
    }

    /// Records a free VF as it is now. A record that differs is replaced and the difference logged: Railhead reads back what
    /// it gives back, so somebody else has changed the VF since.
    pub fn record_vf(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        pf: &PciAddress,
        index: u32,
        patience: Duration,
    ) -> Result<VfOriginal, OriginalsError> {
        let mut original = self.observe(host, vf, pf, index, patience)?;
        if let Some(known) = self.vf(vf)? {
            original.keep_owed_rate(&known);
            if !original.differs_from(&known) {
                return Ok(known);
            }
            if original.has_a_pods_mac(&known) {
                tracing::warn!(
                    %vf, ?known, now = ?original,
                    "a free VF still has a pod's MAC address; the earlier record of it stays what will be given back"
                );
                return Ok(known);
            }
            tracing::warn!(
                %vf, ?known, now = ?original,
                "a free VF is not as Railhead left it; its present state is what will be given back"
            );
        }
        self.write_vf(&original)?;
        Ok(original)
    }

    /// What a VF is given back to when no record tells how it was: the interface as it is, down, and nothing that the PF
    /// enforces for a pod. So a lost record costs a name and a MTU, and not the VF.
    pub fn assumed(&self, host: &mut Host, vf: &VfPlan, patience: Duration) -> Result<VfOriginal, OriginalsError> {
        driver::ensure(host, &vf.pci_address, &vf.pf_pci_address, None).map_err(|source| OriginalsError::Observe {
            vf: vf.pci_address.clone(),
            source: Box::new(source),
        })?;
        let found = self.observe(host, &vf.pci_address, &vf.pf_pci_address, vf.index, patience)?;
        tracing::warn!(
            vf = %vf.pci_address,
            "there is no record of how a VF was; it keeps its name, MAC address and MTU, and what its PF enforced for the pod goes"
        );
        Ok(VfOriginal {
            link: LinkState {
                up: false,
                promiscuous: false,
                all_multicast: false,
                alias: None,
                ..found.link
            },
            enforced: VfSettings {
                mac: Some(MacAddress::new([0; 6])),
                vlan: None,
                min_rate_mbps: 0,
                max_rate_mbps: 0,
                spoof_check: true,
                trust: false,
                link_state: Some(VfLinkState::Auto),
            },
            ..found
        })
    }

    /// A VF as it is now.
    pub fn observe(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        pf: &PciAddress,
        index: u32,
        patience: Duration,
    ) -> Result<VfOriginal, OriginalsError> {
        let observe = |source| OriginalsError::Observe {
            vf: vf.clone(),
            source: Box::new(source),
        };
        let link = host
            .vf(vf, patience)
            .and_then(|link| LinkState::of(vf, link))
            .map_err(observe)?;
        let enforced = host.enforced(pf, index).map_err(observe)?.settings();
        Ok(VfOriginal {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            pci_address: vf.clone(),
            pf_pci_address: pf.clone(),
            index,
            driver: host.sysfs.driver(vf),
            link,
            enforced,
            rate_owed: false,
        })
    }

    /// The VFs that their PFs owe a rate.
    pub fn owed(&self) -> Result<Vec<VfOriginal>, OriginalsError> {
        let mut owed = Vec::new();
        for name in self.names()? {
            if let Some(vf) = name.strip_prefix("function-").and_then(|n| n.strip_suffix(".json"))
                && let Ok(vf) = vf.parse()
                && let Some(original) = self.vf(&vf)?
                && original.rate_owed
            {
                owed.push(original);
            }
        }
        Ok(owed)
    }

    /// Notes whether the PF still owes a VF its rate.
    pub fn owe_rate(&self, original: &VfOriginal, owed: bool) -> Result<(), OriginalsError> {
        if original.rate_owed == owed {
            return Ok(());
        }
        self.write_vf(&VfOriginal {
            rate_owed: owed,
            ..original.clone()
        })
    }

    fn write_vf(&self, original: &VfOriginal) -> Result<(), OriginalsError> {
        let vf = &original.pci_address;
        self.write(&Self::vf_file(vf), vf, original)
    }

    /// The record of a VF, if there is one of this boot.
    pub fn vf(&self, vf: &PciAddress) -> Result<Option<VfOriginal>, OriginalsError> {
        let record: Option<VfOriginal> = self.read(&Self::vf_file(vf))?;
        Ok(record.filter(|record| is_readable(record.version) && record.boot_id == self.boot_id))
    }

    /// Records a port before it is changed. The first record of a boot counts; what is set later is added to it.
    pub fn record_port(&self, original: PortOriginal) -> Result<(), OriginalsError> {
        if let Some(known) = self.port(&original.pci_address)? {
            let mut also = known.clone();
            also.also_set(original.set);
            return if also == known {
                Ok(())
            } else {
                self.write(&Self::port_file(&known.pci_address), &known.pci_address, &also)
            };
        }
        let original = PortOriginal {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            ..original
        };
        let pci_address = original.pci_address.clone();
        self.write(&Self::port_file(&pci_address), &pci_address, &original)
    }

    /// The record of a port, if there is one of this boot.
    pub fn port(&self, port: &PciAddress) -> Result<Option<PortOriginal>, OriginalsError> {
        let record: Option<PortOriginal> = self.read(&Self::port_file(port))?;
        Ok(record.filter(|record| is_readable(record.version) && record.boot_id == self.boot_id))
    }

    /// All ports that were changed in this boot.
    pub fn ports(&self) -> Result<Vec<PortOriginal>, OriginalsError> {
        let mut ports = Vec::new();
        for name in self.names()? {
            if let Some(pci) = name.strip_prefix("port-").and_then(|n| n.strip_suffix(".json"))
                && let Ok(pci) = pci.parse()
                && let Some(port) = self.port(&pci)?
            {
                ports.push(port);
            }
        }
        Ok(ports)
    }

    /// Forgets a VF, for example because it no longer exists.
    pub fn forget_vf(&self, vf: &PciAddress) -> Result<(), OriginalsError> {
        Ok(remove_durably(&self.folder.join(Self::vf_file(vf)))?)
    }

    /// Forgets a port that was given back.
    pub fn forget_port(&self, port: &PciAddress) -> Result<(), OriginalsError> {
        Ok(remove_durably(&self.folder.join(Self::port_file(port)))?)
    }

    /// Forgets every VF: nothing of Railhead is left on the node.
    pub fn forget_all_vfs(&self) -> Result<(), OriginalsError> {
        for name in self.names()? {
            if name.starts_with("function-") {
                remove_durably(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }

    /// Removes records of earlier boots.
    pub fn forget_earlier_boots(&self) -> Result<(), OriginalsError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Boot {
            boot_id: String,
        }
        for name in self.names()? {
            let boot: Option<Boot> = self.read(&name)?;
            if boot.is_some_and(|boot| boot.boot_id != self.boot_id) {
                remove_durably(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }

    fn vf_file(vf: &PciAddress) -> String {
        format!("function-{vf}.json")
    }

    fn port_file(port: &PciAddress) -> String {
        format!("port-{port}.json")
    }

    fn names(&self) -> Result<Vec<String>, OriginalsError> {
        let error = |source| OriginalsError::Read {
            path: self.folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(error(source)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(error)?.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".json") && !name.starts_with('.') {
                names.push(name.into_owned());
            }
        }
        Ok(names)
    }

    /// A record that cannot be decoded counts as absent: it was written whole, so it is of a release too far away, or somebody
    /// put something else in its place.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, OriginalsError> {
        let path = self.folder.join(name);
        match read_state_file(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.is_absent() || error.is_foreign() => Ok(None),
            Err(error) => Err(OriginalsError::File(error)),
        }
    }

    fn write<T: Serialize>(&self, name: &str, pci_address: &PciAddress, record: &T) -> Result<(), OriginalsError> {
        let bytes = serde_json::to_vec_pretty(record).map_err(|source| OriginalsError::Encode {
            pci_address: pci_address.clone(),
            source,
        })?;
        create_private(&self.folder)?;
        Ok(write_durably(&self.folder.join(name), &bytes, 0o600)?)
    }
}

fn is_readable(version: u32) -> bool {
    version.abs_diff(VERSION) <= 1
}

/// Makes a folder that only root may enter.
fn create_private(folder: &Path) -> Result<(), OriginalsError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| OriginalsError::Read {
            path: folder.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(vfs: u32) -> PortOriginal {
        PortOriginal {
            version: 0,
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
    fn a_rate_that_the_port_owes_is_not_taken_for_the_vfs_own() {
        let of = |rate| VfOriginal {
            version: VERSION,
            boot_id: "boot-1".to_owned(),
            pci_address: "0000:18:00.1".parse().unwrap(),
            pf_pci_address: "0000:18:00.0".parse().unwrap(),
            index: 0,
            driver: None,
            link: LinkState {
                name: "eth4".parse().unwrap(),
                mac: None,
                mtu: 1500,
                up: false,
                altnames: Vec::new(),
                alias: None,
                promiscuous: false,
                all_multicast: false,
                tx_queue_len: None,
            },
            enforced: VfSettings {
                mac: None,
                vlan: None,
                min_rate_mbps: 0,
                max_rate_mbps: rate,
                spoof_check: true,
                trust: false,
                link_state: None,
            },
            rate_owed: false,
        };
        let root = tempfile::tempdir().unwrap();
        let originals = Originals::new(&Layout::under(root.path()), "boot-1");
        originals.write_vf(&of(0)).unwrap();
        // A pod had 400; its port was down when it ended.
        originals.owe_rate(&of(0), true).unwrap();
        let known = originals.vf(&of(0).pci_address).unwrap().unwrap();
        assert!(known.rate_owed);
        assert_eq!(originals.owed().unwrap(), std::slice::from_ref(&known));
        let mut now = of(400);
        assert!(now.differs_from(&known));
        now.keep_owed_rate(&known);
        assert!(!now.differs_from(&known));
        assert_eq!(now.enforced.max_rate_mbps, 0);
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
