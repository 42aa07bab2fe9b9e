//! Jobs of Kubeflow's training-operator and mpi-operator. `TrainJob` of Trainer v2 is a `JobSet`.

use super::{
    IndexError,
    labels::{
        KUBEFLOW_JOB_NAME, KUBEFLOW_JOB_ROLE, KUBEFLOW_OPERATOR, KUBEFLOW_REPLICA_INDEX, KUBEFLOW_REPLICA_TYPE, Key,
    },
    place::{Number, Place},
    pod::{Owner, Pod, ordinal},
};

/// The key by which their pods are numbered.
pub(super) const NUMBERS: [Key; 1] = [KUBEFLOW_REPLICA_INDEX];
/// Role of the pod that starts an `MPIJob`.
pub(super) const LAUNCHER: &str = "launcher";
const WORKER: &str = "worker";
const MASTER: &str = "master";

/// The place of a pod that such a job owns.
pub(super) fn place(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Place, IndexError> {
    if owner.kind == "MPIJob" {
        return in_mpi_job(pod, owner);
    }
    let role = pod.needed(KUBEFLOW_REPLICA_TYPE)?;
    // `GenGeneralName` in `pkg/core/utils.go`.
    let named = ordinal(pod.name(), &format!("{}-{role}", owner.name));
    let named = named.ok_or_else(|| pod.contradicts(KUBEFLOW_REPLICA_TYPE, role, "none of that type by its name"))?;
    let number = pod.agree(KUBEFLOW_REPLICA_INDEX, named)?;
    let number = match (owner.kind, role) {
        // As RANK has it (`pkg/controller.v1/pytorch/envvar.go`).
        ("PyTorchJob", MASTER) => both(number, 0),
        ("PyTorchJob", WORKER) => both(number, 1),
        _ => Number::OnlyInRole(number),
    };
    Ok(Place {
        workload: owner.text(),
        role: role.to_owned(),
        has_parts: false,
        number,
    })
}

/// In the workload, others come before the role.
fn both(number: u32, before: u32) -> Number {
    Number::Either {
        role: number,
        workload: number.saturating_add(before),
    }
}

/// Workers are `<job>-worker-<number>`. Under `runLauncherAsWorker` their label has one more than that, and the launcher is 0
/// (`workerReplicaIndexLabel` in `pkg/controller/mpi_job_controller.go`, mpi-operator 0.7): both numbers are the framework's.
fn in_mpi_job(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Place, IndexError> {
    if pod.name() == format!("{}-{LAUNCHER}", owner.name) {
        // training-operator's has no index.
        return Ok(launcher_of(owner.name, Number::Apart));
    }
    let named = ordinal(pod.name(), &format!("{}-{WORKER}", owner.name));
    let value = pod.needed(KUBEFLOW_REPLICA_INDEX)?;
    let labelled = pod.needed_number(KUBEFLOW_REPLICA_INDEX)?;
    let named = named.filter(|named| labelled == *named || labelled.checked_sub(1) == Some(*named));
    let named = named.ok_or_else(|| pod.contradicts(KUBEFLOW_REPLICA_INDEX, value, "another worker by its name"))?;
    Ok(Place {
        workload: owner.text(),
        role: WORKER.to_owned(),
        has_parts: false,
        number: Number::Either {
            role: named,
            workload: labelled,
        },
    })
}

/// The place of mpi-operator's launcher, whose pod is made by the Job `<job>-launcher`.
pub(super) fn launcher(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Option<Place>, IndexError> {
    let is_launcher = KUBEFLOW_OPERATOR.label(pod.metadata) == Some("mpi-operator")
        && KUBEFLOW_JOB_ROLE.label(pod.metadata) == Some(LAUNCHER);
    if !is_launcher || !owner.is("batch", "Job") {
        return Ok(None);
    }
    let job = pod.needed(KUBEFLOW_JOB_NAME)?;
    if owner.name != format!("{job}-{LAUNCHER}") {
        return Err(pod.contradicts(KUBEFLOW_JOB_NAME, job, "of another launcher by its owner's name"));
    }
    let number = match pod.value(KUBEFLOW_REPLICA_INDEX)? {
        None => Number::Apart,
        Some("0") => both(0, 0),
        Some(value) => return Err(pod.contradicts(KUBEFLOW_REPLICA_INDEX, value, "0, as a launcher is")),
    };
    Ok(Some(launcher_of(job, number)))
}

fn launcher_of(job: &str, number: Number) -> Place {
    Place {
        workload: format!("MPIJob {job}"),
        role: LAUNCHER.to_owned(),
        has_parts: false,
        number,
    }
}
