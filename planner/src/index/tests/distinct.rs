//! No two pods of one workload ever get one index, and no pod one that the network does not have.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A workload that fits its network exactly.
fn workloads() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    prop_oneof![
        jobsets(),
        jobset_alone(),
        sets(),
        grouped_sets(),
        kubeflow_jobs(),
        mpi_jobs(),
        ray_groups()
    ]
}

fn jobsets() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    let jobs = proptest::collection::vec((1_u32..5, 1_u32..9), 1..7);
    (jobs, any::<prop::sample::Index>()).prop_map(|(jobs, first)| {
        let names: Vec<String> = (0..jobs.len()).map(|number| format!("r{number}")).collect();
        let replicated: Vec<(&str, u32)> = names
            .iter()
            .zip(&jobs)
            .map(|(name, (replicas, _))| (name.as_str(), *replicas))
            .collect();
        let mut roles: Vec<(&str, u32)> = names
            .iter()
            .zip(&jobs)
            .map(|(name, (replicas, pods))| (name.as_str(), replicas * pods))
            .collect();
        // The order of the network's roles is its own.
        let turn = first.index(roles.len());
        roles.rotate_left(turn);
        let mut pods = Vec::new();
        for (role, (replicas, per_job)) in jobs.iter().enumerate() {
            for job in 0..*replicas {
                pods.extend((0..*per_job).map(|index| of_jobset("train", &replicated, role, job, index)));
            }
        }
        let size = roles.iter().map(|(_, pods)| pods).sum();
        (pods, network(size, &roles, None))
    })
}

fn jobset_alone() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (1_u32..9, 1_u32..9, any::<bool>()).prop_map(|(jobs, per_job, says_groups)| {
        let replicated = [("launcher", 1), ("workers", jobs)];
        let pods =
            (0..jobs).flat_map(|job| (0..per_job).map(move |index| of_jobset("train", &replicated, 1, job, index)));
        (
            pods.collect(),
            network(jobs * per_job, &[], says_groups.then_some(jobs)),
        )
    })
}

fn sets() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (1_u32..33, 1_u32..33).prop_map(|(first, second)| {
        let pods = (0..first)
            .map(|ordinal| of_set("a", ordinal))
            .chain((0..second).map(|index| of_job("b-1", index)));
        (
            pods.collect(),
            network(first + second, &[("b-1", second), ("a", first)], None),
        )
    })
}

fn grouped_sets() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (1_u32..9, 1_u32..9).prop_map(|(groups, size)| {
        let pods = (0..groups).flat_map(|group| (0..size).map(move |worker| lws("serve-2", group, worker)));
        (pods.collect(), network(groups * size, &[], Some(groups)))
    })
}

fn kubeflow_jobs() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (0_u32..33, any::<bool>()).prop_map(|(workers, has_roles)| {
        let pods = std::iter::once(kubeflow("PyTorchJob", "ddp", "master", 0))
            .chain((0..workers).map(|number| kubeflow("PyTorchJob", "ddp", "worker", number)));
        let roles = [("worker", workers), ("master", 1)];
        (
            pods.collect(),
            network(workers + 1, if has_roles && workers > 0 { &roles } else { &[] }, None),
        )
    })
}

fn mpi_jobs() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (1_u32..33, any::<bool>()).prop_map(|(workers, launcher_works)| {
        let before = u32::from(launcher_works);
        let mut pods: Vec<_> = (0..workers)
            .map(|number| mpi_worker("hpl", number, number + before))
            .collect();
        pods.extend(launcher_works.then(|| mpi_launcher("hpl", Some("0"))));
        (pods, network(workers + before, &[], None))
    })
}

fn ray_groups() -> impl Strategy<Value = (Vec<ObjectMeta>, TrainingNetwork)> {
    (1_u32..17, 1_u32..17).prop_map(|(first, second)| {
        let pods = (0..first)
            .map(|replica| ray("gpu", Some(replica), None))
            .chain((0..second).map(|replica| ray("cpu", Some(replica), None)));
        (
            pods.collect(),
            network(first + second, &[("gpu", first), ("cpu", second)], None),
        )
    })
}

proptest! {
    #[test]
    fn every_pod_has_an_index_of_its_own((pods, network) in workloads()) {
        let mut taken = BTreeSet::new();
        for pod in &pods {
            let index = said(pod, &network);
            prop_assert!(index.as_ref().is_ok_and(|index| *index < network.spec.pods), "{index:?} of {pod:?}");
            prop_assert!(taken.insert(index.clone()), "{index:?} twice");
        }
        prop_assert_eq!(taken.len(), pods.len());
    }

    /// Whatever somebody writes into labels: an index of the network or a refusal, and of a pod whose name says its place no other
    /// index than before. Where the number of Jobs cannot be compared, the label is not among those that are edited.
    #[test]
    fn labels_that_somebody_writes_choose_no_other_index(
        (pods, network) in workloads(),
        chosen in any::<prop::sample::Index>(),
        key in prop::sample::select(super::super::READ.to_vec()),
        value in "[0-9]{1,3}|launcher|worker|master|[a-z]{1,3}",
    ) {
        let pod = chosen.get(&pods);
        let before = said(pod, &network);
        let mut edited = pod.clone();
        set_label(&mut edited, key, &value);
        if let Some(annotations) = &mut edited.annotations {
            annotations.insert(key.to_owned(), value);
        }
        match index(&edited, &network) {
            Ok(IndexChoice::Fixed(after)) => {
                prop_assert!(after < network.spec.pods);
                let names_its_place = !["ray.io/", "jobset.sigs.k8s.io/replicatedjob-replicas", "training.kubeflow.org/replica-index"].iter().any(|part| key.starts_with(part));
                prop_assert!(!names_its_place || Ok(after) == before, "{key}: {before:?}, then {after} of {edited:?}");
            }
            Ok(IndexChoice::Any(_)) | Err(_) => {}
        }
    }
}
