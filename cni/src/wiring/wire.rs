//! One rail, from the host into the pod. The order is the kernel's: see the comments where it matters.

use std::{sync::Mutex, time::Duration};

use railhead_host::{InterfaceName, Link, Netns, RouteSocket, VfState, write_interface_sysctl};
use railhead_plan::RailRecord;
use railhead_vf::wait;

use super::{
    Rail, WireError,
    function::journaled,
    prove::{prove_carrier, read_back},
    rdma,
};
use crate::{
    context::{Context, Step},
    journal::RailJournal,
};

/// The pod's namespace, shared by its rails.
pub(crate) struct Pod<'a> {
    pub(crate) netns: &'a Netns,
    /// Held while a soft-RoCE device is made. The first one of a namespace opens the UDP socket for all; two that are made
    /// at the same time both try, and one of them gets EPERM (seen with kernel 7.2).
    pub(super) soft_roce: Mutex<()>,
}

impl<'a> Pod<'a> {
    pub(crate) fn new(netns: &'a Netns) -> Self {
        Self {
            netns,
            soft_roce: Mutex::new(()),
        }
    }
}

/// Sysctls of a rail's interface. Several rails may share a pool, so an interface answers only for its own addresses and
/// asks with them; replies may come in by another rail than the main table says. They are reset when a link moves.
pub(super) const SYSCTLS: [(&str, &str); 3] = [("arp_ignore", "1"), ("arp_announce", "2"), ("rp_filter", "2")];

/// Wires one rail; returns what was read back.
pub(crate) fn wire_rail(
    context: &Context,
    pod: &Pod<'_>,
    rail: &Rail,
    journal: &RailJournal,
) -> Result<RailRecord, WireError> {
    let step = |step| {
        if (context.after_step)(rail.id, step) {
            Ok(())
        } else {
            Err(WireError::Stopped)
        }
    };
    let state = repair_pf_side(context, rail)?;
    let mut host = RouteSocket::open().map_err(WireError::Netlink)?;
    let mut inside = RouteSocket::open_in(pod.netns).map_err(WireError::Netlink)?;
    if inside.link_named(&rail.name).map_err(WireError::Netlink)?.is_some() {
        return Err(WireError::NameTaken {
            name: rail.name.clone(),
        });
    }
    leave_host(context, pod, rail, journal, &mut host, &step)?;
    let link = arrive(rail, journal, &mut inside)?;
    step(Step::Named)?;
    set_up(pod, rail, &link, &mut inside)?;
    step(Step::Up)?;
    for address in &rail.addresses {
        inside.add_address(link.index, *address).map_err(WireError::Netlink)?;
    }
    step(Step::Numbered)?;
    let device = rdma::make(context, pod, rail)?;
    step(Step::RdmaMade)?;
    route(rail, &link, &mut inside)?;
    step(Step::Routed)?;
    prove_carrier(context, pod, rail, link.index, &mut inside)?;
    let rdma = rdma::prove(context, rail, device.as_ref())?;
    let link = read_back(rail, link.index, &mut inside)?;
    step(Step::Proven)?;
    Ok(record(rail, &link, &state, rdma))
}

/// The PF side was programmed in Prepare. Somebody may have changed it since, and a sandbox that is made again is not
/// prepared again.
pub(super) fn repair_pf_side(context: &Context, rail: &Rail) -> Result<VfState, WireError> {
    let (set, state) = context
        .pf_side
        .apply(&rail.pf, rail.vf_index, &rail.pf_settings)
        .map_err(WireError::Host)?;
    if !set.is_empty() {
        context.log.note(format!(
            "rail {}: PF {} had other settings for VF {}; set again: {set:?}",
            rail.id, rail.pf, rail.vf_index
        ));
    }
    Ok(state)
}

/// A unique temporary name first: a move fails half-way when the target has a link of the same name.
fn leave_host(
    context: &Context,
    pod: &Pod<'_>,
    rail: &Rail,
    journal: &RailJournal,
    host: &mut RouteSocket,
    step: &impl Fn(Step) -> Result<(), WireError>,
) -> Result<(), WireError> {
    let link = wait(&context.sysfs(), host, &rail.vf, Duration::ZERO).map_err(WireError::Host)?;
    if link.up {
        host.set_up(link.index, false).map_err(WireError::Netlink)?;
    }
    step(Step::Quiet)?;
    if link.mac != Some(rail.mac) {
        host.set_mac(link.index, rail.mac).map_err(|source| WireError::Mac {
            vf: rail.vf.clone(),
            mac: rail.mac,
            source,
        })?;
    }
    step(Step::Addressed)?;
    rename(host, &link, &journal.temporary_name)?;
    step(Step::TemporarilyNamed)?;
    host.move_to(link.index, pod.netns).map_err(WireError::Netlink)?;
    step(Step::Moved)
}

/// A link that moved may have another number.
fn arrive(rail: &Rail, journal: &RailJournal, inside: &mut RouteSocket) -> Result<Link, WireError> {
    let link = journaled(inside, journal)
        .map_err(WireError::Netlink)?
        .ok_or_else(|| WireError::LostOnTheWay { vf: rail.vf.clone() })?;
    rename(inside, &link, &rail.name)?;
    Ok(link)
}

/// MTU and sysctls before up, so that no packet is sent under wrong settings; routes come after it, since taking a link
/// down flushes them.
fn set_up(pod: &Pod<'_>, rail: &Rail, link: &Link, inside: &mut RouteSocket) -> Result<(), WireError> {
    if link.mtu != rail.mtu {
        inside.set_mtu(link.index, rail.mtu).map_err(WireError::Netlink)?;
    }
    write_interface_sysctl(pod.netns, &rail.name, &SYSCTLS).map_err(WireError::Sysctl)?;
    inside.set_up(link.index, true).map_err(WireError::Netlink)
}

pub(super) fn route(rail: &Rail, link: &Link, inside: &mut RouteSocket) -> Result<(), WireError> {
    for route in rail.routes(link.index) {
        inside.replace_route(&route).map_err(WireError::Netlink)?;
    }
    for rule in rail.rules() {
        match inside.add_rule(&rule) {
            Err(error) if !error.is_already_there() => return Err(WireError::Netlink(error)),
            _ => {}
        }
    }
    Ok(())
}

fn rename(socket: &mut RouteSocket, link: &Link, name: &InterfaceName) -> Result<(), WireError> {
    if link.name == name.as_str() {
        return Ok(());
    }
    socket.rename(link.index, name).map_err(WireError::Netlink)
}

fn record(rail: &Rail, link: &Link, state: &VfState, rdma: Option<railhead_plan::RdmaRecord>) -> RailRecord {
    RailRecord {
        rail: rail.id,
        // The read-back found both on the link.
        name: rail.name.clone(),
        mac: rail.mac,
        vf: rail.vf.clone(),
        mtu: link.mtu,
        addresses: rail.addresses.clone(),
        vlan: state.vlan,
        max_rate_mbps: state.max_rate_mbps,
        min_rate_mbps: state.min_rate_mbps,
        spoof_check: state.spoof_check,
        rdma,
    }
}
