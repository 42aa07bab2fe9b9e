use super::{
    super::{Span, unnumbered_job},
    *,
};

#[test]
fn an_indexed_job_says_the_index_and_other_pods_take_any() {
    let eight = network(8, &[], None);
    assert_eq!(said(&of_job("llama", 7), &eight), Ok(7));
    let long = "l".repeat(63);
    assert_eq!(said(&of_job(&long, 7), &eight), Ok(7), "of a name that is cut");
    let any = Ok(IndexChoice::Any(Span { first: 0, pods: 8 }));
    let plain = pod("batch/v1", "Job", "llama", "llama-x7k2p", &[]);
    assert_eq!(index(&plain, &eight), any);
    assert_eq!(unnumbered_job(&plain), Some("llama"));
    assert_eq!(unnumbered_job(&of_job("llama", 7)), None);
    // The name of a Job may end in a number itself.
    assert_eq!(
        index(&pod("batch/v1", "Job", "llama-3", "llama-3-x7k2p", &[]), &eight),
        any
    );
    let deployed = pod("apps/v1", "ReplicaSet", "web-5d9", "web-5d9-x7k2p", &[]);
    assert_eq!(index(&deployed, &eight), any);
    assert_eq!(index(&ObjectMeta::default(), &eight), any);
}

#[test]
fn who_makes_a_pod_by_hand_numbers_it() {
    let mut pod = of_job("llama", 3);
    pod.owner_references = None;
    assert_eq!(said(&pod, &network(4, &[], None)), Ok(3));
    assert!(
        said(&pod, &network(3, &[], None))
            .unwrap_err()
            .starts_with("IndexOutOfRange")
    );
}

#[test]
fn a_replicated_job_alone_needs_no_roles_whatever_comes_before_it() {
    // A launcher without the label would shift `job-global-index`.
    let replicated = [("launcher", 1), ("workers", 1)];
    let pod = of_jobset("train", &replicated, 1, 0, 3);
    assert_eq!(said(&pod, &network(4, &[], None)), Ok(3));
    let trainer = of_jobset("tj", &[("dataset-initializer", 1), ("node", 1)], 1, 0, 0);
    assert_eq!(said(&trainer, &network(4, &[], None)), Ok(0), "a TrainJob's");
}

#[test]
fn the_jobs_of_a_replicated_job_lie_behind_one_another() {
    let replicated = [("workers", 2)];
    let eight = network(8, &[], None);
    let at = |job, index| said(&of_jobset("train", &replicated, 0, job, index), &eight);
    assert_eq!([at(0, 0), at(0, 3), at(1, 0), at(1, 3)], [Ok(0), Ok(3), Ok(4), Ok(7)]);
    assert!(at(0, 4).unwrap_err().contains("pod 4 of group 0 of JobSet train"));
    let uneven = said(&of_jobset("train", &replicated, 0, 1, 0), &network(7, &[], None)).unwrap_err();
    assert!(
        uneven.starts_with("GroupsNeeded: role workers of JobSet train has 2 Jobs"),
        "{uneven}"
    );
}

#[test]
fn roles_lie_in_the_order_in_which_the_network_lists_them() {
    let replicated = [("launcher", 1), ("eval", 1), ("trainer", 2)];
    let network = network(11, &[("launcher", 1), ("trainer", 8), ("eval", 2)], None);
    let at = |role, job, index| said(&of_jobset("train", &replicated, role, job, index), &network);
    assert_eq!(
        [at(0, 0, 0), at(2, 0, 0), at(2, 1, 3), at(1, 0, 0), at(1, 0, 1)],
        [Ok(0), Ok(1), Ok(8), Ok(9), Ok(10)]
    );
    let full = at(1, 0, 2).unwrap_err();
    assert!(
        full.starts_with("IndexOutOfRange: JobSet train has a pod 2 (from 0) of role eval, which has pods: 2"),
        "{full}"
    );
    let unknown = said(&of_jobset("train", &[("logger", 1)], 0, 0, 0), &network).unwrap_err();
    assert!(
        unknown.starts_with(
            "RolesNeeded: role logger of JobSet train is none of network llama, which has launcher, trainer, eval"
        ),
        "{unknown}"
    );
}

#[test]
fn whole_workloads_are_roles_too() {
    let network = network(6, &[("trainer", 4), ("eval", 2)], None);
    assert_eq!(said(&of_job("trainer", 3), &network), Ok(3));
    assert_eq!(said(&of_set("eval", 1), &network), Ok(5));
    let plain = pod("batch/v1", "Job", "eval", "eval-x7k2p", &[]);
    assert_eq!(
        index(&plain, &network),
        Ok(IndexChoice::Any(Span { first: 4, pods: 2 }))
    );
    // The network has not grown so far yet.
    let grown_so_far = Space::new(&network, 5);
    assert_eq!(
        of(&plain, &grown_so_far),
        Ok(IndexChoice::Any(Span { first: 4, pods: 1 }))
    );
    assert!(of(&plain, &Space::new(&network, 4)).is_err());
}

#[test]
fn a_pytorch_job_has_its_master_first() {
    let four = network(4, &[], None);
    assert_eq!(said(&kubeflow("PyTorchJob", "ddp", "master", 0), &four), Ok(0));
    assert_eq!(said(&kubeflow("PyTorchJob", "ddp", "worker", 2), &four), Ok(3));
    // An elastic one has no master.
    let elastic = network(4, &[("worker", 4)], None);
    assert_eq!(said(&kubeflow("PyTorchJob", "ddp", "worker", 0), &elastic), Ok(0));
    let tf = said(&kubeflow("TFJob", "tf", "chief", 0), &four).unwrap_err();
    assert!(
        tf.starts_with("RolesNeeded: TFJob tf counts the pods of its role chief apart"),
        "{tf}"
    );
    let roles = network(4, &[("chief", 1), ("worker", 3)], None);
    assert_eq!(said(&kubeflow("TFJob", "tf", "worker", 2), &roles), Ok(3));
}

#[test]
fn an_mpi_launcher_has_a_place_where_it_works() {
    let three = network(3, &[], None);
    let workers = |label: fn(u32) -> u32| [0, 1].map(|number| said(&mpi_worker("hpl", number, label(number)), &three));
    assert_eq!(workers(|number| number), [Ok(0), Ok(1)]);
    // runLauncherAsWorker
    assert_eq!(workers(|number| number + 1), [Ok(1), Ok(2)]);
    assert_eq!(said(&mpi_launcher("hpl", Some("0")), &three), Ok(0));
    let apart = said(&mpi_launcher("hpl", None), &three).unwrap_err();
    assert!(
        apart.starts_with("RolesNeeded: the launcher of MPIJob hpl has the label") && apart.contains("release 0.7"),
        "{apart}"
    );
    // mpi-operator before 0.7, and training-operator, number no launcher.
    let roles = network(3, &[("launcher", 1), ("worker", 2)], None);
    assert_eq!(said(&mpi_launcher("hpl", None), &roles), Ok(0));
    assert_eq!(said(&mpi_worker("hpl", 1, 1), &roles), Ok(2));
    assert_eq!(said(&mpi_worker("hpl", 1, 2), &roles), Ok(2));
    let own = pod("kubeflow.org/v1", "MPIJob", "hpl", "hpl-launcher", &[]);
    assert_eq!(said(&own, &roles), Ok(0));
}

#[test]
fn a_ray_worker_has_its_replicas_index_where_kuberay_says_it() {
    let four = network(4, &[], None);
    assert_eq!(said(&ray("gpu", Some(2), None), &four), Ok(2));
    let any = IndexChoice::Any(Span { first: 0, pods: 4 });
    assert_eq!(index(&ray("gpu", None, None), &four), Ok(any));
    let head = said(&ray("headgroup", None, None), &four).unwrap_err();
    assert!(
        head.starts_with("RolesNeeded: the headgroup of RayCluster ray has the label"),
        "{head}"
    );
    let roles = network(5, &[("headgroup", 1), ("gpu", 4)], None);
    assert_eq!(said(&ray("headgroup", None, None), &roles), Ok(0));
    assert_eq!(said(&ray("gpu", Some(3), None), &roles), Ok(4));
    let hosts = network(4, &[], Some(2));
    assert_eq!(said(&ray("gpu", Some(1), Some(1)), &hosts), Ok(3));
    let needed = said(&ray("gpu", Some(1), Some(1)), &four).unwrap_err();
    assert!(
        needed.starts_with("GroupsNeeded: group 1 of RayCluster ray has a pod 1"),
        "{needed}"
    );
}

#[test]
fn a_leader_worker_set_of_two_groups_needs_groups() {
    let (one, two) = (network(4, &[], None), network(8, &[], Some(2)));
    let at = |network: &TrainingNetwork, group, worker| said(&lws("serve", group, worker), network);
    assert_eq!([at(&one, 0, 0), at(&one, 0, 3)], [Ok(0), Ok(3)]);
    let needed = at(&one, 1, 0).unwrap_err();
    assert!(
        needed.starts_with("GroupsNeeded: group 1 of LeaderWorkerSet serve has a pod 0 as group 0 has"),
        "{needed}"
    );
    assert!(needed.contains("spec.groups"), "{needed}");
    assert_eq!([at(&two, 0, 3), at(&two, 1, 0), at(&two, 1, 3)], [Ok(3), Ok(4), Ok(7)]);
    for (group, worker) in [(2, 0), (0, 4)] {
        let full = at(&two, group, worker).unwrap_err();
        assert!(
            full.starts_with("IndexOutOfRange: pod") && full.contains("groups: 2 of 4 pods each"),
            "{full}"
        );
    }
}

#[test]
fn a_stateful_set_has_its_ordinals_and_the_event_beyond_them_names_the_field() {
    let three = network(3, &[], None);
    assert_eq!(said(&of_set("bloom", 2), &three), Ok(2));
    let beyond = said(&of_set("bloom", 3), &three).unwrap_err();
    assert!(
        beyond.contains("network llama, which has pods: 3") && beyond.contains("at least 4 pods"),
        "{beyond}"
    );
}
