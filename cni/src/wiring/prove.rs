//! Wired means proven: waiting for the signal, telling the neighbours, comparing what is there with what was planned.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use railhead_host::{Link, Netns, RouteSocket, read_interface_sysctl};
use railhead_plan::RailRecord;

use super::{
    Rail, WireError, rdma,
    wire::{SYSCTLS, Sockets},
};
use crate::context::Context;

/// How long a word of a change is waited for before the link is looked at anyway: a busy kernel drops some, and holds others
/// back for up to a second (`linkwatch_schedule_work`, net/core/link_watch.c).
const UNASKED: Duration = Duration::from_millis(50);

/// Waits for the signal, then announces the addresses: a frame sent earlier is lost. Returns the link as it is then.
pub(super) fn prove_carrier(
    context: &Context,
    rail: &Rail,
    index: u32,
    sockets: &mut Sockets,
) -> Result<Link, WireError> {
    let start = Instant::now();
    let link = loop {
        let now = sockets.inside.link(index).map_err(WireError::Netlink)?;
        if let Some(link) = now.filter(|link| link.carrier) {
            break link;
        }
        let left = context.proof_patience.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(WireError::NoCarrier {
                name: rail.name.clone(),
                waited: context.proof_patience,
            });
        }
        sockets.changes.wait(left.min(UNASKED)).map_err(WireError::Netlink)?;
    };
    for address in &rail.addresses {
        if let IpAddr::V4(address) = address.addr() {
            sockets.inside.announce(index, address).map_err(WireError::Netlink)?;
        }
    }
    Ok(link)
}

/// Compares the link, as it was read after the last change, and its addresses with the plan.
pub(super) fn read_back(rail: &Rail, link: &Link, inside: &mut RouteSocket) -> Result<(), WireError> {
    let mut drift = link_drift(rail, link);
    drift.extend(number_drift(rail, link.index, inside)?);
    if drift.is_empty() {
        return Ok(());
    }
    Err(WireError::NotAsPlanned {
        name: rail.name.clone(),
        what: drift.join("; "),
    })
}

/// Compares link, addresses, routes, rules, sysctls, the PF's settings and the GID of a rail with what ADD made; returns what differs, in words.
pub(crate) fn check_rail(
    context: &Context,
    netns: &Netns,
    rail: &Rail,
    record: Option<&RailRecord>,
) -> Result<Vec<String>, WireError> {
    let mut inside = RouteSocket::open_in(netns).map_err(WireError::Netlink)?;
    let Some(link) = inside.link_named(&rail.name).map_err(WireError::Netlink)? else {
        return Ok(vec![format!("interface {} is gone", rail.name)]);
    };
    let mut drift = link_drift(rail, &link);
    if link.parent.is_some() && link.pci_address().as_ref() != Some(&rail.vf) {
        drift.push(format!("it is not function {}", rail.vf));
    }
    if !link.carrier {
        drift.push("it has no carrier".to_owned());
    }
    drift.extend(number_drift(rail, link.index, &mut inside)?);
    drift.extend(route_drift(rail, link.index, &mut inside)?);
    for (sysctl, wanted) in SYSCTLS {
        let found = read_interface_sysctl(netns, &rail.name, sysctl).map_err(WireError::Sysctl)?;
        if let Some(found) = found.filter(|found| found != wanted) {
            drift.push(format!("sysctl {sysctl} is {found}, not {wanted}"));
        }
    }
    let state = context.pf_side.read(&rail.pf, rail.vf_index).map_err(WireError::Host)?;
    drift.extend(
        state
            .differences(&rail.pf_settings)
            .iter()
            .map(|knob| format!("PF {} reports another {knob:?}", rail.pf)),
    );
    if let Some(rdma) = record.and_then(|record| record.rdma.as_ref()) {
        drift.extend(rdma::drift(context, rail, rdma)?);
    }
    Ok(drift.into_iter().map(|what| format!("{}: {what}", rail.name)).collect())
}

fn link_drift(rail: &Rail, link: &Link) -> Vec<String> {
    let mut drift = Vec::new();
    if link.name != rail.name.as_str() {
        drift.push(format!("its name is {}", link.name));
    }
    if link.mac != Some(rail.mac) {
        drift.push(format!("its MAC address is not {}", rail.mac));
    }
    if link.mtu != rail.mtu {
        drift.push(format!("its MTU is {} and not {}", link.mtu, rail.mtu));
    }
    if !link.up {
        drift.push("it is down".to_owned());
    }
    drift
}

fn number_drift(rail: &Rail, index: u32, inside: &mut RouteSocket) -> Result<Vec<String>, WireError> {
    let there = inside.addresses(index).map_err(WireError::Netlink)?;
    Ok(rail
        .addresses
        .iter()
        .filter(|wanted| !there.iter().any(|address| address.net == **wanted))
        .map(|wanted| format!("address {wanted} is missing"))
        .collect())
}

pub(super) fn route_drift(rail: &Rail, index: u32, inside: &mut RouteSocket) -> Result<Vec<String>, WireError> {
    let mut drift = Vec::new();
    let rules = inside.rules().map_err(WireError::Netlink)?;
    for wanted in rail.rules() {
        if !rules.contains(&wanted) {
            drift.push(format!(
                "rule from {} to table {} is missing",
                wanted.from, wanted.table
            ));
        }
    }
    for wanted in rail.routes(index) {
        let routes = inside.routes(wanted.table).map_err(WireError::Netlink)?;
        let same = routes.iter().any(|route| {
            route.destination == wanted.destination && route.gateway == wanted.gateway && route.link == wanted.link
        });
        if !same {
            drift.push(format!(
                "route {} is missing in table {}",
                wanted.destination, wanted.table
            ));
        }
    }
    Ok(drift)
}
