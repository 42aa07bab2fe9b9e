//! Which index of its network a pod gets: the place that its workload gives it, as the network's roles and groups count places.
//!
//! | controller of the pod | place | from |
//! |---|---|---|
//! | Job, Indexed | completion index | `batch.kubernetes.io/job-completion-index`, and the pod's name |
//! | Job of a JobSet or TrainJob | job index x pods per job + completion index, role = replicated job | `jobset.sigs.k8s.io/…`, and the Job's name |
//! | `PyTorchJob` and its kin | master 0, workers + 1, role = replica type | `training.kubeflow.org/replica-type`, `-index`, and the pod's name |
//! | `MPIJob` | replica index, role = launcher or worker | `training.kubeflow.org/replica-index`, and the pod's name |
//! | `RayCluster` | replica index of the worker group, role = group | `ray.io/worker-group-replica-index` (`KubeRay` 1.6); without it any |
//! | StatefulSet of a `LeaderWorkerSet` | group x pods per group + worker | the names of pod and StatefulSet, and `leaderworkerset.sigs.k8s.io/…` |
//! | StatefulSet | ordinal | the pod's name, and `apps.kubernetes.io/pod-index` |
//! | any other, and a Job that is not Indexed | any that is free | |
//! | nobody | what its author wrote as completion index, else any | |
//!
//! Labels can be edited by whoever may write pods; names cannot. So a place is what the label says *and* what the name says
//! wherever the framework puts the place into the name, and where they differ the pod is refused. A label by which another
//! framework than the controller counts is refused as well: nobody but a person can have written it.

mod choice;
mod error;
mod groups;
mod jobs;
mod kubeflow;
mod labels;
mod lws;
mod member;
mod place;
mod pod;
mod ray;
mod roles;
mod sets;
mod space;
#[cfg(test)]
mod tests;

pub use choice::{IndexChoice, of};
pub use error::IndexError;
pub use labels::READ;
pub use member::{Rivals, rivals, split};
pub use space::{Space, Span};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Of which workload the pod is, if somebody controls it: `JobSet llama`. A `JobSet` or `MPIJob` is the workload of its Jobs.
pub fn workload(metadata: &ObjectMeta) -> Option<String> {
    let pod = pod::Pod::new(metadata);
    let owner = pod.owner?;
    let place = choice::place(&pod).ok().flatten();
    Some(place.map_or_else(|| owner.text(), |place| place.workload))
}

/// The Job that makes the pod, if its pods are not numbered: one that is replaced may get another index.
pub fn unnumbered_job(metadata: &ObjectMeta) -> Option<&str> {
    let owner = pod::Pod::new(metadata).owner?;
    let is_job = owner.is("batch", "Job");
    let has_number = labels::JOB_COMPLETION_INDEX.is_on(metadata) || labels::KUBEFLOW_REPLICA_INDEX.is_on(metadata);
    (is_job && !has_number).then_some(owner.name)
}
