//! Two Fabrics of one cluster. Whose pools give nothing new where they have addresses in common is the planner's to say. Whether two
//! networks of one VLAN meet on a switch is not known here; that is told.

use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use railhead_crds::{Fabric, reasons::Reason};
use railhead_planner::pools::{self, Outside};

use crate::{conditions::Said, network::listed, world::World};

/// The pools of a fabric from which it gives nothing new, because another one has those addresses.
pub(crate) fn overlaps(world: &World, fabric: &Fabric) -> Vec<Outside> {
    pools::overlaps(fabric, &world.fabrics.state(), |fabric, cidr| {
        let ledger = world.ledgers.get(&ObjectRef::new(fabric));
        ledger.is_some_and(|ledger| pools::is_recorded(&ledger.spec, cidr))
            || world
                .slices
                .find(|slice| slice.spec.fabric.name == fabric && pools::has_some_of(slice, cidr))
                .is_some()
    })
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
            Reason::NoOtherFabric,
            "no other Fabric has VLANs of vlan.range",
        );
    }
    shared.sort_unstable();
    let message = format!(
        "VLANs {}: right only where no switch carries both fabrics, else two networks would be on one VLAN; give each a range of its own",
        listed(&shared)
    );
    Said::yes("VlansShared", Reason::OtherFabric, message)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
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
        let mut alone = apart.clone();
        alone.spec.vlan.range.min = 3000;
        alone.spec.vlan.range.max = 3099;
        let unshared = vlans(&world, &alone);
        assert!(
            !unshared.status && unshared.reason == Reason::NoOtherFabric,
            "{unshared:?}"
        );
        let vlans = vlans(&world, &older);
        assert!(
            vlans.status && vlans.message.contains("1000-1999 with Fabric b"),
            "{}",
            vlans.message
        );
    }
}
