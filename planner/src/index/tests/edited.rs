//! What somebody wrote who is not the framework.

use super::*;

fn refused(pod: &ObjectMeta) -> String {
    said(pod, &network(8, &[], None)).unwrap_err()
}

#[test]
fn an_edited_number_is_refused_with_label_and_owner() {
    let mut pod = of_job("llama", 3);
    let key = "batch.kubernetes.io/job-completion-index";
    set_label(&mut pod, key, "4");
    let text = refused(&pod);
    assert!(text.starts_with(r#"IndexInvalid: batch.kubernetes.io/job-completion-index says "4" and pod llama-3-x7k2p of Job llama is "3" in its annotation"#), "{text}");
    // Both of them.
    pod.annotations
        .get_or_insert_default()
        .insert(key.to_owned(), "4".to_owned());
    assert!(refused(&pod).contains("is 3 by its name"), "{}", refused(&pod));
    set_label(&mut pod, key, "-1");
    pod.annotations = None;
    assert!(refused(&pod).contains("not a number"));
    pod.labels = None;
    assert!(refused(&pod).contains("has lost"), "{}", refused(&pod));
}

#[test]
fn every_frameworks_name_is_compared() {
    let edits: [(ObjectMeta, &str, &str); 8] = [
        (of_set("bloom", 2), "apps.kubernetes.io/pod-index", "1"),
        (lws("serve", 0, 2), "leaderworkerset.sigs.k8s.io/worker-index", "1"),
        (lws("serve", 0, 2), "leaderworkerset.sigs.k8s.io/group-index", "1"),
        (lws("serve", 0, 2), "leaderworkerset.sigs.k8s.io/name", "other"),
        (
            kubeflow("PyTorchJob", "ddp", "worker", 2),
            "training.kubeflow.org/replica-index",
            "1",
        ),
        (
            kubeflow("PyTorchJob", "ddp", "worker", 2),
            "training.kubeflow.org/replica-type",
            "master",
        ),
        (mpi_worker("hpl", 2, 2), "training.kubeflow.org/replica-index", "1"),
        (
            mpi_launcher("hpl", Some("0")),
            "training.kubeflow.org/replica-index",
            "1",
        ),
    ];
    for (mut pod, key, value) in edits {
        assert!(said(&pod, &network(8, &[], None)).is_ok(), "{pod:?}");
        set_label(&mut pod, key, value);
        let text = refused(&pod);
        assert!(text.starts_with("IndexInvalid") && text.contains(key), "{text}");
    }
}

#[test]
fn a_jobset_pod_is_of_the_job_that_owns_it() {
    let mut pod = of_jobset("train", &[("a", 2), ("b", 2)], 0, 1, 0);
    pod.annotations = pod.annotations.map(|mut annotations| {
        annotations.retain(|key, _| !key.starts_with("jobset"));
        annotations
    });
    set_label(&mut pod, "jobset.sigs.k8s.io/job-index", "0");
    let text = refused(&pod);
    assert!(
        text.contains(
            "pod train-a-1-0-x7k2p of Job train-a-1 is not of Job 0 of a in JobSet train by its owner's name"
        ),
        "{text}"
    );
    pod.labels
        .get_or_insert_default()
        .remove("jobset.sigs.k8s.io/job-index");
    assert!(refused(&pod).contains("has lost jobset.sigs.k8s.io/job-index"));
}

#[test]
fn a_number_of_another_framework_is_refused() {
    let completion = ("batch.kubernetes.io/job-completion-index", "3".to_owned());
    let deployed = pod(
        "apps/v1",
        "ReplicaSet",
        "web-5d9",
        "web-5d9-x7k2p",
        std::slice::from_ref(&completion),
    );
    let text = refused(&deployed);
    assert!(
        text.starts_with("IndexInvalid: pod web-5d9-x7k2p has batch.kubernetes.io/job-completion-index, which the controller of ReplicaSet web-5d9 does not set"),
        "{text}"
    );
    // Another group's kind of the same name.
    let volcano = pod(
        "batch.volcano.sh/v1alpha1",
        "Job",
        "llama",
        "llama-3-x7k2p",
        &[completion],
    );
    assert!(refused(&volcano).contains("does not set"));
    for (mut pod, key) in [
        (of_set("bloom", 2), "training.kubeflow.org/replica-index"),
        (of_job("llama", 2), "apps.kubernetes.io/pod-index"),
        (of_job("llama", 2), "leaderworkerset.sigs.k8s.io/worker-index"),
        (ray("gpu", Some(2), None), "batch.kubernetes.io/job-completion-index"),
    ] {
        set_label(&mut pod, key, "2");
        let text = refused(&pod);
        assert!(text.contains(key) && text.contains("does not set"), "{text}");
    }
}

#[test]
fn a_job_that_numbers_nothing_gives_no_number() {
    let mut plain = pod("batch/v1", "Job", "llama", "llama-x7k2p", &[]);
    set_label(&mut plain, "batch.kubernetes.io/job-completion-index", "3");
    assert!(refused(&plain).contains("is not numbered by its name"));
}
