//! Pods of one workload that count from 0 in several roles, in a network that has none: a `JobSet` whose two replicated jobs both
//! have the label, a `RayCluster` with two worker groups. Each pod by itself is all right.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    IndexError, Space, choice,
    labels::{GLOBAL_REPLICAS, JOBSET_NAME, Key, RAY_GROUP, REPLICATED_JOB, REPLICATED_JOB_REPLICAS},
    place::{Number, Place},
    pod::Pod,
};

/// How pods of other roles of a pod's workload are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rivals {
    /// They have this label selector, beside the network's label.
    pub selector: String,
    role_key: Key,
    place: Place,
}

impl Rivals {
    /// That this pod and `other` want the same indices.
    pub fn error(&self, other: &ObjectMeta, space: &Space<'_>) -> IndexError {
        let other = self.role_key.label(other).unwrap_or("another");
        needed(&self.place, other, space)
    }
}

/// Whom to look for before the pod takes its index. Nobody, if the network has roles or no other role can count from 0.
pub fn rivals(metadata: &ObjectMeta, space: &Space<'_>) -> Option<Rivals> {
    let place = counted(metadata, space)?;
    let pod = Pod::new(metadata);
    let cluster = pod.owner.filter(|owner| owner.is("ray.io", "RayCluster"));
    let (role_key, of_workload) = if let Some(cluster) = cluster {
        (RAY_GROUP, format!("ray.io/cluster={}", cluster.name))
    } else {
        // The replicated job is the whole `JobSet`.
        let all = pod.number(GLOBAL_REPLICAS).ok().flatten();
        if all.is_some() && all == pod.number(REPLICATED_JOB_REPLICAS).ok().flatten() {
            return None;
        }
        let jobset = JOBSET_NAME.label(metadata)?;
        (REPLICATED_JOB, format!("{}={jobset}", JOBSET_NAME.0))
    };
    Some(Rivals {
        selector: format!("{of_workload},{key}!={role}", key = role_key.0, role = place.role),
        role_key,
        place,
    })
}

/// The first two roles of one workload among these pods that want the same indices.
pub fn split<'a>(pods: impl IntoIterator<Item = &'a ObjectMeta>, space: &Space<'_>) -> Option<IndexError> {
    let mut first: std::collections::BTreeMap<String, Place> = std::collections::BTreeMap::new();
    for place in pods.into_iter().filter_map(|pod| counted(pod, space)) {
        match first.get(&place.workload) {
            Some(other) if other.role != place.role => return Some(needed(&place, &other.role, space)),
            Some(_) => {}
            None => drop(first.insert(place.workload.clone(), place)),
        }
    }
    None
}

/// The place of a pod that may have rivals.
fn counted(metadata: &ObjectMeta, space: &Space<'_>) -> Option<Place> {
    if !space.roles.is_empty() {
        return None;
    }
    let place = choice::place(&Pod::new(metadata)).ok().flatten()?;
    let counts = !matches!(place.number, Number::None | Number::Apart);
    (place.has_parts && counts).then_some(place)
}

/// The same text for whichever of the two roles it is said of.
fn needed(place: &Place, other: &str, space: &Space<'_>) -> IndexError {
    let mut roles = [place.role.as_str(), other];
    roles.sort_unstable();
    IndexError::RolesNeeded {
        workload: place.workload.clone(),
        roles: roles.map(str::to_owned),
        network: space.network.to_owned(),
    }
}
