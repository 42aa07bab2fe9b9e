//! Two Fabrics of one cluster. Their pools have no address in common, or one of them gives nothing new from its pool: the one that
//! has networks there keeps it, and where none has, the older one. Whether two networks of one VLAN meet on a switch is not known
//! here; that is told.

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::jiff::Timestamp;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use railhead_crds::{Fabric, NetworkSlice};
use railhead_planner::pools::Outside;

use crate::{conditions::Said, network::listed, world::World};

const ADVICE: &str = "two networks would have one address; choose others";

/// Whether a fabric was there before another.
fn is_older(one: &Fabric, other: &Fabric) -> bool {
    let age = |fabric: &Fabric| {
        let since = fabric.creation_timestamp().map_or(Timestamp::MAX, |at| at.0);
        (since, fabric.name_any())
    };
    age(one) < age(other)
}

/// Whether networks of a fabric have any of a pool.
fn is_used(world: &World, fabric: &str, cidr: &str) -> bool {
    let pool: Option<IpNet> = cidr.parse().ok();
    let ledger = world.ledgers.get(&ObjectRef::new(fabric));
    let rows = ledger.iter().flat_map(|ledger| &ledger.spec.pools);
    let mut in_ledger = rows.flat_map(|row| &row.rails);
    in_ledger.any(|rail| rail.cidr == cidr)
        || world
            .slices
            .find(|slice| slice.spec.fabric.name == fabric && has_some_of(slice, pool))
            .is_some()
}

fn has_some_of(slice: &NetworkSlice, pool: Option<IpNet>) -> bool {
    let mut blocks = slice.spec.rails.iter().flat_map(|rail| &rail.prefixes);
    blocks.any(|block| Some(block.pool) == pool)
}

fn pools(fabric: &Fabric) -> impl Iterator<Item = (&str, Ipv4Net)> {
    let pools = fabric.spec.rails.iter().flat_map(|rail| &rail.pools);
    pools.filter_map(|pool| Some((pool.cidr.as_str(), pool.cidr.parse().ok()?)))
}

/// The pools of a fabric from which it gives nothing new, because another one has those addresses.
pub(crate) fn overlaps(world: &World, fabric: &Fabric) -> Vec<Outside> {
    let name = fabric.name_any();
    let mut found = Vec::new();
    for other in world.fabrics.state() {
        let others_name = other.name_any();
        if others_name == name {
            continue;
        }
        for (cidr, mine) in pools(fabric) {
            for (theirs_cidr, theirs) in pools(&other) {
                if !mine.contains(&theirs) && !theirs.contains(&mine) {
                    continue;
                }
                let (used, theirs_used) = (is_used(world, &name, cidr), is_used(world, &others_name, theirs_cidr));
                let why = match (used, theirs_used) {
                    (true, false) => continue,
                    (false, true) => "which has networks there",
                    (true, true) => "and both have networks there",
                    (false, false) if is_older(fabric, &other) => continue,
                    (false, false) => "which is older",
                };
                found.push(Outside {
                    cidr: cidr.to_owned(),
                    other: format!("pool {theirs} of Fabric {others_name}, {why}"),
                    advice: ADVICE,
                });
            }
        }
    }
    found
}

/// Whether other Fabrics have the same VLANs.
pub(super) fn vlans(world: &World, fabric: &Fabric) -> Said {
    let mine = fabric.spec.vlan.range;
    let name = fabric.name_any();
    let mut shared: Vec<String> = world
        .fabrics
        .state()
        .iter()
        .filter(|other| other.name_any() != name)
        .filter_map(|other| {
            let theirs = other.spec.vlan.range;
            let (min, max) = (mine.min.max(theirs.min), mine.max.min(theirs.max));
            (min <= max).then(|| format!("{min}-{max} with Fabric {}", other.name_any()))
        })
        .collect();
    if shared.is_empty() {
        return Said::no(
            "VlansShared",
            "NoOtherFabric",
            "no other Fabric has VLANs of vlan.range",
        );
    }
    shared.sort_unstable();
    let message = format!(
        "VLANs {}: right only where no switch carries both fabrics, else two networks would be on one VLAN; give each a range of its own",
        listed(&shared)
    );
    Said::yes("VlansShared", "OtherFabric", message)
}

#[cfg(test)]
mod tests {
    use kube::runtime::{reflector::store, watcher::Event};

    use super::*;
    use crate::{
        grouped::Grouped,
        network::fixtures,
        world::{self, tests::empty},
    };

    fn fabric(name: &str, second: i64, cidr: &str) -> Fabric {
        let mut fabric = fixtures::fabric();
        fabric.metadata.name = Some(name.to_owned());
        fabric.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            Timestamp::from_second(second).unwrap(),
        ));
        fabric.spec.rails.truncate(1);
        fabric.spec.rails[0].pools[0].cidr = cidr.to_owned();
        fabric
    }

    #[test]
    fn of_two_fabrics_with_the_same_addresses_one_gives_nothing_new() {
        let (older, younger) = (fabric("a", 1, "10.0.0.0/24"), fabric("b", 2, "10.0.0.128/25"));
        let apart = fabric("c", 3, "10.9.0.0/24");
        let (fabrics, mut fabrics_in) = store();
        for fabric in [&older, &younger, &apart] {
            fabrics_in.apply_watcher_event(&Event::Apply(fabric.clone()));
        }
        let (slices, mut slices_in) = store();
        let world = World {
            fabrics,
            slices: Grouped::new(slices, world::network_of_slice),
            ..empty()
        };
        let told = |fabric: &Fabric| {
            let found = overlaps(&world, fabric);
            found.into_iter().map(|outside| outside.other).collect::<Vec<_>>()
        };
        assert!(told(&older).is_empty() && told(&apart).is_empty());
        assert_eq!(told(&younger), ["pool 10.0.0.0/24 of Fabric a, which is older"]);
        // The older one was edited onto the younger one's networks.
        let mut slice = fixtures::slice(2);
        slice.spec.fabric.name = "b".to_owned();
        slice.spec.rails[0].prefixes[0].pool = "10.0.0.128/25".parse().unwrap();
        slices_in.apply_watcher_event(&Event::Apply(slice));
        assert!(told(&younger).is_empty());
        assert_eq!(
            told(&older),
            ["pool 10.0.0.128/25 of Fabric b, which has networks there"]
        );
        let vlans = vlans(&world, &older);
        assert!(
            vlans.status && vlans.message.contains("1000-1999 with Fabric b"),
            "{}",
            vlans.message
        );
    }
}
