//! From a pod's metadata to its index.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{
    IndexError, Space, Span, groups, jobs, kubeflow,
    labels::{JOB_COMPLETION_INDEX, Key, NUMBERS},
    lws,
    place::{Number, Place},
    pod::Pod,
    ray, roles, sets,
};

/// What the workload says about a pod's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexChoice {
    /// The workload numbers its pods: this one and no other.
    Fixed(u32),
    /// The workload does not number its pods: any free one of these.
    Any(Span),
}

/// The index of the pod of that metadata in a network.
pub fn of(metadata: &ObjectMeta, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    let pod = Pod::new(metadata);
    let Some(place) = place(&pod)? else {
        return by_itself(&pod, space);
    };
    choose(&place, space)
}

/// The place of a pod that somebody controls. Whoever that is decides which labels count, and may have none of the others that
/// number pods.
pub(super) fn place(pod: &Pod<'_>) -> Result<Option<Place>, IndexError> {
    let Some(owner) = &pod.owner else { return Ok(None) };
    let (place, own): (Place, &[Key]) = if let Some(place) = kubeflow::launcher(pod, owner)? {
        (place, &kubeflow::NUMBERS)
    } else if owner.is("batch", "Job") {
        jobs::place(pod, owner)?
    } else if owner.is("apps", "StatefulSet") {
        match lws::place(pod, owner)? {
            Some(place) => (place, &lws::NUMBERS),
            None => (sets::place(pod, owner)?, &sets::NUMBERS),
        }
    } else if owner.is_of("kubeflow.org") {
        (kubeflow::place(pod, owner)?, &kubeflow::NUMBERS)
    } else if owner.is("ray.io", "RayCluster") {
        (ray::place(pod, owner)?, &ray::NUMBERS)
    } else {
        let place = Place {
            workload: owner.text(),
            role: owner.name.to_owned(),
            has_parts: false,
            number: Number::None,
        };
        (place, &[])
    };
    let mut foreign = NUMBERS.iter().filter(|key| !own.contains(key));
    match foreign.find(|key| key.is_on(pod.metadata)) {
        Some(key) => Err(IndexError::Foreign {
            key: key.0,
            pod: pod.name().to_owned(),
            owner: owner.text(),
        }),
        None => Ok(Some(place)),
    }
}

/// A pod that nobody controls has the number that its author wrote, of the whole network.
fn by_itself(pod: &Pod<'_>, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    match pod.number(JOB_COMPLETION_INDEX)? {
        Some(index) => fixed(index.into(), space),
        None => Ok(IndexChoice::Any(space.all())),
    }
}

fn choose(place: &Place, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    if !space.roles.is_empty() {
        return roles::choose(place, space);
    }
    match place.number {
        Number::None => Ok(IndexChoice::Any(space.all())),
        Number::Flat(number) => fixed(number.into(), space),
        Number::Either { workload, .. } => fixed(workload.into(), space),
        Number::Grouped { group, of, number } => fixed(groups::flat(place, space, group, of, number)?, space),
        Number::OnlyInRole(_) => Err(IndexError::RoleNotPlaced {
            workload: place.workload.clone(),
            role: place.role.clone(),
            network: space.network.to_owned(),
        }),
        Number::Apart => Err(apart(place)),
    }
}

/// This index, if the network has it.
pub(super) fn fixed(index: u64, space: &Space<'_>) -> Result<IndexChoice, IndexError> {
    let found = u32::try_from(index).unwrap_or(u32::MAX);
    if found >= space.pods {
        return Err(IndexError::OutOfRange {
            index: found,
            network: space.network.to_owned(),
            pods: space.pods,
            room: space.room,
        });
    }
    Ok(IndexChoice::Fixed(found))
}

fn apart(place: &Place) -> IndexError {
    IndexError::Apart {
        workload: place.workload.clone(),
        role: place.role.clone(),
        hint: if place.role == kubeflow::LAUNCHER {
            "under runLauncherAsWorker mpi-operator numbers the launcher from its release 0.7 on"
        } else {
            "its workers need nothing of it"
        },
    }
}
