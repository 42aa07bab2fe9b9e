//! What a Fabric says against networks that live: field, what is wrong, and the network.

use std::net::IpAddr;

use super::{
    Written,
    holders::Holder,
    in_use::Known,
    lines::{Line, LinePool},
};
use crate::slots::Interval;

type Told = Vec<(String, String, String)>;

/// A row of which no line says anything any more.
pub(super) fn gone(written: &Written, known: &Known, of_row: &[&Holder<'_>]) -> Told {
    let mut told = Told::new();
    for (rail, net) in &known.pools {
        // A rail that is gone is told as such.
        let Some(rail) = written.rails.iter().find(|found| found.id == *rail) else {
            continue;
        };
        let field = format!("spec.rails[{}].pools", rail.name);
        let what = format!(
            "{net} is not in it and in use: put it back (draining: true if it is to go) or delete its networks"
        );
        let users = of_row.iter().filter(|holder| holder.uses(rail.id));
        told.extend(users.map(|holder| (field.clone(), what.clone(), holder.name.clone())));
    }
    told
}

/// A row and what its line says now; whether new networks may be cut from it.
pub(super) fn changed(written: &Written, known: &Known, line: &Line<'_>, of_row: &[&Holder<'_>]) -> (Told, bool) {
    let mut told = Told::new();
    let mut stands = true;
    for (rail, net) in &known.pools {
        let Some(rail) = written.rails.iter().find(|found| found.id == *rail) else {
            continue;
        };
        let now = line.pools.iter().find(|pool| pool.rail.id == rail.id);
        let users = of_row.iter().filter(|holder| holder.uses(rail.id));
        let Some(now) = now.filter(|now| now.net == *net) else {
            let field = format!("spec.rails[{}].pools[{}].cidr", rail.name, line.number);
            let what = format!("{net} is in use in this place: put it back or delete its networks");
            told.extend(users.map(|holder| (field.clone(), what.clone(), holder.name.clone())));
            stands = false;
            continue;
        };
        for holder in users {
            let (more, gateway_fits) = addresses(now, known.place, line.number, holder);
            told.extend(more);
            stands &= gateway_fits;
        }
    }
    (told, stands)
}

/// Gateway and exclusions of a pool beside the addresses of a network's pods; whether the gateway is none of them.
fn addresses(pool: &LinePool<'_>, place: Interval, number: usize, holder: &Holder<'_>) -> (Told, bool) {
    let (Some(slice), Some(pods)) = (holder.slice, holder.of_pods()) else {
        return (Told::new(), true);
    };
    let mut told = Told::new();
    let mut tell = |field: &str, what: String| {
        let field = format!("spec.rails[{}].pools[{number}].{field}", pool.rail.name);
        told.push((field, what, holder.name.clone()));
    };
    let of_slice = slice.spec.rails.iter().find(|rail| rail.id == pool.rail.id);
    let before = of_slice.and_then(|rail| rail.prefixes.first()?.gateway);
    let now = pool.gateway.map(IpAddr::V4);
    let mut fits = true;
    if let Some(gateway) = pool.gateway
        && pool.slots_of(place.start, gateway.into()).meets(pods)
    {
        tell(
            "gateway",
            format!("{gateway} is the address of a pod: name another, or delete its network"),
        );
        fits = false;
    } else if before != now {
        let before = before.map_or_else(|| "no gateway".to_owned(), |gateway| gateway.to_string());
        tell(
            "gateway",
            format!("counts for new networks only, live ones keep {before}"),
        );
    }
    for net in pool
        .excluded
        .iter()
        .filter(|net| pool.slots_of(place.start, **net).meets(pods))
    {
        tell("exclude", format!("{net} has addresses of pods, which keep them"));
    }
    (told, fits)
}

/// Rails that are gone.
pub(super) fn rails(written: &Written, holders: &[Holder<'_>]) -> Told {
    let mut told = Told::new();
    for holder in holders {
        let used = holder.slice.iter().flat_map(|slice| &slice.spec.rails);
        for rail in used.filter(|used| written.rails.iter().all(|rail| rail.id != used.id)) {
            let what = format!(
                "{} (id {}) is gone and in use: running pods keep it, new ones of its networks find no node; put it back or delete them",
                rail.name, rail.id
            );
            told.push(("spec.rails".to_owned(), what, holder.name.clone()));
        }
    }
    told
}

/// VLANs that are outside the range.
pub(super) fn vlans(written: &Written, holders: &[Holder<'_>]) -> Told {
    let (min, max) = (written.vlans.min, written.vlans.max);
    let mut told = Told::new();
    for holder in holders {
        let vlan = holder.slice.and_then(|slice| slice.spec.rails.first()?.vlan);
        if let Some(vlan) = vlan.filter(|vlan| !(min..=max).contains(vlan)) {
            let what = format!(
                "VLAN {vlan} is in use and not in {min}-{max}: live networks keep theirs, the switches must carry them"
            );
            told.push(("spec.vlan.range".to_owned(), what, holder.name.clone()));
        }
    }
    told
}
