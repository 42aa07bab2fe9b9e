//! The RDMA device of a rail: made (soft-RoCE) or found (the function's own), and its GID.

use std::{net::IpAddr, sync::PoisonError};

use railhead_host::{Gid, NetnsMode, RdmaError, RdmaName, RdmaSocket, Sysfs, wait_until};
use railhead_plan::RdmaRecord;

use super::{POLL, Pod, Rail, RailRdma, WireError};
use crate::context::Context;

/// RoCE devices have one port per function.
const PORT: u32 = 1;

/// Makes the rail's soft device inside the pod, where the calling thread is, or finds the VF's own; returns its name.
///
/// A soft device dies with every move of its link, so it is made after the move. From kernel 7.1 its UDP socket belongs to
/// the namespace of the link.
pub(super) fn make(context: &Context, pod: &Pod, rail: &Rail) -> Result<Option<RdmaName>, WireError> {
    match &rail.rdma {
        RailRdma::None => Ok(None),
        RailRdma::Soft(device) => {
            let _alone = pod.soft_roce.lock().unwrap_or_else(PoisonError::into_inner);
            let mut socket = RdmaSocket::open().map_err(WireError::Rdma)?;
            if let Err(refused) = socket.add_soft_roce(device.as_str(), &rail.name) {
                // Left by a sandbox of this pod that ended without DEL; its link is gone or about to go.
                let stale = socket.device_named(device.as_str()).map_err(WireError::Rdma)?;
                let stale = stale.ok_or(WireError::Rdma(refused))?;
                socket.remove_soft(&stale).map_err(WireError::Rdma)?;
                socket
                    .add_soft_roce(device.as_str(), &rail.name)
                    .map_err(WireError::Rdma)?;
            }
            Ok(Some(device.clone()))
        }
        RailRdma::Function(planned) => find(context, rail, planned).map(Some),
    }
}

/// The VF's own device, by the VF: its name may be another than Prepare saw. udev renames devices some time after they
/// appear (rdma-core, kernel-boot/rdma-persistent-naming.rules), and a driver that was reset makes them anew.
fn find(context: &Context, rail: &Rail, planned: &RdmaName) -> Result<RdmaName, WireError> {
    match RdmaSocket::open().and_then(|mut socket| socket.netns_mode()) {
        Ok(NetnsMode::Exclusive) => {
            return Err(WireError::ExclusiveMode {
                device: planned.clone(),
            });
        }
        // Without the subsystem there is no device, which is said next.
        Ok(NetnsMode::Shared) | Err(RdmaError::NoSubsystem) => {}
        Err(error) => return Err(WireError::Rdma(error)),
    }
    let sysfs = context.sysfs();
    let found = wait_until(context.return_patience, POLL, || {
        let mut devices = sysfs.rdma_devices(&rail.vf).map_err(WireError::Sysfs)?;
        devices.sort_by_key(|device| device != planned);
        Ok(devices.into_iter().next())
    })?
    .ok_or_else(|| WireError::NoRdmaDevice { vf: rail.vf.clone() })?;
    if found != *planned {
        context.log.note(format!(
            "rail {}: the RDMA device of VF {} is called {found} by now, and was {planned} when the pod was prepared",
            rail.id, rail.vf
        ));
    }
    Ok(found)
}

/// Waits for the GID of the rail's first address. Its place in the table depends on the order of events, so it is looked
/// up and reported, never assumed.
pub(super) fn prove(
    context: &Context,
    rail: &Rail,
    device: Option<&RdmaName>,
) -> Result<Option<RdmaRecord>, WireError> {
    let (Some(device), Some(address)) = (device, rail.addresses.first().map(ipnet::IpNet::addr)) else {
        return Ok(None);
    };
    let sysfs = context.sysfs();
    let gid = wait_until(context.proof_patience, POLL, || look(&sysfs, device, address))?.ok_or_else(|| {
        WireError::NoGid {
            device: device.clone(),
            address,
            waited: context.proof_patience,
        }
    })?;
    let uverbs = sysfs
        .uverbs(device.as_str())
        .map_err(WireError::Sysfs)?
        .ok_or_else(|| WireError::NoUverbs { device: device.clone() })?;
    Ok(Some(RdmaRecord {
        device: device.clone(),
        uverbs,
        gid_index: gid.index,
        gid: gid.text(),
    }))
}

fn look(sysfs: &Sysfs, device: &RdmaName, address: IpAddr) -> Result<Option<Gid>, WireError> {
    if !sysfs
        .rdma_port_is_active(device.as_str(), PORT)
        .map_err(WireError::Sysfs)?
    {
        return Ok(None);
    }
    sysfs.gid_of(device.as_str(), PORT, address).map_err(WireError::Sysfs)
}

/// What differs from the record, in words.
pub(super) fn drift(context: &Context, rail: &Rail, rdma: &RdmaRecord) -> Result<Vec<String>, WireError> {
    let sysfs = context.sysfs();
    let mut drift = Vec::new();
    if let RailRdma::Function(_) = rail.rdma {
        let devices = sysfs.rdma_devices(&rail.vf).map_err(WireError::Sysfs)?;
        if !devices.contains(&rdma.device) {
            // Whatever bears the name now may be another pod's.
            drift.push(format!("RDMA device {} is none of VF {}", rdma.device, rail.vf));
            return Ok(drift);
        }
    }
    let uverbs = sysfs.uverbs(rdma.device.as_str()).map_err(WireError::Sysfs)?;
    if uverbs.as_ref() != Some(&rdma.uverbs) {
        drift.push(format!(
            "RDMA device {} has the character device {} and not {}",
            rdma.device,
            uverbs.as_deref().unwrap_or("none"),
            rdma.uverbs
        ));
    }
    if let Some(address) = rail.addresses.first().map(ipnet::IpNet::addr) {
        let gid = look(&sysfs, &rdma.device, address)?;
        if gid.is_none_or(|gid| gid.index != rdma.gid_index) {
            drift.push(format!(
                "RDMA device {} has no GID of {address} at index {}",
                rdma.device, rdma.gid_index
            ));
        }
    }
    Ok(drift)
}
