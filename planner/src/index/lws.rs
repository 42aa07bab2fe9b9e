//! `LeaderWorkerSet`: a StatefulSet of leaders, whose ordinals are the groups, and for each group one of its workers, which begins
//! with ordinal 1 (`constructWorkerStatefulSetApplyConfiguration` in `pkg/controllers/pod_controller.go`).

use super::{
    IndexError,
    labels::{Key, LWS_GROUP_INDEX, LWS_NAME, LWS_WORKER_INDEX, POD_INDEX},
    place::{Number, Place},
    pod::{Owner, Pod, ordinal},
    sets::own_ordinal,
};

/// The keys by which its pods are numbered, of which the last is the StatefulSets'.
pub(super) const NUMBERS: [Key; 2] = [LWS_WORKER_INDEX, POD_INDEX];

/// The place of a StatefulSet's pod, if it is a `LeaderWorkerSet`'s.
pub(super) fn place(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Option<Place>, IndexError> {
    let Some(set) = LWS_NAME.label(pod.metadata) else {
        return Ok(None);
    };
    let named = own_ordinal(pod, owner, LWS_WORKER_INDEX)?;
    pod.agree(POD_INDEX, named)?;
    let (group, number) = if owner.name == set {
        (named, 0)
    } else {
        let group = ordinal(owner.name, set);
        let group = group.ok_or_else(|| pod.contradicts(LWS_NAME, set, "of no such set by its owner's name"))?;
        (group, named)
    };
    pod.agree(LWS_GROUP_INDEX, group)?;
    pod.agree(LWS_WORKER_INDEX, number)?;
    Ok(Some(Place {
        workload: format!("LeaderWorkerSet {set}"),
        role: set.to_owned(),
        has_parts: false,
        number: Number::Grouped {
            group,
            of: None,
            number,
        },
    }))
}
