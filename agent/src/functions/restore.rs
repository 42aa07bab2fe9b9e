//! Gives a function back as it was found.

use std::time::Duration;

use railhead_host::{InterfaceName, Link, MacAddress, NetlinkError, SysfsError, VfError, VfKnob, VfSettings};
use thiserror::Error;

use super::{FunctionOriginal, Host, HostError, program::knob_name};

/// How long a function may take to come home from a namespace that was just deleted, or from a rebind.
const HOME: Duration = Duration::from_secs(10);

/// Why a function is not as it was found. Restoring may be tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The function or its port could not be read.
    #[error("give back function {function}: {source}")]
    Host {
        /// PCI address.
        function: String,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The port refused a setting.
    #[error("give back function {function}: {source}")]
    Set {
        /// PCI address.
        function: String,
        /// What happened.
        #[source]
        source: Box<VfError>,
    },
    /// The driver could not be bound again.
    #[error("give back function {function}: bind it to its driver again: {source}")]
    Rebind {
        /// PCI address.
        function: String,
        /// What happened.
        #[source]
        source: SysfsError,
    },
    /// The kernel reports something else than what was restored.
    #[error("function {function} is not as it was found: {}; it is tried again", differences.join(", "))]
    Differs {
        /// PCI address.
        function: String,
        /// What differs.
        differences: Vec<String>,
    },
}

/// Restores a function and reads it back. A function that no longer exists needs nothing. Idempotent.
///
/// Returns whether the port still owes it its rate: some drivers set none while their link is down.
pub fn restore(host: &mut Host, original: &FunctionOriginal) -> Result<bool, RestoreError> {
    if !host.sysfs.exists(&original.pci_address) {
        tracing::info!(function = %original.pci_address, "the function no longer exists");
        return Ok(false);
    }
    let mut step = Step { host, original };
    let link = step.link()?;
    if link.up && !original.up {
        step.host
            .route
            .set_up(link.index, false)
            .map_err(|source| step.netlink(source))?;
    }
    step.mac(&link)?;
    let enforced_left = step.enforced()?;
    let link = step.link()?;
    step.interface(&link)?;
    step.read_back(&enforced_left)?;
    Ok(enforced_left.contains(&VfKnob::Rate))
}

struct Step<'a> {
    host: &'a mut Host,
    original: &'a FunctionOriginal,
}

impl Step<'_> {
    fn name(&self) -> String {
        self.original.pci_address.to_string()
    }

    fn host_error(&self, source: HostError) -> RestoreError {
        RestoreError::Host {
            function: self.name(),
            source: Box::new(source),
        }
    }

    fn netlink(&self, source: NetlinkError) -> RestoreError {
        self.host_error(source.into())
    }

    fn link(&mut self) -> Result<Link, RestoreError> {
        self.host
            .function(&self.original.pci_address, HOME)
            .map_err(|source| self.host_error(source))
    }

    fn set(&mut self, knob: VfKnob, settings: &VfSettings) -> Result<(), RestoreError> {
        let original = self.original;
        let port = self
            .host
            .port(&original.pf_pci_address)
            .map_err(|source| self.host_error(source))?;
        self.host
            .route
            .set_vf(&port.name, port.index, original.index, knob, settings)
            .map_err(|source| RestoreError::Set {
                function: self.name(),
                source: Box::new(source),
            })
    }

    /// Takes off the administrative MAC, gives the function its own one, then puts an original administrative one back.
    /// A function refuses to change its MAC while the PF holds one for it.
    fn mac(&mut self, link: &Link) -> Result<(), RestoreError> {
        let original = self.original;
        let none = VfSettings {
            mac: Some(MacAddress::new([0; 6])),
            ..original.enforced
        };
        // igb reports a function's own MAC as the administrative one too: what differs from it was set by a person.
        let was_set = original
            .enforced
            .mac
            .is_some_and(|mac| !mac.is_zero() && Some(mac) != original.mac);
        let taken_off = self.set(VfKnob::Mac, &none);
        if let Some(mac) = original.mac
            && (link.mac != Some(mac) || taken_off.is_ok())
            && self.host.route.set_mac(link.index, mac).is_err()
        {
            self.host
                .sysfs
                .rebind(&original.pci_address)
                .map_err(|source| RestoreError::Rebind {
                    function: self.name(),
                    source,
                })?;
            let link = self.link()?;
            if link.mac != Some(mac) {
                self.host
                    .route
                    .set_mac(link.index, mac)
                    .map_err(|source| self.netlink(source))?;
            }
        }
        if was_set {
            self.set(VfKnob::Mac, &original.enforced)?;
        } else if taken_off.is_err() {
            // The driver knows no zero address; the function's own is the nearest to "none".
            let own = VfSettings {
                mac: original.mac.or(original.enforced.mac),
                ..original.enforced
            };
            self.set(VfKnob::Mac, &own)?;
        }
        Ok(())
    }

    /// The PF's other settings. Returns what the driver refused to set: a rate, while the port's link is down.
    fn enforced(&mut self) -> Result<Vec<VfKnob>, RestoreError> {
        let original = self.original;
        let state = self
            .host
            .enforced(&original.pf_pci_address, original.index)
            .map_err(|source| self.host_error(source))?;
        let mut left = Vec::new();
        for knob in state.differences(&original.enforced) {
            match self.set(knob, &original.enforced) {
                Err(RestoreError::Set { source, .. })
                    if knob != VfKnob::Vlan && matches!(*source, VfError::Unsupported { .. }) =>
                {
                    tracing::warn!(
                        function = %original.pci_address, setting = knob_name(knob), error = %source,
                        "the port refuses to give a function its setting back; the next pod's is set over it"
                    );
                    left.push(knob);
                }
                done => done?,
            }
        }
        Ok(left)
    }

    /// MTU, alias, name, alternative names, up.
    fn interface(&mut self, link: &Link) -> Result<(), RestoreError> {
        let original = self.original;
        let index = link.index;
        let route = &mut self.host.route;
        let changed = (|| {
            if link.mtu != original.mtu {
                route.set_mtu(index, original.mtu)?;
            }
            if link.alias != original.alias {
                route.set_alias(index, original.alias.as_deref().unwrap_or_default())?;
            }
            for extra in link.altnames.iter().filter(|n| !original.altnames.contains(n)) {
                route.remove_altname(index, extra)?;
            }
            if link.name != original.name
                && let Ok(name) = original.name.parse::<InterfaceName>()
            {
                match route.rename(index, &name) {
                    // Somebody else has the name now. The function is given back all the same; the read-back says so.
                    Err(error) if error.is_already_there() => {}
                    renamed => renamed?,
                }
            }
            for missing in original.altnames.iter().filter(|n| !link.altnames.contains(n)) {
                match route.add_altname(index, missing) {
                    Err(error) if error.is_already_there() => {}
                    added => added?,
                }
            }
            if original.up {
                route.set_up(index, true)?;
            }
            Ok(())
        })();
        changed.map_err(|source| self.netlink(source))
    }

    fn read_back(&mut self, left: &[VfKnob]) -> Result<(), RestoreError> {
        let original = self.original;
        let link = self.link()?;
        let state = self
            .host
            .enforced(&original.pf_pci_address, original.index)
            .map_err(|source| self.host_error(source))?;
        let mut differences: Vec<String> = state
            .differences(&original.enforced)
            .into_iter()
            .filter(|knob| !left.contains(knob))
            // Zero, own and "set by nobody" are told apart by no driver in the same way.
            .filter(|knob| *knob != VfKnob::Mac || !is_own_or_none(state.mac, original))
            .map(|knob| knob_name(knob).to_owned())
            .collect();
        differences.extend(interface_differences(&link, original));
        // A name that somebody else took meanwhile is no reason to hold the function back.
        if differences.iter().all(|difference| difference.starts_with("name")) {
            if !differences.is_empty() {
                tracing::warn!(function = %original.pci_address, ?differences, "given back under another name");
            }
            return Ok(());
        }
        Err(RestoreError::Differs {
            function: self.name(),
            differences,
        })
    }
}

/// Whether the PF holds no MAC for the function, in one of the ways in which drivers say so.
fn is_own_or_none(found: MacAddress, original: &FunctionOriginal) -> bool {
    let unset = |mac: MacAddress| mac.is_zero() || Some(mac) == original.mac;
    unset(found) && original.enforced.mac.is_none_or(unset)
}

fn interface_differences(link: &Link, original: &FunctionOriginal) -> Vec<String> {
    let mut differences = Vec::new();
    if link.name != original.name {
        differences.push(format!("name is {}, was {}", link.name, original.name));
    }
    if link.mac != original.mac {
        differences.push("own MAC address".to_owned());
    }
    if link.mtu != original.mtu {
        differences.push(format!("MTU is {}, was {}", link.mtu, original.mtu));
    }
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    if sorted(&link.altnames) != sorted(&original.altnames) {
        differences.push("alternative names".to_owned());
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original(admin: [u8; 6], own: [u8; 6]) -> FunctionOriginal {
        FunctionOriginal {
            version: 1,
            boot_id: "boot".to_owned(),
            pci_address: "0000:01:10.0".parse().unwrap(),
            pf_pci_address: "0000:01:00.0".parse().unwrap(),
            index: 0,
            name: "eth3".to_owned(),
            mac: Some(MacAddress::new(own)),
            mtu: 1500,
            up: false,
            altnames: Vec::new(),
            alias: None,
            enforced: VfSettings {
                mac: Some(MacAddress::new(admin)),
                vlan: None,
                min_rate_mbps: 0,
                max_rate_mbps: 0,
                spoof_check: true,
                trust: false,
            },
            rate_owed: false,
        }
    }

    #[test]
    fn drivers_say_in_two_ways_that_nobody_set_an_administrative_mac() {
        let (zero, own, foreign) = ([0; 6], [0xda, 1, 2, 3, 4, 5], [0x02, 0, 0, 0, 0, 9]);
        // igb reports the function's own MAC once the function has told it, others report zero.
        assert!(is_own_or_none(MacAddress::new(own), &original(zero, own)));
        assert!(is_own_or_none(MacAddress::new(zero), &original(own, own)));
        assert!(!is_own_or_none(MacAddress::new(foreign), &original(zero, own)));
        assert!(!is_own_or_none(MacAddress::new(zero), &original(foreign, own)));
    }
}
