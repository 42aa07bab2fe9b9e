//! Gives a VF back as it was found.

use std::{collections::BTreeSet, fmt, time::Duration};

use railhead_host::{Link, LinkOptions, LinkSetting, MacAddress, NetlinkError, PciAddress, VfKnob, VfSettings};
use thiserror::Error;

use crate::{
    Difference, Host, HostError, VfOriginal, driver,
    originals::is_back,
    pf_side::{set_at_once_patiently, set_patiently},
    program::knob_name,
};

/// How long a VF may take to come home from a namespace that was just deleted, or from a rebind.
const HOME: Duration = Duration::from_secs(10);

/// Why a VF is not as it was found. Restoring may be tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The VF or its PF could not be read or refused a setting.
    #[error("give back VF {vf}: {source}")]
    Host {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// A pod set on the link what would harm the next one, and it cannot be taken off.
    #[error(
        "VF {vf}: its link keeps what a pod set on it ({}), also after its driver was bound again; look at dmesg, or reset the VF (echo 1 > /sys/bus/pci/devices/{vf}/reset)",
        words(left)
    )]
    Left {
        /// PCI address.
        vf: PciAddress,
        /// What stays.
        left: Vec<LinkSetting>,
    },
    /// The kernel reports something else than what was restored.
    #[error("VF {vf} is not as it was found: {}; it is tried again", Listed(knobs, differences))]
    Differs {
        /// PCI address.
        vf: PciAddress,
        /// What the PF reports otherwise.
        knobs: Vec<VfKnob>,
        /// What of the link differs.
        differences: Vec<Difference>,
    },
}

fn words<'a>(settings: impl IntoIterator<Item = &'a LinkSetting>) -> String {
    let words: Vec<String> = settings.into_iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// What differs, in words.
struct Listed<'a>(&'a [VfKnob], &'a [Difference]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let knobs = self.0.iter().map(|knob| knob_name(*knob).to_owned());
        let words: Vec<String> = knobs.chain(self.1.iter().map(ToString::to_string)).collect();
        f.write_str(&words.join(", "))
    }
}

/// Restores a VF and reads it back. A VF that no longer exists needs nothing. Idempotent.
///
/// Returns whether the PF still owes it its rate: some drivers set none while their link is down.
pub fn restore(host: &mut Host, original: &VfOriginal) -> Result<bool, RestoreError> {
    if !host.sysfs.exists(&original.pci_address) {
        tracing::info!(vf = %original.pci_address, "the VF no longer exists");
        is_back(&host.layout, &original.pci_address);
        return Ok(false);
    }
    let (vf, pf) = (&original.pci_address, &original.pf_pci_address);
    driver::ensure(host, vf, pf, original.driver.as_deref()).map_err(|source| error(original, source))?;
    let mut step = Step { host, original };
    let link = step.link()?;
    // Drivers take a name, a MAC address and an MTU from a link that is down only.
    if link.up && !original.link.up {
        step.set_up(&link, false)?;
    }
    let link = step.settings(link)?;
    if step.mac(&link)? {
        // Its link is a new one.
        let link = step.link()?;
        step.settings(link)?;
    }
    let left = step.enforced()?;
    let link = step.link()?;
    step.interface(&link)?;
    step.read_back(&left)?;
    is_back(&host.layout, &original.pci_address);
    Ok(left.contains(&VfKnob::Rate))
}

fn error(original: &VfOriginal, source: HostError) -> RestoreError {
    RestoreError::Host {
        vf: original.pci_address.clone(),
        source: Box::new(source),
    }
}

struct Step<'a> {
    host: &'a mut Host,
    original: &'a VfOriginal,
}

impl Step<'_> {
    fn error(&self, source: HostError) -> RestoreError {
        error(self.original, source)
    }

    fn netlink(&self, source: NetlinkError) -> RestoreError {
        self.error(source.into())
    }

    fn link(&mut self) -> Result<Link, RestoreError> {
        self.host
            .vf(&self.original.pci_address, HOME)
            .map_err(|source| self.error(source))
    }

    fn set_up(&mut self, link: &Link, up: bool) -> Result<(), RestoreError> {
        self.host
            .route
            .set_up(link.index, up)
            .map_err(|source| self.netlink(source))
    }

    fn set(&self, knob: VfKnob, settings: &VfSettings) -> Result<(), HostError> {
        let (pf, index) = (&self.original.pf_pci_address, self.original.index);
        set_patiently(self.host.pf_side.as_ref(), pf, index, knob, settings)
    }

    /// Takes off what its holder set on the link beside what an attachment sets. What no request takes off goes with the link,
    /// when the VF is bound to its driver again: the kernel makes a new one (`register_netdevice`), and XDP programs go with the
    /// old one (`dev_xdp_uninstall`, net/core/dev.c). Returns the VF's link.
    fn settings(&mut self, link: Link) -> Result<Link, RestoreError> {
        let vf = &self.original.pci_address;
        let mut left = self.restore_settings(&link)?;
        let mut link = link;
        if !left.is_empty() && self.host.sysfs.driver(vf).is_some() {
            tracing::warn!(
                %vf, left = words(&left),
                "a pod left settings on a VF that no request takes off; it is bound to its driver again"
            );
            self.rebind()?;
            link = self.link()?;
            if link.up && !self.original.link.up {
                self.set_up(&link, false)?;
            }
            left = self.restore_settings(&link)?;
        }
        let (harmful, harmless): (Vec<_>, Vec<_>) = left.into_iter().partition(|setting| setting.harms());
        if !harmful.is_empty() {
            return Err(RestoreError::Left {
                vf: vf.clone(),
                left: harmful,
            });
        }
        if !harmless.is_empty() {
            tracing::warn!(
                %vf, left = words(&harmless),
                "the link of a VF is not set as it was found; the next pod gets it so"
            );
        }
        Ok(link)
    }

    fn restore_settings(&mut self, link: &Link) -> Result<BTreeSet<LinkSetting>, RestoreError> {
        let vf = &self.original.pci_address;
        let known = match &self.original.settings {
            Some(settings) => Ok(Some(settings.clone())),
            // A release that did not record them had lent the VF.
            None => self.host.link_settings(vf, link.index).map(|found| {
                found.map(|mut found| {
                    found.options.flags = LinkOptions::FRESH;
                    found
                })
            }),
        };
        let Some(mut wanted) = known.map_err(|source| self.error(source))? else {
            return Ok(BTreeSet::new());
        };
        // A VF that nobody uses needs none of them, and what is there by now may be a pod's in place of what was found.
        wanted.options.xdp.clear();
        wanted.filter_rules = wanted.filter_rules.map(|_| 0);
        wanted.tc_programs = wanted.tc_programs.map(|_| 0);
        // The record of its link tells them.
        wanted.options.promiscuous = self.original.link.promiscuous.unwrap_or_default();
        wanted.options.all_multicast = self.original.link.all_multicast.unwrap_or_default();
        wanted.options.tx_queue_len = self.original.link.tx_queue_len.unwrap_or(wanted.options.tx_queue_len);
        self.host
            .restore_link_settings(vf, link.index, &wanted)
            .map_err(|source| self.error(source))
    }

    fn rebind(&mut self) -> Result<(), RestoreError> {
        let original = self.original;
        let (vf, pf) = (&original.pci_address, &original.pf_pci_address);
        driver::rebind(self.host, vf, pf, original.driver.as_deref()).map_err(|source| error(original, source))
    }

    /// Takes off the administrative MAC, gives the VF its own one, then puts an original administrative one back. A VF refuses
    /// to change its MAC while the PF holds one for it. Returns whether it was bound to its driver again.
    fn mac(&mut self, link: &Link) -> Result<bool, RestoreError> {
        let original = self.original;
        let none = VfSettings {
            mac: Some(MacAddress::new([0; 6])),
            ..original.enforced
        };
        let mut rebound = false;
        let taken_off = self.set(VfKnob::Mac, &none);
        if let Some(mac) = original.link.mac
            && (link.mac != Some(mac) || taken_off.is_ok())
            && self.host.route.set_mac(link.index, mac).is_err()
        {
            self.rebind()?;
            rebound = true;
            let link = self.link()?;
            if link.mac != Some(mac) {
                self.host
                    .route
                    .set_mac(link.index, mac)
                    .map_err(|source| self.netlink(source))?;
            }
        }
        if taken_off.is_err() {
            // The driver knows no zero address; the VF's own is the nearest to "none".
            let own = VfSettings {
                mac: original.link.mac.or(original.enforced.mac),
                ..original.enforced
            };
            self.set(VfKnob::Mac, &own).map_err(|source| self.error(source))?;
        }
        // igb reports the VF's own MAC by itself as soon as the VF has told it, and setting it there would bind the VF. mlx5
        // reports what was set last and makes the VF's node GUID of it, so zero would not be what was found; nor would it be
        // where a person had set another one.
        let reported = self
            .host
            .enforced(&original.pf_pci_address, original.index)
            .map_err(|source| self.error(source))?
            .mac;
        if original
            .enforced
            .mac
            .is_some_and(|mac| !mac.is_zero() && mac != reported)
        {
            self.set(VfKnob::Mac, &original.enforced)
                .map_err(|source| self.error(source))?;
        }
        Ok(rebound)
    }

    /// The PF's other settings. Returns what the driver refused to set: a rate, while the PF's link is down.
    fn enforced(&mut self) -> Result<Vec<VfKnob>, RestoreError> {
        let original = self.original;
        let state = self
            .host
            .enforced(&original.pf_pci_address, original.index)
            .map_err(|source| self.error(source))?;
        let knobs = state.differences(&original.enforced);
        let pf_side = self.host.pf_side.as_ref();
        let (pf, index) = (&original.pf_pci_address, original.index);
        if set_at_once_patiently(pf_side, pf, index, &knobs, &original.enforced).is_ok() {
            return Ok(Vec::new());
        }
        let mut left = Vec::new();
        for knob in knobs {
            match self.set(knob, &original.enforced) {
                Err(error) if knob != VfKnob::Vlan && error.is_unsupported() => {
                    tracing::warn!(
                        vf = %original.pci_address, setting = knob_name(knob), %error,
                        "the PF refuses to give a VF its setting back; the next pod's is set over it"
                    );
                    left.push(knob);
                }
                done => done.map_err(|source| self.error(source))?,
            }
        }
        Ok(left)
    }

    /// MTU, alias, names, up.
    fn interface(&mut self, link: &Link) -> Result<(), RestoreError> {
        let original = self.original;
        for refused in original
            .link
            .put_back(&mut self.host.route, &original.pci_address, link)
        {
            // The read-back tells whether it matters.
            tracing::warn!(vf = %original.pci_address, error = %refused, "not put back");
        }
        if original.link.up {
            self.set_up(link, true)?;
        }
        Ok(())
    }

    fn read_back(&mut self, left: &[VfKnob]) -> Result<(), RestoreError> {
        let original = self.original;
        let link = self.link()?;
        let state = self
            .host
            .enforced(&original.pf_pci_address, original.index)
            .map_err(|source| self.error(source))?;
        let knobs: Vec<VfKnob> = state
            .differences(&original.enforced)
            .into_iter()
            .filter(|knob| !left.contains(knob))
            // Zero, own and "set by nobody" are told apart by no driver in the same way.
            .filter(|knob| *knob != VfKnob::Mac || !is_own_or_none(state.mac, original))
            .collect();
        // A name that somebody else took meanwhile is no reason to hold the VF back.
        let (names, differences): (Vec<_>, Vec<_>) = original
            .link
            .differences(&link)
            .into_iter()
            .partition(Difference::is_a_taken_name);
        for name in &names {
            tracing::warn!(vf = %original.pci_address, %name, "given back under other names");
        }
        if knobs.is_empty() && differences.is_empty() {
            return Ok(());
        }
        Err(RestoreError::Differs {
            vf: original.pci_address.clone(),
            knobs,
            differences,
        })
    }
}

/// Whether the PF holds no MAC for the VF, in one of the ways in which drivers say so.
fn is_own_or_none(found: MacAddress, original: &VfOriginal) -> bool {
    let unset = |mac: MacAddress| mac.is_zero() || Some(mac) == original.link.mac;
    unset(found) && original.enforced.mac.is_none_or(unset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkState;

    fn original(admin: [u8; 6], own: [u8; 6]) -> VfOriginal {
        VfOriginal {
            version: 1,
            boot_id: "boot".to_owned(),
            pci_address: "0000:01:10.0".parse().unwrap(),
            pf_pci_address: "0000:01:00.0".parse().unwrap(),
            index: 0,
            driver: None,
            link: LinkState {
                name: "eth3".parse().unwrap(),
                mac: Some(MacAddress::new(own)),
                mtu: 1500,
                up: false,
                altnames: Vec::new(),
                alias: None,
                promiscuous: Some(false),
                all_multicast: Some(false),
                tx_queue_len: None,
            },
            settings: None,
            enforced: VfSettings {
                mac: Some(MacAddress::new(admin)),
                vlan: None,
                min_rate_mbps: 0,
                max_rate_mbps: 0,
                spoof_check: true,
                trust: false,
                link_state: None,
            },
            rate_owed: false,
        }
    }

    #[test]
    fn drivers_say_in_two_ways_that_nobody_set_an_administrative_mac() {
        let (zero, own, foreign) = ([0; 6], [0xda, 1, 2, 3, 4, 5], [0x02, 0, 0, 0, 0, 9]);
        // igb reports the VF's own MAC once the VF has told it, others report zero.
        assert!(is_own_or_none(MacAddress::new(own), &original(zero, own)));
        assert!(is_own_or_none(MacAddress::new(zero), &original(own, own)));
        assert!(!is_own_or_none(MacAddress::new(foreign), &original(zero, own)));
        assert!(!is_own_or_none(MacAddress::new(zero), &original(foreign, own)));
    }
}
