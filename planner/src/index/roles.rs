//! Networks with roles: each role has a range of the indices, in the order in which they are listed.

use super::{
    IndexChoice, IndexError, Space, Span,
    choice::fixed,
    place::{Number, Place},
};

/// The index of a place in a network that has roles.
pub(super) fn choose(place: &Place, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    let Some(span) = space.of_role(&place.role) else {
        let known: Vec<&str> = space.roles.iter().map(|role| role.name.as_str()).collect();
        return Err(IndexError::UnknownRole {
            workload: place.workload.clone(),
            role: place.role.clone(),
            network: space.network.to_owned(),
            known: known.join(", "),
        });
    };
    let number = match place.number {
        Number::None => return any(span, space),
        Number::Flat(number) | Number::OnlyInRole(number) | Number::Either { role: number, .. } => u64::from(number),
        Number::Apart => 0,
        Number::Grouped { group, of, number } => grouped(place, space, span, group, of, number)?,
    };
    if number >= u64::from(span.pods) {
        return Err(IndexError::RoleFull {
            workload: place.workload.clone(),
            role: place.role.clone(),
            number,
            pods: span.pods,
            network: space.network.to_owned(),
        });
    }
    fixed(u64::from(span.first) + number, space)
}

/// As much of the range as the network has by now.
fn any(span: Span, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    fixed(span.first.into(), space)?;
    let pods = span.pods.min(space.pods - span.first);
    Ok(IndexChoice::Any(Span { pods, ..span }))
}

/// The Jobs of a replicated job share its role evenly.
fn grouped(
    place: &Place,
    space: &Space<'_>,
    span: Span,
    group: u32,
    of: Option<u32>,
    number: u32,
) -> Result<u64, IndexError> {
    let needed = || IndexError::GroupsNeeded {
        workload: place.workload.clone(),
        group,
        number,
        network: space.network.to_owned(),
    };
    match of {
        None if group == 0 => Ok(number.into()),
        None => Err(needed()),
        Some(of) => super::groups::shared(place, space, span.pods, (group, of), number),
    }
}
