//! The RDMA device of a rail: made (soft-RoCE) or found (the function's own), and its GID.

use std::{net::IpAddr, sync::PoisonError, thread, time::Instant};

use railhead_host::{Gid, NetnsMode, RdmaName, RdmaSocket, Sysfs};
use railhead_plan::RdmaRecord;
use railhead_vf::POLL;

use super::{Pod, Rail, RailRdma, WireError};
use crate::context::Context;

/// RoCE devices have one port per function.
const PORT: u32 = 1;

/// Makes the rail's soft device inside the pod, or makes sure that the function's own is there.
///
/// A soft device dies with every move of its link, so it is made after the move. From kernel 7.1 its UDP socket belongs to
/// the namespace of the link.
pub(super) fn make(context: &Context, pod: &Pod<'_>, rail: &Rail) -> Result<(), WireError> {
    match &rail.rdma {
        RailRdma::None => Ok(()),
        RailRdma::Soft(device) => {
            let _alone = pod.soft_roce.lock().unwrap_or_else(PoisonError::into_inner);
            let mut socket = RdmaSocket::open_in(pod.netns).map_err(WireError::Rdma)?;
            // Left by a sandbox of this pod that ended without DEL; its link is gone or about to go.
            if let Some(stale) = socket.device_named(device.as_str()).map_err(WireError::Rdma)? {
                socket.remove_soft(&stale).map_err(WireError::Rdma)?;
            }
            socket
                .add_soft_roce(device.as_str(), &rail.name)
                .map_err(WireError::Rdma)
        }
        RailRdma::Function(device) => {
            let mut socket = RdmaSocket::open().map_err(WireError::Rdma)?;
            if socket.netns_mode().map_err(WireError::Rdma)? == NetnsMode::Exclusive {
                return Err(WireError::ExclusiveMode { device: device.clone() });
            }
            match context.sysfs().rdma_device_exists(device.as_str()) {
                Ok(true) => Ok(()),
                Ok(false) => Err(WireError::NoRdmaDevice { device: device.clone() }),
                Err(error) => Err(WireError::Sysfs(error)),
            }
        }
    }
}

/// Waits for the GID of the rail's first address. Its place in the table depends on the order of events, so it is looked
/// up and reported, never assumed.
pub(super) fn prove(context: &Context, rail: &Rail) -> Result<Option<RdmaRecord>, WireError> {
    let (RailRdma::Function(device) | RailRdma::Soft(device)) = &rail.rdma else {
        return Ok(None);
    };
    let Some(address) = rail.addresses.first().map(ipnet::IpNet::addr) else {
        return Ok(None);
    };
    let sysfs = context.sysfs();
    let start = Instant::now();
    let gid = loop {
        if let Some(gid) = look(&sysfs, device, address)? {
            break gid;
        }
        if start.elapsed() >= context.proof_patience {
            return Err(WireError::NoGid {
                device: device.clone(),
                address,
                waited: context.proof_patience,
            });
        }
        thread::sleep(POLL);
    };
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
    let table = sysfs.gids(device.as_str(), PORT).map_err(WireError::Sysfs)?;
    Ok(Gid::of_address(&table, address).cloned())
}

/// What CHECK compares with the record.
pub(super) fn current_gid(context: &Context, device: &RdmaName, address: IpAddr) -> Result<Option<Gid>, WireError> {
    look(&context.sysfs(), device, address)
}
