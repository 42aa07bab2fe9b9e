//! The side of a VF that its PF enforces. Prepare programs it; ADD reads it back and repairs it.

use railhead_host::{Link, PciAddress, RouteSocket, Sysfs, VfKnob, VfSettings, VfState};

use crate::HostError;

/// How the settings of a VF are read and set through its PF.
pub trait PfSide: Send + Sync {
    /// What the PF reports for VF `vf`.
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError>;

    /// Sets one setting of VF `vf` to what `wanted` says of it.
    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError>;

    /// Sets what differs from `wanted`; returns what was set and what the PF reports afterwards.
    fn apply(&self, pf: &PciAddress, vf: u32, wanted: &VfSettings) -> Result<(Vec<VfKnob>, VfState), HostError> {
        let found = self.read(pf, vf)?;
        let set = found.differences(wanted);
        // Reading is a firmware command per VF of the port with some drivers (mlx5), under the lock of all links.
        if set.is_empty() {
            return Ok((set, found));
        }
        for knob in &set {
            self.set(pf, vf, *knob, wanted)?;
        }
        let state = self.read(pf, vf)?;
        match state.differences(wanted) {
            knobs if knobs.is_empty() => Ok((set, state)),
            knobs => Err(HostError::NotKept {
                pf: pf.clone(),
                vf,
                knobs,
            }),
        }
    }
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

    fn find(&self, pf: &PciAddress) -> Result<(RouteSocket, Link), HostError> {
        let mut socket = RouteSocket::open()?;
        let link = socket
            .function_link(&self.sysfs, pf)?
            .ok_or_else(|| HostError::NoPfLink { pf: pf.clone() })?;
        Ok((socket, link))
    }
}

impl PfSide for KernelPfSide {
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError> {
        let (mut socket, link) = self.find(pf)?;
        Ok(socket.vf(&link.name, link.index, vf)?)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        let (mut socket, link) = self.find(pf)?;
        Ok(socket.set_vf(&link.name, link.index, vf, knob, wanted)?)
    }
}
