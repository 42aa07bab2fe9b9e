//! `RayCluster`. Its pods have random names, so that the label alone numbers them: whoever edits it can take any index that is
//! free, as pods without it do.

use super::{
    IndexError,
    labels::{Key, RAY_GROUP, RAY_HOST_INDEX, RAY_NODE_TYPE, RAY_REPLICA_INDEX},
    place::{Number, Place},
    pod::{Owner, Pod},
};

/// The key by which its pods are numbered.
pub(super) const NUMBERS: [Key; 1] = [RAY_REPLICA_INDEX];

/// The place of a pod of a `RayCluster`.
pub(super) fn place(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Place, IndexError> {
    let role = pod.needed(RAY_GROUP)?.to_owned();
    let number = if pod.needed(RAY_NODE_TYPE)? == "head" {
        Number::Apart
    } else {
        match (pod.number(RAY_REPLICA_INDEX)?, pod.number(RAY_HOST_INDEX)?) {
            (None, _) => Number::None,
            (Some(replica), None) => Number::Flat(replica),
            (Some(group), Some(number)) => Number::Grouped {
                group,
                of: None,
                number,
            },
        }
    };
    Ok(Place {
        workload: owner.text(),
        role,
        has_parts: true,
        number,
    })
}
