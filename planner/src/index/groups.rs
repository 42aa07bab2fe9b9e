//! Workloads that consist of equal groups, each of which counts its pods from 0.

use super::{IndexError, Space, place::Place};

/// The number through all groups of a network without roles. What the network says about its groups comes before what the
/// framework says, since it stays when the network grows.
pub(super) fn flat(
    place: &Place,
    space: &Space<'_>,
    group: u32,
    of: Option<u32>,
    number: u32,
) -> Result<u64, IndexError> {
    if space.groups > 1 {
        if group >= space.groups || number >= space.per_group {
            return Err(full(place, space, (group, space.groups), space.per_group, number));
        }
        return Ok(through(group, space.per_group, number));
    }
    match of {
        Some(of) => shared(place, space, space.pods, (group, of), number),
        None if group == 0 => Ok(number.into()),
        None => Err(IndexError::GroupsNeeded {
            workload: place.workload.clone(),
            group,
            number,
            network: space.network.to_owned(),
        }),
    }
}

/// The number through so many groups that share `pods` evenly.
pub(super) fn shared(
    place: &Place,
    space: &Space<'_>,
    pods: u32,
    (group, of): (u32, u32),
    number: u32,
) -> Result<u64, IndexError> {
    if of <= 1 && group == 0 {
        return Ok(number.into());
    }
    if of == 0 || !pods.is_multiple_of(of) {
        return Err(IndexError::Uneven {
            workload: place.workload.clone(),
            role: place.role.clone(),
            groups: of,
            pods,
            network: space.network.to_owned(),
        });
    }
    let per_group = pods / of;
    if group >= of || number >= per_group {
        return Err(full(place, space, (group, of), per_group, number));
    }
    Ok(through(group, per_group, number))
}

fn through(group: u32, per_group: u32, number: u32) -> u64 {
    u64::from(group) * u64::from(per_group) + u64::from(number)
}

fn full(place: &Place, space: &Space<'_>, (group, groups): (u32, u32), per_group: u32, number: u32) -> IndexError {
    IndexError::GroupFull {
        workload: place.workload.clone(),
        group,
        number,
        groups,
        per_group,
        network: space.network.to_owned(),
    }
}
