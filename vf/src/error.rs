//! What can go wrong between us, a VF and its PF.

use std::{io, time::Duration};

use railhead_host::{
    Errno, InvalidInterfaceName, LinkSettingsError, LockError, NetlinkError, PciAddress, SysfsError, VfError, VfKnob,
};
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
    /// The VF could not be taken from its driver or given to one.
    #[error("bind VF {vf} to its driver again: {source}")]
    Bind {
        /// Which VF.
        vf: PciAddress,
        /// What the kernel said.
        #[source]
        source: SysfsError,
    },
    /// Another process binds VFs of the port.
    #[error("bind VFs of PF {pf}: {source}")]
    Lock {
        /// Which PF.
        pf: PciAddress,
        /// What happened.
        #[source]
        source: LockError,
    },
    /// It could not be noted that a port's VFs are probed for the moment.
    #[error("note below /run/railhead that PF {pf} gives its VFs to drivers for the moment: {source}; is /run full?")]
    Note {
        /// Which PF.
        pf: PciAddress,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What is set on the VF's link could not be read or set.
    #[error("the settings of VF {vf}: {source}")]
    Settings {
        /// Which VF.
        vf: PciAddress,
        /// What happened.
        #[source]
        source: Box<LinkSettingsError>,
    },
    /// The VF had an RDMA device before it was bound again, and has none now.
    #[error(
        "VF {vf} has no RDMA device with a character device {} s after it was bound to its driver again; look at dmesg",
        waited.as_secs()
    )]
    NoRdma {
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
    /// Whether the driver is busy with something that passes, for example a reset of the VF.
    pub fn is_busy(&self) -> bool {
        let (Self::Netlink(source) | Self::Vf(VfError::Netlink { source, .. } | VfError::Unsupported { source, .. })) =
            self
        else {
            return false;
        };
        matches!(source.errno(), Some(Errno::EBUSY | Errno::EAGAIN))
    }

    /// Whether the driver calls the request itself invalid.
    pub(crate) fn is_invalid(&self) -> bool {
        matches!(self, Self::Vf(VfError::Unsupported { source, .. }) if source.errno() == Some(Errno::EINVAL))
    }

    /// Whether the driver lacks the setting or refuses the value.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Vf(VfError::Unsupported { .. }))
    }
}
