//! Programs a VF for a pod, through its PF, and reads everything back.

use std::{iter, time::Duration};

use railhead_host::{InterfaceName, Link, MacAddress, NetlinkError, PciAddress, VfKnob, VfLinkState, VfSettings};
use railhead_plan::RailPlan;
use thiserror::Error;

use crate::{
    Host, HostError, driver,
    pf_side::{set_at_once_patiently, set_patiently},
};

/// How long a free VF's interface is waited for.
const HOME: Duration = Duration::from_secs(2);

/// Why a VF could not be programmed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The VF or its PF could not be read or refused a setting.
    #[error("rail {rail}: {source}")]
    Host {
        /// Rail name.
        rail: InterfaceName,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The PF cannot limit the rate of a VF.
    #[error(
        "rail {rail}: PF {pf} cannot limit VF {vf} to {maximum} Mbit/s (is its link up?): {source}; use a QosClass without bandwidth.maximum on this hardware"
    )]
    NoRateLimit {
        /// Rail name.
        rail: InterfaceName,
        /// PCI address of the PF.
        pf: PciAddress,
        /// PCI address of the VF.
        vf: PciAddress,
        /// Mbit/s.
        maximum: u32,
        /// What the kernel said.
        #[source]
        source: Box<HostError>,
    },
    /// The kernel reports something else than was set.
    #[error(
        "rail {rail}: VF {vf} does not hold its {what} after it was set (reads {found}, wanted {wanted}); look at the driver's messages in dmesg"
    )]
    ReadBack {
        /// Rail name.
        rail: InterfaceName,
        /// PCI address of the VF.
        vf: PciAddress,
        /// Which setting.
        what: &'static str,
        /// As read.
        found: String,
        /// As wanted.
        wanted: String,
    },
}

/// What a rail of the plan wants the PF to enforce.
pub fn pf_settings(rail: &RailPlan) -> VfSettings {
    VfSettings {
        mac: Some(rail.mac),
        vlan: rail.vf.vlan,
        min_rate_mbps: rail.vf.min_rate_mbps,
        max_rate_mbps: rail.vf.max_rate_mbps,
        spoof_check: rail.vf.spoof_check,
        trust: rail.vf.trust,
        // A former owner may have left it at `disable`, and the VF would wait for a signal in vain.
        link_state: Some(VfLinkState::Auto),
    }
}

/// Programs the VF of `rail`, which is in the host's namespace, and reads back what took effect.
///
/// Returns whether the PF enforces the plan's minimum rate. Where it does not, the rail's plan has to say 0, or ADD would
/// try it again. Idempotent.
pub fn program(host: &mut Host, rail: &RailPlan) -> Result<bool, ProgramError> {
    driver::ensure(host, &rail.vf.pci_address, &rail.vf.pf_pci_address, None).map_err(|source| error(rail, source))?;
    let mut step = Step { host, rail };
    step.set_own_mac()?;
    let mut settings = pf_settings(rail);
    let enforces_minimum = step.set_pf_side(&mut settings)?;
    step.take_over_mac()?;
    step.read_back(&settings)?;
    Ok(enforces_minimum)
}

fn error(rail: &RailPlan, source: HostError) -> ProgramError {
    ProgramError::Host {
        rail: rail.name.clone(),
        source: Box::new(source),
    }
}

struct Step<'a> {
    host: &'a mut Host,
    rail: &'a RailPlan,
}

impl Step<'_> {
    fn error(&self, source: HostError) -> ProgramError {
        error(self.rail, source)
    }

    fn netlink(&self, source: NetlinkError) -> ProgramError {
        self.error(source.into())
    }

    fn link(&mut self, patience: Duration) -> Result<Link, ProgramError> {
        self.host
            .vf(&self.rail.vf.pci_address, patience)
            .map_err(|source| self.error(source))
    }

    fn set(&self, knob: VfKnob, settings: &VfSettings) -> Result<(), HostError> {
        let vf = &self.rail.vf;
        set_patiently(self.host.pf_side.as_ref(), &vf.pf_pci_address, vf.index, knob, settings)
    }

    fn set_admin_mac(&self, mac: MacAddress) -> Result<(), HostError> {
        let settings = VfSettings {
            mac: Some(mac),
            ..pf_settings(self.rail)
        };
        self.set(VfKnob::Mac, &settings)
    }

    /// The VF's own MAC first, then the administrative one. Drivers refuse to change the former while the latter is set
    /// (igbvf: EADDRNOTAVAIL), and some take over the latter only when they are bound again, which costs far more.
    fn set_own_mac(&mut self) -> Result<(), ProgramError> {
        let mac = self.rail.mac;
        let link = self.link(HOME)?;
        if link.mac != Some(mac) {
            if link.up {
                self.host
                    .route
                    .set_up(link.index, false)
                    .map_err(|source| self.netlink(source))?;
            }
            if self.host.route.set_mac(link.index, mac).is_err() {
                // An administrative MAC is in the way. Zero takes it off; a driver that refuses that is handled below.
                let _ = self.set_admin_mac(MacAddress::new([0; 6]));
                let _ = self.host.route.set_mac(link.index, mac);
            }
        }
        Ok(())
    }

    /// Sees to it that the VF has taken the administrative MAC over, and mlx5 the node GUID that it makes of it. A driver that
    /// was bound again takes it over, or has its own one and takes it now.
    fn take_over_mac(&mut self) -> Result<(), ProgramError> {
        let mac = self.rail.mac;
        let link = self.link(HOME)?;
        let refuses = link.mac != Some(mac) && self.host.route.set_mac(link.index, mac).is_err();
        let vf = &self.rail.vf.pci_address;
        let without_guid = driver::lacks_node_guid(&self.host.sysfs, vf).map_err(|source| self.error(source))?;
        if !refuses && !without_guid {
            return Ok(());
        }
        driver::rebind(self.host, vf, &self.rail.vf.pf_pci_address, None).map_err(|source| error(self.rail, source))?;
        if driver::lacks_node_guid(&self.host.sysfs, vf).map_err(|source| self.error(source))? {
            tracing::warn!(%vf, "the VF's RDMA device has no node GUID; programs that use rdma_cm will not work over it");
        }
        let link = self.link(HOME)?;
        if link.mac != Some(mac) {
            self.host
                .route
                .set_mac(link.index, mac)
                .map_err(|source| self.netlink(source))?;
        }
        Ok(())
    }

    /// The administrative MAC, and what else differs. A minimum rate that the PF does not know becomes 0 in `settings`.
    fn set_pf_side(&mut self, settings: &mut VfSettings) -> Result<bool, ProgramError> {
        let vf = &self.rail.vf;
        let state = self
            .host
            .enforced(&vf.pf_pci_address, vf.index)
            .map_err(|source| self.error(source))?;
        let mut enforces_minimum = settings.min_rate_mbps > 0;
        // The MAC even where it reads equal: igb reports the VF's own MAC there, and only a set one binds the VF.
        let rest = state
            .differences(settings)
            .into_iter()
            .filter(|knob| *knob != VfKnob::Mac);
        let knobs: Vec<VfKnob> = iter::once(VfKnob::Mac).chain(rest).collect();
        let pf_side = self.host.pf_side.as_ref();
        // Each request takes the lock of all links.
        if set_at_once_patiently(pf_side, &vf.pf_pci_address, vf.index, &knobs, settings).is_ok() {
            return Ok(enforces_minimum);
        }
        // One by one; what was set before the one that was refused is not set again.
        self.set_admin_mac(self.rail.mac).map_err(|source| self.error(source))?;
        let state = self
            .host
            .enforced(&vf.pf_pci_address, vf.index)
            .map_err(|source| self.error(source))?;
        for knob in state.differences(settings) {
            match self.set(knob, settings) {
                Ok(()) => {}
                Err(error) if error.is_unsupported() && knob == VfKnob::Rate && settings.min_rate_mbps > 0 => {
                    enforces_minimum = false;
                    settings.min_rate_mbps = 0;
                    if state.differences(settings).contains(&VfKnob::Rate) {
                        self.set(VfKnob::Rate, settings)
                            .map_err(|source| self.rate_refused(settings, source))?;
                    }
                }
                Err(source) if knob == VfKnob::Rate => return Err(self.rate_refused(settings, source)),
                Err(source) => return Err(self.error(source)),
            }
        }
        Ok(enforces_minimum)
    }

    fn rate_refused(&self, settings: &VfSettings, source: HostError) -> ProgramError {
        ProgramError::NoRateLimit {
            rail: self.rail.name.clone(),
            pf: self.rail.vf.pf_pci_address.clone(),
            vf: self.rail.vf.pci_address.clone(),
            maximum: settings.max_rate_mbps,
            source: Box::new(source),
        }
    }

    fn read_back(&mut self, settings: &VfSettings) -> Result<(), ProgramError> {
        let vf = &self.rail.vf;
        let differs = |what, found: String, wanted: String| ProgramError::ReadBack {
            rail: self.rail.name.clone(),
            vf: vf.pci_address.clone(),
            what,
            found,
            wanted,
        };
        let state = self
            .host
            .enforced(&vf.pf_pci_address, vf.index)
            .map_err(|source| self.error(source))?;
        if let Some(knob) = state.differences(settings).first() {
            return Err(differs(
                knob_name(*knob),
                format!("{:?}", state.settings()),
                format!("{settings:?}"),
            ));
        }
        let own = self.link(HOME)?.mac;
        if own == Some(self.rail.mac) {
            Ok(())
        } else {
            let found = own.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            Err(differs("own MAC address", found, self.rail.mac.to_string()))
        }
    }
}

/// A setting in words.
pub(crate) fn knob_name(knob: VfKnob) -> &'static str {
    match knob {
        VfKnob::Mac => "administrative MAC address",
        VfKnob::Vlan => "VLAN",
        VfKnob::Rate => "rate",
        VfKnob::SpoofCheck => "spoof check",
        VfKnob::Trust => "trust",
        VfKnob::LinkState => "link state",
        _ => "setting",
    }
}
