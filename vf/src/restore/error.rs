//! Why a VF is not as it was found.

use std::fmt;

use railhead_host::{LinkSetting, PciAddress, VfKnob};
use thiserror::Error;

use crate::{Difference, HostError, OriginalsError, program::knob_name};

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
    /// It could not be noted whether its PF still owes it its rate.
    #[error("note whether the PF still owes VF {vf} its rate: {source}")]
    Owed {
        /// PCI address.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<OriginalsError>,
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

pub(super) fn words<'a>(settings: impl IntoIterator<Item = &'a LinkSetting>) -> String {
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
