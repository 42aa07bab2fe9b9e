//! The side of a VF that its PF enforces. Prepare programs it; ADD reads it back and repairs it.

use std::{
    thread,
    time::{Duration, Instant},
};

use railhead_host::{Link, PciAddress, RouteSocket, Sysfs, VfKnob, VfSettings, VfState};

use crate::{HostError, POLL};

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
            set_patiently(self, pf, vf, *knob, wanted)?;
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

/// How long a VF may be in a reset.
pub(crate) const RESET: Duration = Duration::from_secs(5);

/// As [`PfSide::set`], asking again while the driver is busy. ice and i40e reset a VF for every MAC address, VLAN and trust that
/// is set on it, and answer EAGAIN or EBUSY to the next setting until the VF's driver is back (`ice_check_vf_ready_for_cfg`,
/// drivers/net/ethernet/intel/ice/ice_vf_lib.c).
pub(crate) fn set_patiently<P: PfSide + ?Sized>(
    pf_side: &P,
    pf: &PciAddress,
    vf: u32,
    knob: VfKnob,
    wanted: &VfSettings,
) -> Result<(), HostError> {
    let start = Instant::now();
    loop {
        match pf_side.set(pf, vf, knob, wanted) {
            Err(error) if error.is_busy() && start.elapsed() < RESET => thread::sleep(POLL),
            done => return done,
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
