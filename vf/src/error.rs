//! What can go wrong between us, a VF and its PF.

use std::time::Duration;

use railhead_host::{InvalidInterfaceName, NetlinkError, PciAddress, SysfsError, VfError, VfKnob};
use thiserror::Error;

/// Why a VF or its PF could not be read or set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Sysfs.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// The PF refused, or does not know the VF.
    #[error(transparent)]
    Vf(#[from] VfError),
    /// The PF has no link in the host's namespace.
    #[error("PF {pf} has no interface on the host; is its driver loaded?")]
    NoPfLink {
        /// Which PF.
        pf: PciAddress,
    },
    /// The VF's link is not in the host's namespace.
    #[error(
        "VF {vf} has no interface on the host after {} s; is its driver bound, does another pod still use it?",
        waited.as_secs()
    )]
    NotHome {
        /// Which VF.
        vf: PciAddress,
        /// How long was waited.
        waited: Duration,
    },
    /// The VF's link has a name that no request can carry.
    #[error("VF {vf}: {source}")]
    Name {
        /// Which VF.
        vf: PciAddress,
        /// What is wrong.
        #[source]
        source: InvalidInterfaceName,
    },
    /// The PF accepted a setting and does not report it.
    #[error("PF {pf} does not keep {knobs:?} of VF {vf}")]
    NotKept {
        /// Which PF.
        pf: PciAddress,
        /// Number of the VF.
        vf: u32,
        /// Which settings.
        knobs: Vec<VfKnob>,
    },
}

impl HostError {
    /// Whether the driver lacks the setting or refuses the value.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Vf(VfError::Unsupported { .. }))
    }
}
