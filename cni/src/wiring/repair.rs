//! What a wired rail has lost and can be given again without harm to what runs over it: the PF's settings, routes, rules.

use railhead_host::{Netns, RouteSocket};

use super::{
    Rail, WireError,
    prove::route_drift,
    wire::{repair_pf_side, route},
};
use crate::context::Context;

/// Sets again what is missing; what it did is noted.
pub(crate) fn repair_rail(context: &Context, netns: &Netns, rail: &Rail) -> Result<(), WireError> {
    repair_pf_side(context, rail)?;
    let mut inside = RouteSocket::open_in(netns).map_err(WireError::Netlink)?;
    let link = inside.link_named(&rail.name).map_err(WireError::Netlink)?;
    let is_rail = |link: &railhead_host::Link| link.parent.is_none() || link.pci_address().as_ref() == Some(&rail.vf);
    // The kernel takes no route over a link that is down, and whoever took it down may bring it up again.
    let Some(link) = link.filter(|link| link.up && is_rail(link)) else {
        return Ok(());
    };
    let missing = route_drift(rail, link.index, &mut inside)?;
    if missing.is_empty() {
        return Ok(());
    }
    route(rail, &link, &mut inside)?;
    context
        .log
        .note(format!("{}: {}; set again", rail.name, missing.join("; ")));
    Ok(())
}
