//! The shapes of real workloads, as their controllers write them.

mod distinct;
mod edited;
mod shapes;
mod spaces;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use railhead_crds::{NetworkRole, TrainingNetwork};

use super::{IndexChoice, IndexError, Space, of};

/// A pod that a controller made.
fn pod(api_version: &str, kind: &str, owner: &str, name: &str, labels: &[(&str, String)]) -> ObjectMeta {
    let labels: BTreeMap<String, String> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        owner_references: Some(vec![OwnerReference {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: owner.to_owned(),
            uid: "o-1".to_owned(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

/// The pod of an Indexed Job.
fn of_job(job: &str, index: u32) -> ObjectMeta {
    const INDEX: &str = "batch.kubernetes.io/job-completion-index";
    // `podGenerateNameWithIndex`
    let end = format!("-{index}-");
    let start = &job[..job.len().min(58 - end.len())];
    let name = format!("{start}{end}x7k2p");
    let mut pod = pod("batch/v1", "Job", job, &name, &[(INDEX, index.to_string())]);
    pod.annotations = Some([(INDEX.to_owned(), index.to_string())].into());
    pod
}

/// The pod of a `JobSet` whose replicated jobs have these names and numbers of Jobs.
fn of_jobset(jobset: &str, replicated: &[(&str, u32)], role: usize, job: u32, index: u32) -> ObjectMeta {
    let (name, replicas) = replicated[role];
    let before: u32 = replicated[..role].iter().map(|(_, replicas)| replicas).sum();
    let all: u32 = replicated.iter().map(|(_, replicas)| replicas).sum();
    let mut pod = of_job(&format!("{jobset}-{name}-{job}"), index);
    let labels = [
        ("jobset-name", jobset.to_owned()),
        ("replicatedjob-name", name.to_owned()),
        ("replicatedjob-replicas", replicas.to_string()),
        ("global-replicas", all.to_string()),
        ("job-index", job.to_string()),
        ("job-global-index", (before + job).to_string()),
        ("restart-attempt", "0".to_owned()),
    ];
    for (key, value) in labels {
        let key = format!("jobset.sigs.k8s.io/{key}");
        pod.annotations
            .get_or_insert_default()
            .insert(key.clone(), value.clone());
        pod.labels.get_or_insert_default().insert(key, value);
    }
    pod
}

fn kubeflow(kind: &str, job: &str, role: &str, number: u32) -> ObjectMeta {
    let labels = [
        ("training.kubeflow.org/replica-type", role.to_owned()),
        ("training.kubeflow.org/replica-index", number.to_string()),
        ("training.kubeflow.org/job-name", job.to_owned()),
        (
            "training.kubeflow.org/operator-name",
            format!("{}-controller", kind.to_lowercase()),
        ),
    ];
    pod("kubeflow.org/v1", kind, job, &format!("{job}-{role}-{number}"), &labels)
}

/// The worker of an `MPIJob`, with the number that its label has.
fn mpi_worker(job: &str, number: u32, label: u32) -> ObjectMeta {
    let labels = [
        ("training.kubeflow.org/operator-name", "mpi-operator".to_owned()),
        ("training.kubeflow.org/job-name", job.to_owned()),
        ("training.kubeflow.org/job-role", "worker".to_owned()),
        ("training.kubeflow.org/replica-index", label.to_string()),
    ];
    pod(
        "kubeflow.org/v2beta1",
        "MPIJob",
        job,
        &format!("{job}-worker-{number}"),
        &labels,
    )
}

/// Its launcher, which has an index where it is to work.
fn mpi_launcher(job: &str, index: Option<&str>) -> ObjectMeta {
    let mut labels = vec![
        ("training.kubeflow.org/operator-name", "mpi-operator".to_owned()),
        ("training.kubeflow.org/job-name", job.to_owned()),
        ("training.kubeflow.org/job-role", "launcher".to_owned()),
    ];
    labels.extend(index.map(|index| ("training.kubeflow.org/replica-index", index.to_owned())));
    let owner = format!("{job}-launcher");
    pod("batch/v1", "Job", &owner, &format!("{owner}-x7k2p"), &labels)
}

fn ray(group: &str, replica: Option<u32>, host: Option<u32>) -> ObjectMeta {
    let node = if group == "headgroup" { "head" } else { "worker" };
    let mut labels = vec![
        ("ray.io/cluster", "ray".to_owned()),
        ("ray.io/node-type", node.to_owned()),
        ("ray.io/group", group.to_owned()),
    ];
    labels.extend(replica.map(|index| ("ray.io/worker-group-replica-index", index.to_string())));
    labels.extend(host.map(|index| ("ray.io/replica-host-index", index.to_string())));
    let name = format!("ray-{group}-{node}-x7k2p");
    pod("ray.io/v1", "RayCluster", "ray", &name, &labels)
}

fn of_set(set: &str, ordinal: u32) -> ObjectMeta {
    let name = format!("{set}-{ordinal}");
    let labels = [
        ("apps.kubernetes.io/pod-index", ordinal.to_string()),
        ("statefulset.kubernetes.io/pod-name", name.clone()),
    ];
    pod("apps/v1", "StatefulSet", set, &name, &labels)
}

fn lws(set: &str, group: u32, worker: u32) -> ObjectMeta {
    let mut pod = match worker {
        0 => of_set(set, group),
        worker => of_set(&format!("{set}-{group}"), worker),
    };
    let labels = pod.labels.get_or_insert_default();
    for (key, value) in [
        ("name", set.to_owned()),
        ("group-index", group.to_string()),
        ("worker-index", worker.to_string()),
    ] {
        labels.insert(format!("leaderworkerset.sigs.k8s.io/{key}"), value);
    }
    pod
}

fn network(pods: u32, roles: &[(&str, u32)], groups: Option<u32>) -> TrainingNetwork {
    let mut network = TrainingNetwork::new(
        "llama",
        serde_json::from_value(serde_json::json!({"pods": pods})).unwrap(),
    );
    network.spec.roles = roles
        .iter()
        .map(|(name, pods)| NetworkRole {
            name: (*name).to_owned(),
            pods: *pods,
        })
        .collect();
    network.spec.groups = groups;
    network
}

fn index(pod: &ObjectMeta, network: &TrainingNetwork) -> Result<IndexChoice, IndexError> {
    of(pod, &Space::new(network, network.spec.pods))
}

/// The index, or why there is none.
fn said(pod: &ObjectMeta, network: &TrainingNetwork) -> Result<u32, String> {
    match index(pod, network) {
        Ok(IndexChoice::Fixed(index)) => Ok(index),
        Ok(any @ IndexChoice::Any(_)) => Err(format!("{any:?}")),
        Err(error) => Err(format!("{}: {error}", error.reason())),
    }
}

fn set_label(pod: &mut ObjectMeta, key: &str, value: &str) {
    pod.labels
        .get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
}
