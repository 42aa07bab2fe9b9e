//! Gives a VF back as it was found.

mod error;
mod settings;

use std::time::Duration;

use railhead_host::{Link, MacAddress, NetlinkError, VfKnob, VfSettings};

pub use error::RestoreError;

use crate::{
    Difference, Host, HostError, Originals, VfOriginal, driver,
    originals::is_back,
    pf_side::{set_at_once_patiently, set_patiently},
    program::knob_name,
};

/// How long a VF may take to come home from a namespace that was just deleted, or from a rebind.
const HOME: Duration = Duration::from_secs(10);

/// Restores a VF and reads it back. A VF that no longer exists needs nothing. Idempotent.
///
/// Returns whether the PF still owes it its rate, which is noted then: some drivers set none while their link is down.
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
    let owed = left.contains(&VfKnob::Rate);
    // While the note of a lent VF is there, a process that is killed here has given nothing back, and the rate is not forgotten.
    Originals::new(&host.layout, &original.boot_id)
        .owe_rate(original, owed)
        .map_err(|source| RestoreError::Owed {
            vf: vf.clone(),
            source: Box::new(source),
        })?;
    is_back(&host.layout, vf);
    Ok(owed)
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
