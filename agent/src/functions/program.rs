//! Programs a function for a pod, through its PF, and reads everything back.

use std::time::Duration;

use railhead_host::{
    InterfaceName, Link, MacAddress, NetlinkError, PciAddress, SysfsError, VfError, VfKnob, VfSettings,
};
use railhead_plan::RailPlan;
use thiserror::Error;

use super::{Host, HostError, host::PortLink};

/// How long a driver may take to bring a function's interface back after a rebind.
const REBIND: Duration = Duration::from_secs(10);
/// How long a free function's interface is waited for.
const HOME: Duration = Duration::from_secs(2);

/// Why a function could not be programmed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The function or its port could not be read.
    #[error("rail {rail}: {source}")]
    Host {
        /// Rail name.
        rail: InterfaceName,
        /// What happened.
        #[source]
        source: Box<HostError>,
    },
    /// The port refused a setting.
    #[error("rail {rail}: {source}")]
    Set {
        /// Rail name.
        rail: InterfaceName,
        /// What happened.
        #[source]
        source: Box<VfError>,
    },
    /// The port cannot limit the rate of a function.
    #[error(
        "rail {rail}: port {port} cannot limit function {function} to {maximum} Mbit/s (is its link up?): {source}; use a QosClass without bandwidth.maximum on this hardware"
    )]
    NoRateLimit {
        /// Rail name.
        rail: InterfaceName,
        /// PCI address of the port.
        port: PciAddress,
        /// PCI address of the function.
        function: PciAddress,
        /// Mbit/s.
        maximum: u32,
        /// What the kernel said.
        #[source]
        source: Box<VfError>,
    },
    /// The driver could not be bound again.
    #[error("rail {rail}: bind function {function} to its driver again: {source}")]
    Rebind {
        /// Rail name.
        rail: InterfaceName,
        /// PCI address of the function.
        function: PciAddress,
        /// What happened.
        #[source]
        source: SysfsError,
    },
    /// The kernel reports something else than was set.
    #[error(
        "rail {rail}: function {function} does not hold its {what} after it was set (reads {found}, wanted {wanted}); look at the driver's messages in dmesg"
    )]
    ReadBack {
        /// Rail name.
        rail: InterfaceName,
        /// PCI address of the function.
        function: PciAddress,
        /// Which setting.
        what: &'static str,
        /// As read.
        found: String,
        /// As wanted.
        wanted: String,
    },
}

/// What the plan wants the PF to enforce.
pub(super) fn wanted(rail: &RailPlan, mac: MacAddress) -> VfSettings {
    VfSettings {
        mac: Some(mac),
        vlan: rail.vf.vlan,
        min_rate_mbps: rail.vf.min_rate_mbps,
        max_rate_mbps: rail.vf.max_rate_mbps,
        spoof_check: rail.vf.spoof_check,
        trust: rail.vf.trust,
    }
}

/// Programs the function of `rail`, which is in the host's namespace, and reads back what took effect.
///
/// Returns whether the port enforces the plan's minimum rate. Where it does not, the rail's plan has to say 0, or ADD would
/// try it again. Idempotent.
pub fn program(host: &mut Host, rail: &RailPlan) -> Result<bool, ProgramError> {
    let (function, pf, mac) = (rail.vf.pci_address.clone(), rail.vf.pf_pci_address.clone(), rail.mac);
    let mut step = Step {
        port: host.port(&pf).map_err(|source| host_error(rail, source))?,
        host,
        rail,
        function,
        pf,
    };
    step.set_mac(mac)?;
    let mut settings = wanted(rail, mac);
    let enforces_minimum = step.set_rest(&mut settings)?;
    step.read_back(mac, &settings)?;
    Ok(enforces_minimum)
}

fn host_error(rail: &RailPlan, source: HostError) -> ProgramError {
    ProgramError::Host {
        rail: rail.name.clone(),
        source: Box::new(source),
    }
}

struct Step<'a> {
    host: &'a mut Host,
    rail: &'a RailPlan,
    function: PciAddress,
    pf: PciAddress,
    port: PortLink,
}

impl Step<'_> {
    fn link(&mut self, patience: Duration) -> Result<Link, ProgramError> {
        self.host
            .function(&self.function, patience)
            .map_err(|source| host_error(self.rail, source))
    }

    fn netlink(&self, source: NetlinkError) -> ProgramError {
        host_error(self.rail, source.into())
    }

    fn set_admin_mac(&mut self, mac: MacAddress) -> Result<(), VfError> {
        let settings = wanted(self.rail, mac);
        self.host.route.set_vf(
            &self.port.name,
            self.port.index,
            self.rail.vf.index,
            VfKnob::Mac,
            &settings,
        )
    }

    /// The function's own MAC first, then the administrative one. Drivers refuse to change the former while the latter is
    /// set (igbvf: EADDRNOTAVAIL), and some take over the latter only when they are bound again, which costs far more.
    fn set_mac(&mut self, mac: MacAddress) -> Result<(), ProgramError> {
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
        // Set even where it reads equal: igb reports the function's own MAC there, and only a set one binds the function.
        self.set_admin_mac(mac).map_err(|source| ProgramError::Set {
            rail: self.rail.name.clone(),
            source: Box::new(source),
        })?;
        let link = self.link(HOME)?;
        if link.mac != Some(mac) && self.host.route.set_mac(link.index, mac).is_err() {
            self.host
                .sysfs
                .rebind(&self.function)
                .map_err(|source| ProgramError::Rebind {
                    rail: self.rail.name.clone(),
                    function: self.function.clone(),
                    source,
                })?;
            self.link(REBIND)?;
        }
        Ok(())
    }

    /// Everything but the MAC, as far as it differs. A minimum rate that the port does not know becomes 0 in `settings`.
    fn set_rest(&mut self, settings: &mut VfSettings) -> Result<bool, ProgramError> {
        let state = self
            .host
            .enforced(&self.pf, self.rail.vf.index)
            .map_err(|source| host_error(self.rail, source))?;
        let mut enforces_minimum = settings.min_rate_mbps > 0;
        for knob in state.differences(settings) {
            match self.set(knob, settings) {
                Ok(()) => {}
                Err(VfError::Unsupported { .. }) if knob == VfKnob::Rate && settings.min_rate_mbps > 0 => {
                    enforces_minimum = false;
                    settings.min_rate_mbps = 0;
                    if state.differences(settings).contains(&VfKnob::Rate) {
                        self.set(VfKnob::Rate, settings)
                            .map_err(|source| self.rate_refused(settings, source))?;
                    }
                }
                Err(source) if knob == VfKnob::Rate => {
                    return Err(self.rate_refused(settings, source));
                }
                Err(source) => {
                    return Err(ProgramError::Set {
                        rail: self.rail.name.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
        Ok(enforces_minimum)
    }

    fn set(&mut self, knob: VfKnob, settings: &VfSettings) -> Result<(), VfError> {
        self.host
            .route
            .set_vf(&self.port.name, self.port.index, self.rail.vf.index, knob, settings)
    }

    fn rate_refused(&self, settings: &VfSettings, source: VfError) -> ProgramError {
        ProgramError::NoRateLimit {
            rail: self.rail.name.clone(),
            port: self.pf.clone(),
            function: self.function.clone(),
            maximum: settings.max_rate_mbps,
            source: Box::new(source),
        }
    }

    fn read_back(&mut self, mac: MacAddress, settings: &VfSettings) -> Result<(), ProgramError> {
        let differs = |what, found: String, wanted: String| ProgramError::ReadBack {
            rail: self.rail.name.clone(),
            function: self.function.clone(),
            what,
            found,
            wanted,
        };
        let state = self
            .host
            .enforced(&self.pf, self.rail.vf.index)
            .map_err(|source| host_error(self.rail, source))?;
        if let Some(knob) = state.differences(settings).first() {
            return Err(differs(
                knob_name(*knob),
                format!("{:?}", state.settings()),
                format!("{settings:?}"),
            ));
        }
        let own = self.host.function(&self.function, HOME);
        let own = own.map_err(|source| host_error(self.rail, source))?.mac;
        if own == Some(mac) {
            Ok(())
        } else {
            let found = own.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
            Err(differs("own MAC address", found, mac.to_string()))
        }
    }
}

/// A setting in words.
pub(super) fn knob_name(knob: VfKnob) -> &'static str {
    match knob {
        VfKnob::Mac => "administrative MAC address",
        VfKnob::Vlan => "VLAN",
        VfKnob::Rate => "rate",
        VfKnob::SpoofCheck => "spoof check",
        VfKnob::Trust => "trust",
        _ => "setting",
    }
}
