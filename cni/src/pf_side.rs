//! The side of a function that its PF enforces. The agent programs it in Prepare; ADD reads it back and repairs it.

use railhead_host::{Link, NetlinkError, PciAddress, RouteSocket, Sysfs, VfError, VfKnob, VfSettings, VfState};
use thiserror::Error;

/// How the settings of a VF are read and set through its PF.
pub trait PfSide: Send + Sync {
    /// What the PF reports for VF `vf`.
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, PfSideError>;

    /// Sets what differs from `wanted`; returns what was set and what the PF reports afterwards.
    fn apply(&self, pf: &PciAddress, vf: u32, wanted: &VfSettings) -> Result<(Vec<VfKnob>, VfState), PfSideError>;
}

/// Why the PF side was not read or set.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PfSideError {
    /// The PF has no link in the host's namespace.
    #[error("PF {pf} has no interface on the host; is its driver loaded?")]
    NoLink {
        /// Which PF.
        pf: PciAddress,
    },
    /// The PF accepted a setting and does not report it.
    #[error("PF {pf} does not keep {knobs:?} of VF {vf}")]
    NotKept {
        /// Which PF.
        pf: PciAddress,
        /// Which VF.
        vf: u32,
        /// Which settings.
        knobs: Vec<VfKnob>,
    },
    /// The PF could not be looked up.
    #[error("look up PF {pf}: {source}")]
    Netlink {
        /// Which PF.
        pf: PciAddress,
        /// What happened.
        #[source]
        source: NetlinkError,
    },
    /// The PF refused.
    #[error(transparent)]
    Vf(VfError),
}

/// The real kernel.
#[derive(Debug)]
pub struct KernelPfSide {
    sysfs: Sysfs,
}

impl KernelPfSide {
    /// Finds the links of PFs by this sysfs.
    pub fn new(sysfs: Sysfs) -> Self {
        Self { sysfs }
    }

    fn find(&self, pf: &PciAddress) -> Result<(RouteSocket, Link), PfSideError> {
        let netlink = |source| PfSideError::Netlink { pf: pf.clone(), source };
        let mut socket = RouteSocket::open().map_err(netlink)?;
        match socket.function_link(&self.sysfs, pf).map_err(netlink)? {
            Some(link) => Ok((socket, link)),
            None => Err(PfSideError::NoLink { pf: pf.clone() }),
        }
    }
}

impl PfSide for KernelPfSide {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, PfSideError> {
        let (mut socket, link) = self.find(pf)?;
        socket.vf(&link.name, link.index, vf).map_err(PfSideError::Vf)
    }

    fn apply(&self, pf: &PciAddress, vf: u32, wanted: &VfSettings) -> Result<(Vec<VfKnob>, VfState), PfSideError> {
        let (mut socket, link) = self.find(pf)?;
        let set = socket
            .apply_vf(&link.name, link.index, vf, wanted)
            .map_err(PfSideError::Vf)?;
        let state = socket.vf(&link.name, link.index, vf).map_err(PfSideError::Vf)?;
        match state.differences(wanted) {
            knobs if knobs.is_empty() => Ok((set, state)),
            knobs => Err(PfSideError::NotKept {
                pf: pf.clone(),
                vf,
                knobs,
            }),
        }
    }
}
