//! StatefulSets.

use super::{
    IndexError,
    labels::{Key, POD_INDEX},
    place::{Number, Place},
    pod::{Owner, Pod, ordinal},
};

/// The keys by which pods of a StatefulSet are numbered.
pub(super) const NUMBERS: [Key; 1] = [POD_INDEX];

/// The ordinal is in the pod's name, `<set>-<ordinal>`; the label says it again.
pub(super) fn place(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Place, IndexError> {
    let named = own_ordinal(pod, owner, POD_INDEX)?;
    Ok(Place {
        workload: owner.text(),
        role: owner.name.to_owned(),
        has_parts: false,
        number: Number::Flat(pod.agree(POD_INDEX, named)?),
    })
}

/// The ordinal in the pod's name.
pub(super) fn own_ordinal(pod: &Pod<'_>, owner: &Owner<'_>, key: Key) -> Result<u32, IndexError> {
    let value = key.label(pod.metadata).unwrap_or_default();
    ordinal(pod.name(), owner.name).ok_or_else(|| pod.contradicts(key, value, "none of its pods by its name"))
}
