//! One rail, from the host into the pod. The order is the kernel's: see the comments where it matters.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use railhead_host::{
    Door, Errno, InterfaceSysctl, Link, LinkChange, LinkWatch, NetlinkError, Netns, RouteSocket, VfState,
    write_interface_sysctls,
};
use railhead_plan::RailRecord;

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

/// How soon a driver that is busy is asked again.
const BUSY: Duration = Duration::from_millis(20);

/// The pod, shared by the threads that wire its rails.
#[derive(Default)]
pub(crate) struct Pod {
    /// Held while a soft-RoCE device is made. The first one of a namespace opens the UDP socket for all; two that are made
    /// at the same time both try, and one of them gets EPERM (seen with kernel 7.2).
    pub(super) soft_roce: Mutex<()>,
}

/// What one rail needs inside the pod.
pub(super) struct Sockets {
    pub(super) inside: RouteSocket,
    /// Told of every change of a link from before the rail is up.
    pub(super) changes: LinkWatch,
}

/// Sysctls of a rail's interface. Several rails may share a pool, so an interface answers only for its own addresses and
/// asks with them; replies may come in by another rail than the main table says. They are reset when a link moves.
///
/// Router advertisements of the leaf give no addresses and no routes: a default route by a rail would take the pod's cluster
/// traffic.
pub(super) const SYSCTLS: [(InterfaceSysctl<'static>, &str); 5] = [
    (InterfaceSysctl::Ipv4("arp_ignore"), "1"),
    (InterfaceSysctl::Ipv4("arp_announce"), "2"),
    (InterfaceSysctl::Ipv4("rp_filter"), "2"),
    (InterfaceSysctl::Ipv6("accept_ra"), "0"),
    (InterfaceSysctl::Ipv6("autoconf"), "0"),
];

/// Wires one rail whose link was just seen on the host; returns what was read back. The thread begins on the host, does what is
/// to do there, and goes into the pod.
pub(crate) fn wire_rail(
    context: &Context,
    pod: &Pod,
    netns: &Netns,
    door: Door<'_>,
    rail: &Rail,
    journal: &RailJournal,
    seen: &Link,
) -> Result<RailRecord, WireError> {
    let step = |step| {
        if (context.after_step)(rail.id, step) {
            Ok(())
        } else {
            Err(WireError::Stopped)
        }
    };
    let state = repair_pf_side(context, rail)?;
    let host = RouteSocket::open().map_err(WireError::Netlink)?;
    door.enter().map_err(WireError::Netns)?;
    let mut sockets = Sockets {
        inside: RouteSocket::open().map_err(WireError::Netlink)?,
        changes: LinkWatch::open().map_err(WireError::Netlink)?,
    };
    let inside = &mut sockets.inside;
    let link = move_in(context, netns, rail, journal, seen, host, inside)?;
    step(Step::Moved)?;
    // Sysctls before up, so that no packet is sent under wrong ones; routes come after it, since taking a link down flushes
    // them.
    write_interface_sysctls(&rail.name, &SYSCTLS).map_err(WireError::Sysctl)?;
    while_busy(context.return_patience, || inside.set_up(link.index, true)).map_err(WireError::Netlink)?;
    step(Step::Up)?;
    for address in &rail.addresses {
        inside.add_address(link.index, *address).map_err(WireError::Netlink)?;
    }
    step(Step::Numbered)?;
    let device = rdma::make(context, pod, rail)?;
    step(Step::RdmaMade)?;
    route(rail, &link, inside)?;
    step(Step::Routed)?;
    let link = prove_carrier(context, rail, link.index, &mut sockets)?;
    let rdma = rdma::prove(context, rail, device.as_ref())?;
    read_back(rail, &link, &mut sockets.inside)?;
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

/// One request moves the link and gives it name, MAC address and MTU: each request takes the kernel's lock of all links,
/// which all pods that start want.
///
/// The kernel moves first and changes then (`do_setlink`, net/core/rtnetlink.c), so the changes meet a link that is down, and
/// one that is refused leaves the link in the pod.
fn move_in(
    context: &Context,
    netns: &Netns,
    rail: &Rail,
    journal: &RailJournal,
    seen: &Link,
    mut host: RouteSocket,
    inside: &mut RouteSocket,
) -> Result<Link, WireError> {
    let change = LinkChange {
        netns: Some(netns),
        mac: (seen.mac != Some(rail.mac)).then_some(rail.mac),
        mtu: (seen.mtu != rail.mtu).then_some(rail.mtu),
        name: (seen.name != rail.name.as_str()).then_some(&rail.name),
        ..LinkChange::default()
    };
    let moved = host.change_link(seen.index, &change);
    // A link that moved may have another number.
    let link = journaled(inside, journal).map_err(WireError::Netlink)?;
    match (moved, link) {
        (Ok(()), Some(link)) => Ok(link),
        (Ok(()), None) => Err(WireError::LostOnTheWay { vf: rail.vf.clone() }),
        (Err(_), Some(link)) => finish(context, rail, link, inside),
        (Err(source), None) => Err(refused_move(rail, source, inside)),
    }
}

/// The kernel refuses a link whose name is taken where it goes (`__dev_change_net_namespace`, `dev_change_name`, net/core/dev.c),
/// and also one with an alternative name that is.
fn refused_move(rail: &Rail, source: NetlinkError, inside: &mut RouteSocket) -> WireError {
    if source.is_already_there() && matches!(inside.link_named(&rail.name), Ok(Some(_))) {
        return WireError::NameTaken {
            name: rail.name.clone(),
        };
    }
    WireError::Netlink(source)
}

/// What the kernel did not come to, one by one, so that the error is of the one that was refused.
fn finish(context: &Context, rail: &Rail, link: Link, inside: &mut RouteSocket) -> Result<Link, WireError> {
    let index = link.index;
    let patience = context.return_patience;
    if link.mac != Some(rail.mac) {
        while_busy(patience, || inside.set_mac(index, rail.mac)).map_err(|source| WireError::Mac {
            vf: rail.vf.clone(),
            mac: rail.mac,
            source,
        })?;
    }
    if link.mtu != rail.mtu {
        while_busy(patience, || inside.set_mtu(index, rail.mtu)).map_err(WireError::Netlink)?;
    }
    if link.name != rail.name.as_str() {
        let renamed = inside.rename(index, &rail.name);
        renamed.map_err(|source| refused_move(rail, source, inside))?;
    }
    Ok(link)
}

/// Some drivers reset a VF in the background after its PF changed something, and refuse everything until they are done
/// (`iavf_open`, drivers/net/ethernet/intel/iavf/iavf_main.c: EBUSY; others: EAGAIN).
fn while_busy(patience: Duration, mut change: impl FnMut() -> Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    let start = Instant::now();
    loop {
        match change() {
            Err(error) if matches!(error.errno(), Some(Errno::EBUSY | Errno::EAGAIN)) && start.elapsed() < patience => {
                thread::sleep(BUSY);
            }
            result => return result,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno) -> Result<(), NetlinkError> {
        Err(NetlinkError::Refused {
            request: "set link 7 up".to_owned(),
            errno,
            text: None,
        })
    }

    #[test]
    fn a_driver_that_is_busy_is_asked_again_and_any_other_refusal_is_final() {
        for errno in [Errno::EBUSY, Errno::EAGAIN] {
            let mut asked = 0;
            let done = while_busy(Duration::from_secs(10), || {
                asked += 1;
                if asked < 3 { refused(errno) } else { Ok(()) }
            });
            assert!(done.is_ok() && asked == 3, "{errno}: {done:?} after {asked}");
        }
        let mut asked = 0;
        let done = while_busy(Duration::from_secs(10), || {
            asked += 1;
            refused(Errno::EPERM)
        });
        assert!(done.is_err() && asked == 1, "{done:?} after {asked}");
        let start = Instant::now();
        assert!(while_busy(Duration::from_millis(50), || refused(Errno::EBUSY)).is_err());
        assert!(start.elapsed() >= Duration::from_millis(50));
    }
}
