//! More pods for a network that has its block already.

use ipnet::IpNet;
use railhead_crds::NetworkSlice;
use thiserror::Error;

use crate::slots::{Interval, SlotSpace};

/// Why a network keeps the number of pods that its slice has. The text ends a sentence that names both numbers.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotGrow {
    /// More pods than the block has slots.
    #[error("its block has {capacity} addresses per rail: delete the network and apply it anew")]
    BeyondBlock {
        /// Slots in the block.
        capacity: u32,
    },
    /// A pod would have the address of a router, or one that the fabric excludes.
    #[error(
        "the address of index {index} is a gateway or excluded on a rail of the fabric: ask for at most {index} pods, or delete the network and apply it anew"
    )]
    Excluded {
        /// The first index that cannot be given.
        index: u32,
    },
    /// The last address of a pool is a broadcast address for the pods that run, whose prefix is the pool's.
    #[error(
        "index {index} would have the last address of the pool, which is the broadcast address of the pods that run: ask for at most {index} pods, or delete the network and apply it anew"
    )]
    LastAddress {
        /// The index that cannot be given.
        index: u32,
    },
    /// The block cannot be compared with the pools from which it was cut.
    #[error(
        "the fabric does not have the pools any more from which its block was cut: delete the network and apply it anew"
    )]
    OtherPools,
}

/// Whether the network of a slice may have `pods` pods, more than now, in the block that it has.
///
/// # Errors
///
/// What stands in the way. Nothing of what the pods that run have is touched in any case.
pub fn check(slice: &NetworkSlice, space: &SlotSpace, pods: u32) -> Result<(), CannotGrow> {
    let spec = &slice.spec;
    if pods > spec.capacity {
        return Err(CannotGrow::BeyondBlock {
            capacity: spec.capacity,
        });
    }
    for rail in &spec.rails {
        let block: Option<IpNet> = space.prefix(rail.id, spec.base, spec.capacity).map(Into::into);
        if rail.prefixes.first().map(|first| first.prefix) != block {
            return Err(CannotGrow::OtherPools);
        }
    }
    let new = Interval {
        start: spec.base.saturating_add(spec.pods),
        end: spec.base.saturating_add(pods),
    };
    if let Some(excluded) = space.excluded().iter().find(|excluded| excluded.meets(new)) {
        return Err(CannotGrow::Excluded {
            index: excluded.start.max(new.start) - spec.base,
        });
    }
    // At the first address of a pool pods have /32 addresses from the beginning.
    let pool = space.rows().iter().map(|row| row.place).find(|pool| pool.meets(new));
    match pool {
        Some(pool) if pool.start != spec.base && pool.end == new.end => {
            Err(CannotGrow::LastAddress { index: pods - 1 })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        network::tests::{network, reserved},
        slots::tests::rail,
    };

    /// Five pods in the eight slots from 8.
    fn slice() -> NetworkSlice {
        let (_, slice) = reserved(&network(json!({"pods": 5})));
        assert_eq!((slice.spec.base, slice.spec.capacity), (8, 8));
        slice
    }

    fn space(pool: &str) -> SlotSpace {
        let rails = ["10.0.0.0", "10.1.0.0"].map(|first| format!("{first}/{pool}"));
        SlotSpace::new(&[rail(0, &[&rails[0]]), rail(1, &[&rails[1]])]).unwrap()
    }

    #[test]
    fn a_network_grows_up_to_the_end_of_its_block() {
        assert_eq!(check(&slice(), &space("16"), 8), Ok(()));
        assert_eq!(
            check(&slice(), &space("16"), 9),
            Err(CannotGrow::BeyondBlock { capacity: 8 })
        );
    }

    #[test]
    fn a_network_does_not_grow_onto_a_gateway_or_a_broadcast_address_of_its_own_pods() {
        let mut rails = [rail(0, &["10.0.0.0/16"]), rail(1, &["10.1.0.0/16"])];
        rails[1].pools[0].gateway = Some("10.1.0.14".into());
        let gateway = SlotSpace::new(&rails).unwrap();
        assert_eq!(check(&slice(), &gateway, 6), Ok(()));
        let refused = check(&slice(), &gateway, 8).unwrap_err();
        assert_eq!(refused, CannotGrow::Excluded { index: 6 });
        assert!(refused.to_string().contains("ask for at most 6 pods"), "{refused}");
        assert_eq!(check(&slice(), &space("28"), 7), Ok(()));
        assert_eq!(
            check(&slice(), &space("28"), 8),
            Err(CannotGrow::LastAddress { index: 7 })
        );
    }

    #[test]
    fn a_network_does_not_grow_where_its_fabric_has_other_pools_by_now() {
        let other = SlotSpace::new(&[rail(0, &["10.7.0.0/16"]), rail(1, &["10.1.0.0/16"])]).unwrap();
        assert_eq!(check(&slice(), &other, 6), Err(CannotGrow::OtherPools));
        assert_eq!(
            check(&slice(), &SlotSpace::new(&[]).unwrap(), 6),
            Err(CannotGrow::OtherPools)
        );
    }
}
