//! Workloads that want the same indices twice.

use super::{
    super::{rivals, split},
    *,
};

#[test]
fn two_replicated_jobs_with_the_label_need_roles() {
    let network = network(8, &[], None);
    let space = Space::new(&network, 8);
    let replicated = [("a", 1), ("b", 1)];
    let (a, b) = (
        of_jobset("train", &replicated, 0, 0, 0),
        of_jobset("train", &replicated, 1, 0, 0),
    );
    assert_eq!(split([&a, &a], &space), None, "one role");
    let error = split([&a, &b], &space).unwrap();
    assert_eq!(error.reason(), "RolesNeeded");
    let text = error.to_string();
    assert!(
        text.starts_with("JobSet train has pods with the label in more than one role (a and b)")
            && text.contains("spec.roles: [{name: a, pods: ...}, {name: b, pods: ...}]"),
        "{text}"
    );
    let found = rivals(&b, &space).unwrap();
    assert_eq!(
        found.selector,
        "jobset.sigs.k8s.io/jobset-name=train,jobset.sigs.k8s.io/replicatedjob-name!=b"
    );
    assert_eq!(found.error(&a, &space), error);
    let with_roles = super::network(8, &[("a", 4), ("b", 4)], None);
    let space = Space::new(&with_roles, 8);
    assert_eq!((rivals(&b, &space), split([&a, &b], &space)), (None, None));
}

#[test]
fn nobody_is_looked_for_where_nobody_can_be() {
    let network = network(8, &[], None);
    let space = Space::new(&network, 8);
    let alone = of_jobset("train", &[("workers", 2)], 0, 0, 0);
    for pod in [
        alone,
        of_job("llama", 0),
        of_set("bloom", 0),
        lws("serve", 0, 0),
        kubeflow("PyTorchJob", "ddp", "master", 0),
        mpi_worker("hpl", 0, 0),
        ray("gpu", None, None),
    ] {
        assert_eq!(rivals(&pod, &space), None, "{pod:?}");
    }
    let group = rivals(&ray("gpu", Some(0), None), &space).unwrap();
    assert_eq!(group.selector, "ray.io/cluster=ray,ray.io/group!=gpu");
}

#[test]
fn a_network_that_has_shrunk_has_the_pods_that_it_says_and_room_is_told() {
    let mut network = network(6, &[], None);
    network.spec.max_pods = Some(16);
    // Its slice had eight once.
    let space = Space::new(&network, 8);
    let said = |index| of(&of_job("llama", index), &space);
    assert_eq!(said(5), Ok(IndexChoice::Fixed(5)));
    let text = said(7).unwrap_err().to_string();
    assert!(
        text.contains("pods: 6 (indices 0 to 5): raise spec.pods to at least 8 (spec.maxPods: 16)"),
        "{text}"
    );
    let text = said(16).unwrap_err().to_string();
    assert!(
        text.contains("spec.maxPods: 16 cannot be changed; delete the network and apply it anew with at least 17"),
        "{text}"
    );
}
