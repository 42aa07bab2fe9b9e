//! Which index a pod gets, by workload: the API server's own controllers make the pods, real agents on hollow nodes take the indices.
//! What controllers do that are not Kubernetes' own is done here as their sources do it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::chart::repository;
use crate::cluster::{Cluster, contains};
use crate::samples;
use crate::workloads::HollowFabric;

/// An object of an example, with the defaults that the API server adds.
fn example(cluster: &Cluster, file: &str) -> Result<Value> {
    let file = repository().join("examples").join(file).display().to_string();
    let arguments = [
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "--output",
        "json",
        "--filename",
    ];
    let printed = cluster.ok(&[&arguments[..], &[&file]].concat())?;
    let mut object: Value = serde_json::from_str(&printed)?;
    object["metadata"] = json!({"name": object["metadata"]["name"]});
    Ok(object)
}

/// JobSet's kind, without its schema: its release is no part of this tier.
fn define_jobsets(cluster: &Cluster) -> Result<()> {
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "jobsets.jobset.x-k8s.io"},
        "spec": {
            "group": "jobset.x-k8s.io", "scope": "Namespaced",
            "names": {"kind": "JobSet", "plural": "jobsets", "singular": "jobset"},
            "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    // Another test may define them at the same moment, and of two creations one is refused.
    eventually("JobSets are defined", || {
        let applied = cluster.feed(
            &cluster.admin(),
            &["apply", "--filename", "-"],
            std::slice::from_ref(&definition),
        );
        applied?.ok()
    })?;
    eventually("the API server serves JobSets", || {
        cluster.ok(&["get", "jobsets.jobset.x-k8s.io", "--all-namespaces"])
    })?;
    Ok(())
}

/// The Jobs of a JobSet, as its controller makes them (`constructJob` and `labelAndAnnotateObject` in
/// `pkg/controllers/jobset_controller.go`, v0.12).
fn jobs_of(jobset: &Value) -> Result<Vec<Value>> {
    let name = text(&jobset["metadata"]["name"])?;
    let uid = text(&jobset["metadata"]["uid"])?;
    let replicated = jobset["spec"]["replicatedJobs"]
        .as_array()
        .context("no replicatedJobs")?;
    let replicas = |job: &Value| job["replicas"].as_u64().unwrap_or(1);
    let all: u64 = replicated.iter().map(replicas).sum();
    let mut before = 0;
    let mut jobs = Vec::new();
    for role in replicated {
        let role_name = text(&role["name"])?;
        for index in 0..replicas(role) {
            let labels = json!({
                "jobset.sigs.k8s.io/jobset-name": name,
                "jobset.sigs.k8s.io/jobset-uid": uid,
                "jobset.sigs.k8s.io/replicatedjob-name": role_name,
                "jobset.sigs.k8s.io/restart-attempt": "0",
                "jobset.sigs.k8s.io/replicatedjob-replicas": replicas(role).to_string(),
                "jobset.sigs.k8s.io/global-replicas": all.to_string(),
                "jobset.sigs.k8s.io/job-index": index.to_string(),
                "jobset.sigs.k8s.io/job-global-index": (before + index).to_string(),
            });
            let mut spec = role["template"]["spec"].clone();
            let template = &mut spec["template"]["metadata"];
            for field in ["labels", "annotations"] {
                for (key, value) in labels.as_object().into_iter().flatten() {
                    template[field][key] = value.clone();
                }
            }
            jobs.push(json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {
                    "name": format!("{name}-{role_name}-{index}"), "namespace": jobset["metadata"]["namespace"],
                    "labels": labels, "annotations": labels,
                    "ownerReferences": [{"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "name": name, "uid": uid, "controller": true}],
                },
                "spec": spec,
            }));
        }
        before += replicas(role);
    }
    Ok(jobs)
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// A JobSet of replicated jobs that are one Indexed Job each, all with a network's label.
fn jobset(cluster: &Cluster, namespace: &str, name: &str, network: &str, roles: &[(&str, u32)]) -> Result<Vec<Value>> {
    let replicated = roles.iter().map(|(role, pods)| {
        json!({"name": role, "replicas": 1, "template": {"spec": {
            "completions": pods, "parallelism": pods, "completionMode": "Indexed",
            "template": {
                "metadata": {"labels": {"railhead.dev/network": network}},
                "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{"name": "train", "image": "train"}]},
            },
        }}})
    });
    let jobset = json!({
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicatedJobs": replicated.collect::<Vec<_>>()},
    });
    cluster.create(&cluster.admin(), &[jobset])?;
    jobs_of(&cluster.get(namespace, "jobsets.jobset.x-k8s.io", name)?)
}

/// The names of the pods with a label, once there are so many.
fn pods(cluster: &Cluster, namespace: &str, label: &str, count: usize) -> Result<Vec<String>> {
    eventually(&format!("there are {count} pods with {label}"), || {
        let names = cluster.ok(&[
            "get",
            "pods",
            "--namespace",
            namespace,
            "--selector",
            label,
            "--output",
            "name",
        ])?;
        let names: Vec<String> = names
            .lines()
            .map(|line| line.trim_start_matches("pod/").to_owned())
            .collect();
        ensure!(names.len() == count, "there are {names:?}");
        Ok(names)
    })
}

/// The pods by index, each without what is random in its name.
fn by_index(wired: &BTreeMap<u64, Value>) -> Vec<(u64, String)> {
    let name = |attachment: &Value| {
        let name = attachment["spec"]["podName"].as_str().unwrap_or_default();
        name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned()
    };
    wired
        .iter()
        .map(|(index, attachment)| (*index, name(attachment)))
        .collect()
}

fn addresses(attachment: &Value) -> Vec<&Value> {
    (0..2)
        .map(|rail| &attachment["status"]["rails"][rail]["addresses"])
        .collect()
}

/// The example: a launcher in front, then two Jobs of two trainers.
pub(crate) fn the_jobs_of_a_jobset_and_its_launcher_get_their_indices_in_the_order_of_roles(
    world: &World,
) -> Result<()> {
    let cluster = &world.cluster;
    define_jobsets(cluster)?;
    let fabric = HollowFabric::new(world, "jobset", 2)?;
    let namespace = &fabric.namespace;
    let slice = fabric.network_of(example(cluster, "jobset/network.yaml")?)?;
    let file = repository().join("examples/jobset/jobset.yaml").display().to_string();
    cluster.ok(&["apply", "--namespace", namespace, "--filename", &file])?;
    let jobs = jobs_of(&cluster.get(namespace, "jobsets.jobset.x-k8s.io", "llama")?)?;
    ensure!(jobs.len() == 3, "{} Jobs", jobs.len());
    cluster.create(&cluster.admin(), &jobs)?;
    let wired = fabric.wired(&slice, 5)?;
    let expected = [
        "llama-launcher-0-0",
        "llama-trainer-0-0",
        "llama-trainer-0-1",
        "llama-trainer-1-0",
        "llama-trainer-1-1",
    ];
    let expected: Vec<(u64, String)> = (0..).zip(expected.map(str::to_owned)).collect();
    ensure!(by_index(&wired) == expected, "{:?}", by_index(&wired));
    cluster.condition((namespace, "tnet", "llama"), "Attached", "True", "AllAttached")?;
    // A pod that fails is made anew, under another name and with its index and addresses.
    let pod = text(&wired[&3]["spec"]["podName"])?;
    let failed = json!({"status": {"phase": "Failed"}}).to_string();
    cluster.ok(&[
        "patch",
        "pod",
        pod,
        "--namespace",
        namespace,
        "--subresource=status",
        "--patch",
        &failed,
    ])?;
    eventually("index 3 is another pod's", || {
        let wired = fabric.wired(&slice, 5)?;
        ensure!(wired[&3]["spec"]["podName"] != pod, "it is still {pod}");
        Ok(())
    })?;
    let again = fabric.wired(&slice, 5)?;
    ensure!(by_index(&again) == expected, "{:?}", by_index(&again));
    ensure!(
        addresses(&again[&3]) == addresses(&wired[&3]),
        "{} is not {}",
        again[&3],
        wired[&3]
    );
    Ok(())
}

/// Each of them would take the other's indices, and the rest wait for ever. When one has ended, the other goes on.
pub(crate) fn two_replicated_jobs_without_roles_are_told_what_to_write(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    define_jobsets(cluster)?;
    let fabric = HollowFabric::new(world, "noroles", 1)?;
    let namespace = &fabric.namespace;
    let slice = fabric.network("llama", 4)?;
    let jobs = jobset(cluster, namespace, "train", "llama", &[("first", 2), ("second", 2)])?;
    cluster.create(&cluster.admin(), &jobs[..1])?;
    let held = by_index(&fabric.wired(&slice, 2)?);
    cluster.create(&cluster.admin(), &jobs[1..])?;
    let step = "spec.roles: [{name: first, pods: ...}, {name: second, pods: ...}]";
    for pod in pods(cluster, namespace, "jobset.sigs.k8s.io/replicatedjob-name=second", 2)? {
        let message = cluster.event(namespace, &pod, "RolesNeeded")?;
        contains(&message, &["JobSet train", "first and second", step])?;
    }
    not_all(
        cluster,
        namespace,
        "RolesNeeded",
        &["2/4 attached", "JobSet train", step],
    )?;
    ensure!(
        by_index(&fabric.wired(&slice, 2)?) == held,
        "somebody else got an index"
    );
    cluster.ok(&["delete", "job", "train-first-0", "--namespace", namespace])?;
    eventually("the second replicated job has the indices", || {
        let wired = by_index(&fabric.wired(&slice, 2)?);
        ensure!(
            wired.iter().all(|(_, pod)| pod.starts_with("train-second-0")),
            "{wired:?}"
        );
        Ok(())
    })
}

pub(crate) fn a_stateful_set_keeps_its_addresses_and_is_told_of_pods_beyond_the_network(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = HollowFabric::new(world, "stateful", 2)?;
    let namespace = &fabric.namespace;
    let slice = fabric.network_of(example(cluster, "statefulset/network.yaml")?)?;
    let file = repository()
        .join("examples/statefulset/statefulset.yaml")
        .display()
        .to_string();
    cluster.ok(&[
        "apply",
        "--validate=strict",
        "--namespace",
        namespace,
        "--filename",
        &file,
    ])?;
    let first = fabric.wired(&slice, 2)?;
    let of = |wired: &BTreeMap<u64, Value>| -> Vec<(u64, Value)> {
        wired
            .iter()
            .map(|(index, found)| (*index, found["spec"]["podName"].clone()))
            .collect()
    };
    ensure!(
        of(&first) == [(0, json!("bloom-0")), (1, json!("bloom-1"))],
        "{:?}",
        of(&first)
    );
    cluster.ok(&["delete", "pod", "bloom-1", "--namespace", namespace])?;
    eventually("bloom-1 is wired anew", || {
        let again = fabric.wired(&slice, 2)?;
        ensure!(
            again[&1]["spec"]["podUID"] != first[&1]["spec"]["podUID"],
            "it is the old pod"
        );
        ensure!(
            addresses(&again[&1]) == addresses(&first[&1]),
            "other addresses: {}",
            again[&1]
        );
        Ok(())
    })?;
    cluster.ok(&[
        "scale",
        "statefulset",
        "bloom",
        "--replicas=5",
        "--namespace",
        namespace,
    ])?;
    let message = cluster.event(namespace, "bloom-4", "IndexOutOfRange")?;
    contains(
        &message,
        &[
            "index 4 is not in network bloom, which has pods: 4",
            "raise spec.pods to at least 5",
        ],
    )?;
    let all = fabric.wired(&slice, 4)?;
    ensure!(
        all[&0]["metadata"]["uid"] == first[&0]["metadata"]["uid"],
        "bloom-0 lost its index"
    );
    cluster.condition((namespace, "tnet", "bloom"), "Attached", "False", "IndexOutOfRange")?;
    cluster.ok(&[
        "scale",
        "statefulset",
        "bloom",
        "--replicas=4",
        "--namespace",
        namespace,
    ])?;
    cluster.condition((namespace, "tnet", "bloom"), "Attached", "True", "AllAttached")?;
    Ok(())
}

pub(crate) fn a_network_with_max_pods_grows_and_shrinks_while_its_pods_run(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = HollowFabric::new(world, "elastic", 2)?;
    let namespace = &fabric.namespace;
    let mut network = example(cluster, "statefulset/network.yaml")?;
    network["spec"] = json!({"pods": 2, "maxPods": 6});
    let slice = fabric.network_of(network)?;
    let bloom = (&**namespace, "tnet", "bloom");
    let block = cluster.get(namespace, "networkslice", &slice)?["spec"].clone();
    ensure!(
        (&block["pods"], &block["capacity"]) == (&json!(2), &json!(8)),
        "the slice is {block}"
    );
    let scale = |replicas: u32| {
        let replicas = format!("--replicas={replicas}");
        cluster.ok(&["scale", "statefulset", "bloom", &replicas, "--namespace", namespace])
    };
    let pods = |pods: u32| {
        let patch = json!({"spec": {"pods": pods}});
        cluster.patch(&cluster.admin(), bloom, &patch, &[])?.ok()
    };
    let file = repository().join("examples/statefulset/statefulset.yaml");
    let file = file.display().to_string();
    cluster.ok(&["apply", "--namespace", namespace, "--filename", &file])?;
    let first = fabric.wired(&slice, 2)?;
    scale(4)?;
    let message = cluster.event(namespace, "bloom-3", "IndexOutOfRange")?;
    contains(
        &message,
        &["index 3", "raise spec.pods to at least 4 (spec.maxPods: 6)"],
    )?;
    pods(4)?;
    let grown = fabric.wired(&slice, 4)?;
    let uid = |wired: &BTreeMap<u64, Value>, index: u64| wired[&index]["metadata"]["uid"].clone();
    for index in [0, 1] {
        ensure!(uid(&grown, index) == uid(&first, index), "index {index} was touched");
    }
    cluster.condition(bloom, "Attached", "True", "AllAttached")?;
    // Those beyond it run on, and what is made anew is told.
    pods(3)?;
    eventually("the network has three pods", || {
        let status = cluster.get(namespace, "tnet", "bloom")?["status"].clone();
        ensure!(status["summary"]["attached"] == "3/3", "it says {status}");
        Ok(())
    })?;
    ensure!(
        uid(&fabric.wired(&slice, 4)?, 3) == uid(&grown, 3),
        "bloom-3 was touched"
    );
    cluster.ok(&["delete", "pod", "bloom-3", "--namespace", namespace])?;
    let message = cluster.condition(bloom, "Attached", "False", "IndexOutOfRange")?;
    contains(
        &message,
        &["bloom-3", "raise spec.pods to at least 4 (spec.maxPods: 6)"],
    )?;
    let left = fabric.wired(&slice, 3)?;
    ensure!(!left.contains_key(&3), "index 3 was given again: {}", left[&3]);
    scale(3)?;
    cluster.condition(bloom, "Attached", "True", "AllAttached")?;
    let now = cluster.get(namespace, "networkslice", &slice)?["spec"].clone();
    ensure!(
        (&now["base"], &now["capacity"]) == (&block["base"], &block["capacity"]),
        "the block moved: {now}"
    );
    Ok(())
}

/// The StatefulSets of a LeaderWorkerSet with groups of two, as its controllers make them (`pkg/controllers`, v0.9). What its webhook
/// adds, `worker-index` of workers and `group-index` of leaders, is missing here; unit tests have them.
fn leader_worker_set(namespace: &str, name: &str, network: &str, groups: u32) -> Vec<Value> {
    let set = |set: &str, replicas: u32, start: u32, labels: Value| {
        let mut all = labels.clone();
        all["railhead.dev/network"] = json!(network);
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": set, "namespace": namespace, "labels": labels},
            "spec": {
                "replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel", "ordinals": {"start": start},
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": all, "annotations": {"leaderworkerset.sigs.k8s.io/size": "2"}},
                    "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "serve", "image": "serve"}]},
                },
            },
        })
    };
    let label = |key: &str| format!("leaderworkerset.sigs.k8s.io/{key}");
    let leaders = json!({label("name"): name, label("worker-index"): "0"});
    let mut sets = vec![set(name, groups, 0, leaders)];
    for group in 0..groups {
        let workers = json!({label("name"): name, label("group-index"): group.to_string(), label("group-key"): format!("key-{group}")});
        sets.push(set(&format!("{name}-{group}"), 1, 1, workers));
    }
    sets
}

pub(crate) fn two_groups_of_a_leader_worker_set_are_told_to_say_groups(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = HollowFabric::new(world, "lws", 2)?;
    let namespace = &fabric.namespace;
    let flat = fabric.network("flat", 4)?;
    cluster.create(&cluster.admin(), &leader_worker_set(namespace, "one", "flat", 2))?;
    for pod in ["one-1", "one-1-1"] {
        let message = cluster.event(namespace, pod, "GroupsNeeded")?;
        contains(
            &message,
            &[
                "group 1 of LeaderWorkerSet one",
                "network flat counts one group",
                "spec.groups",
            ],
        )?;
    }
    let wired = fabric.wired(&flat, 2)?;
    ensure!(
        wired[&0]["spec"]["podName"] == "one-0" && wired[&1]["spec"]["podName"] == "one-0-1",
        "{wired:?}"
    );
    cluster.condition((namespace, "tnet", "flat"), "Attached", "False", "GroupsNeeded")?;
    let mut grouped = samples::network(namespace, "grouped", fabric.name, 4);
    grouped["spec"]["groups"] = json!(2);
    let slice = fabric.network_of(grouped)?;
    cluster.create(&cluster.admin(), &leader_worker_set(namespace, "two", "grouped", 2))?;
    let wired = fabric.wired(&slice, 4)?;
    let names: Vec<&Value> = wired
        .values()
        .map(|attachment| &attachment["spec"]["podName"])
        .collect();
    ensure!(names == ["two-0", "two-0-1", "two-1", "two-1-1"], "{names:?}");
    Ok(())
}

/// Whoever may write pods may write their labels.
pub(crate) fn a_number_that_somebody_edited_is_refused(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = HollowFabric::new(world, "renumbered", 1)?;
    let namespace = &fabric.namespace;
    let slice = fabric.network("llama", 4)?;
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "llama", "namespace": namespace},
        "spec": {
            "completions": 2, "parallelism": 2, "completionMode": "Indexed",
            "template": {
                "metadata": {"labels": {"railhead.dev/network": "llama"}},
                "spec": {
                    "schedulingGates": [{"name": "test.railhead.dev/edited"}], "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "train", "image": "train"}],
                },
            },
        },
    });
    cluster.create(&cluster.admin(), &[job])?;
    let names = pods(cluster, namespace, "railhead.dev/network=llama", 2)?;
    let Some(edited) = names.iter().find(|name| name.starts_with("llama-1-")) else {
        bail!("no pod has index 1: {names:?}")
    };
    let key = "batch.kubernetes.io/job-completion-index";
    // The Job's controller counts by the annotation, and would delete the pod if that said 3.
    let number = json!({"metadata": {"labels": {key: "3"}}}).to_string();
    cluster.ok(&["patch", "pod", edited, "--namespace", namespace, "--patch", &number])?;
    let open = json!({"spec": {"schedulingGates": []}}).to_string();
    for name in &names {
        cluster.ok(&[
            "patch",
            "pod",
            name,
            "--namespace",
            namespace,
            "--type=merge",
            "--patch",
            &open,
        ])?;
    }
    let message = cluster.event(namespace, edited, "IndexInvalid")?;
    contains(
        &message,
        &[
            key,
            "\"3\"",
            &format!("pod {edited} of Job llama is \"1\" in its annotation"),
            "made anew",
        ],
    )?;
    let wired = fabric.wired(&slice, 1)?;
    ensure!(wired.contains_key(&0), "{:?}", by_index(&wired));
    not_all(cluster, namespace, "IndexInvalid", &["1/4 attached", edited])
}

/// Waits until network llama has pods without an index, for this reason and in these words: who is refused may be told before
/// those that are wired are counted.
fn not_all(cluster: &Cluster, namespace: &str, reason: &str, words: &[&str]) -> Result<()> {
    eventually(&format!("llama says {words:?}"), || {
        let message = cluster.message((namespace, "tnet", "llama"), "Attached", "False", reason)?;
        contains(&message, words)
    })
}
