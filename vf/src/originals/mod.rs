//! How PFs and VFs were before Railhead touched them, in files that outlive the agent.

mod error;
mod files;
mod lent;
mod port;
mod vf;

use std::{path::PathBuf, time::Duration};

use railhead_host::{MacAddress, PciAddress, VfLinkState, VfSettings};
use railhead_plan::{Layout, VfPlan};

pub use error::OriginalsError;
pub(crate) use lent::is_back;
pub use port::{PortOriginal, PortSet};
pub use vf::VfOriginal;

use crate::{Host, HostError, LinkState, cut_off, driver, restore};

/// The version that this release writes. It reads its neighbours too; a record is only worth its own boot.
const VERSION: u32 = 1;

/// The records of a node.
#[derive(Clone, Debug)]
pub struct Originals {
    layout: Layout,
    boot_id: String,
}

impl Originals {
    /// The records of this boot.
    pub fn new(layout: &Layout, boot_id: &str) -> Self {
        Self {
            layout: layout.clone(),
            boot_id: boot_id.to_owned(),
        }
    }

    /// Records a free VF as it is now. A record that differs is replaced and the difference logged: Railhead reads back what
    /// it gives back, so somebody else has changed the VF since.
    ///
    /// Where a pod had the VF and nobody gave it back, it is given back first: nothing of that pod becomes the original, or
    /// reaches the next one. So the caller holds the VF's lock.
    pub fn record_vf(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        pf: &PciAddress,
        index: u32,
        patience: Duration,
    ) -> Result<VfOriginal, OriginalsError> {
        if self.is_lent(vf) {
            tracing::warn!(%vf, "a pod had a free VF and nobody gave it back; it is given back now");
            let original = match self.vf(vf)? {
                Some(known) => known,
                None => self.neutral(host, vf, pf, index, patience)?,
            };
            give_back(host, &original)?;
        }
        let mut original = self.observe(host, vf, pf, index, patience)?;
        if let Some(known) = self.vf(vf)? {
            original.keep_owed_rate(&known);
            if !original.differs_from(&known) {
                return Ok(known);
            }
            // A release that kept no note of lent VFs gave it to a pod.
            if original.has_a_pods_mac(&known) {
                tracing::warn!(
                    %vf, ?known, now = ?original,
                    "a free VF still has a pod's MAC address; it is given back to the earlier record of it"
                );
                give_back(host, &known)?;
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
        self.neutral(host, &vf.pci_address, &vf.pf_pci_address, vf.index, patience)
    }

    fn neutral(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        pf: &PciAddress,
        index: u32,
        patience: Duration,
    ) -> Result<VfOriginal, OriginalsError> {
        driver::ensure(host, vf, pf, None).map_err(|source| observe_error(vf, source))?;
        let found = self.observe(host, vf, pf, index, patience)?;
        tracing::warn!(
            %vf,
            "there is no record of how a VF was; it keeps its name, MAC address and MTU, and what its PF enforced for the pod goes"
        );
        Ok(VfOriginal {
            link: LinkState {
                up: false,
                promiscuous: Some(false),
                all_multicast: Some(false),
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

    /// A VF as it is now, but for what [`Originals::lend`] reads.
    pub fn observe(
        &self,
        host: &mut Host,
        vf: &PciAddress,
        pf: &PciAddress,
        index: u32,
        patience: Duration,
    ) -> Result<VfOriginal, OriginalsError> {
        let observe = |source| observe_error(vf, source);
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
            settings: None,
            enforced,
            rate_owed: false,
        })
    }

    /// The VFs that their PFs owe a rate.
    pub fn owed(&self) -> Result<Vec<VfOriginal>, OriginalsError> {
        let mut owed = Vec::new();
        for vf in self.recorded_vfs()? {
            owed.extend(self.vf(&vf)?.filter(|original| original.rate_owed));
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

    /// The record of a VF, if there is one of this boot.
    pub fn vf(&self, vf: &PciAddress) -> Result<Option<VfOriginal>, OriginalsError> {
        let record: Option<VfOriginal> = self.read(&vf_file(vf))?;
        Ok(record.filter(|record| record.boot_id == self.boot_id && record.pci_address == *vf))
    }

    /// Forgets a VF, for example because it no longer exists.
    pub fn forget_vf(&self, vf: &PciAddress) -> Result<(), OriginalsError> {
        self.remove(&vf_file(vf))?;
        is_back(&self.layout, vf);
        Ok(())
    }

    fn write_vf(&self, original: &VfOriginal) -> Result<(), OriginalsError> {
        let vf = &original.pci_address;
        self.write(&vf_file(vf), original)
    }

    fn folder(&self) -> PathBuf {
        self.layout.originals()
    }
}

/// Gives a VF back that no plan names and whose lock is held. Whether the programs of the pod that had it have ended is not known.
fn give_back(host: &mut Host, original: &VfOriginal) -> Result<(), OriginalsError> {
    let vf = &original.pci_address;
    cut_off(host, vf, &original.pf_pci_address, original.driver.as_deref())?;
    restore(host, original)
        .map(drop)
        .map_err(|source| OriginalsError::GiveBack {
            vf: vf.clone(),
            source: Box::new(source),
        })
}

fn vf_file(vf: &PciAddress) -> String {
    format!("function-{vf}")
}

fn observe_error(vf: &PciAddress, source: HostError) -> OriginalsError {
    OriginalsError::Observe {
        vf: vf.clone(),
        source: Box::new(source),
    }
}
