//! The side of a VF that its PF enforces. Prepare programs it; ADD reads it back and repairs it.

use std::{
    thread,
    time::{Duration, Instant},
};

use railhead_host::{FunctionLink, Link, PciAddress, RouteSocket, Sysfs, VfKnob, VfSettings, VfState};

use crate::{HostError, POLL};

/// How the settings of a VF are read and set through its PF.
pub trait PfSide: Send + Sync {
    /// What the PF reports for VF `vf`.
    fn read(&self, pf: &PciAddress, vf: u32) -> Result<VfState, HostError>;

    /// Sets one setting of VF `vf` to what `wanted` says of it.
    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError>;

    /// Sets several settings of VF `vf` in one request, where that can be. An error neither says which was refused nor what was
    /// set before it.
    fn set_at_once(&self, pf: &PciAddress, vf: u32, knobs: &[VfKnob], wanted: &VfSettings) -> Result<(), HostError> {
        knobs.iter().try_for_each(|knob| self.set(pf, vf, *knob, wanted))
    }

    /// Sets what differs from `wanted`; returns what was set and what the PF reports afterwards.
    fn apply(&self, pf: &PciAddress, vf: u32, wanted: &VfSettings) -> Result<(Vec<VfKnob>, VfState), HostError> {
        let found = self.read(pf, vf)?;
        let set = found.differences(wanted);
        // Reading is a firmware command per VF of the port with some drivers (mlx5), under the lock of all links.
        if set.is_empty() {
            return Ok((set, found));
        }
        if set_at_once_patiently(self, pf, vf, &set, wanted).is_err() {
            // One by one, so that the error is of the one that was refused.
            for knob in &set {
                set_patiently(self, pf, vf, *knob, wanted)?;
            }
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

/// How long several settings are asked for together: a driver that resets the VF for one that is there already would never come
/// to the next.
const AT_ONCE: Duration = Duration::from_secs(1);

/// As [`PfSide::set`], asking again while the driver is busy. ice and i40e reset a VF for every MAC address, VLAN and trust that
/// is set on it, and answer EAGAIN or EBUSY to the next setting until the VF is back (`ice_check_vf_ready_for_cfg`,
/// drivers/net/ethernet/intel/ice/ice_vf_lib.c; `i40e_check_vf_init_timeout`, drivers/net/ethernet/intel/i40e/i40e_virtchnl_pf.c).
///
/// In the middle of a reset ice says EINVAL. Only a rate is ever refused so for what it is: by a driver without minimum rate.
pub(crate) fn set_patiently<P: PfSide + ?Sized>(
    pf_side: &P,
    pf: &PciAddress,
    vf: u32,
    knob: VfKnob,
    wanted: &VfSettings,
) -> Result<(), HostError> {
    let start = Instant::now();
    loop {
        match while_busy(RESET, || pf_side.set(pf, vf, knob, wanted)) {
            Err(error) if knob != VfKnob::Rate && error.is_invalid() && start.elapsed() < AT_ONCE => {
                thread::sleep(POLL);
            }
            done => return done,
        }
    }
}

/// As [`PfSide::set_at_once`], asking again while the driver is busy: what was set already is set once more, which most drivers
/// take for nothing.
pub(crate) fn set_at_once_patiently<P: PfSide + ?Sized>(
    pf_side: &P,
    pf: &PciAddress,
    vf: u32,
    knobs: &[VfKnob],
    wanted: &VfSettings,
) -> Result<(), HostError> {
    while_busy(AT_ONCE, || pf_side.set_at_once(pf, vf, knobs, wanted))
}

fn while_busy(patience: Duration, mut set: impl FnMut() -> Result<(), HostError>) -> Result<(), HostError> {
    let start = Instant::now();
    loop {
        match set() {
            Err(error) if error.is_busy() && start.elapsed() < patience => thread::sleep(POLL),
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
        // Reading a link that came to the number in between would show no such VF; before a change the link itself is looked at.
        if let Ok(Some(FunctionLink {
            name,
            index: Some(index),
        })) = self.sysfs.function_link(pf)
        {
            return Ok(RouteSocket::open()?.vf(name.as_str(), index, vf)?);
        }
        let (mut socket, link) = self.find(pf)?;
        Ok(socket.vf(&link.name, link.index, vf)?)
    }

    fn set(&self, pf: &PciAddress, vf: u32, knob: VfKnob, wanted: &VfSettings) -> Result<(), HostError> {
        let (mut socket, link) = self.find(pf)?;
        Ok(socket.set_vf(&link.name, link.index, vf, knob, wanted)?)
    }

    fn set_at_once(&self, pf: &PciAddress, vf: u32, knobs: &[VfKnob], wanted: &VfSettings) -> Result<(), HostError> {
        let (mut socket, link) = self.find(pf)?;
        Ok(socket.set_vf_knobs(&link.name, link.index, vf, knobs, wanted)?)
    }
}
