//! The objects that the tests apply.

use serde_json::{Value, json};

/// A TrainingNetwork of the default class.
pub(crate) fn network(name: &str, pods: u32) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "TrainingNetwork",
        "metadata": {"name": name},
        "spec": {"pods": pods},
    })
}

/// An Indexed Job whose pods join the network of the same name. It spreads over the nodes as long as they take pods, and
/// its containers start again when their sandbox is lost.
pub(crate) fn job(name: &str, completions: u32) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "completionMode": "Indexed",
            "completions": completions,
            "parallelism": completions,
            "backoffLimit": 100,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": {"railhead.dev/network": name}},
                "spec": {
                    "restartPolicy": "OnFailure",
                    "terminationGracePeriodSeconds": 1,
                    "topologySpreadConstraints": [{
                        "maxSkew": 1,
                        "topologyKey": "kubernetes.io/hostname",
                        "whenUnsatisfiable": "ScheduleAnyway",
                        "labelSelector": {"matchLabels": {"batch.kubernetes.io/job-name": name}},
                    }],
                    "containers": [container()],
                },
            },
        },
    })
}

/// The same job without the label: its pods have the cluster's own network only.
pub(crate) fn plain_job(name: &str, completions: u32) -> Value {
    let mut job = job(name, completions);
    job["spec"]["template"]["metadata"]["labels"] = json!({});
    job
}

/// A pod without the label that brings a claim template of its own.
pub(crate) fn pod_with_template(name: &str, template: &str) -> Value {
    let mut container = container();
    container["resources"] = json!({"claims": [{"name": "railhead"}]});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "resourceClaims": [{"name": "railhead", "resourceClaimTemplateName": template}],
            "containers": [container],
        },
    })
}

/// A pod on a node; with a network, it joins that. It starts again when its sandbox is lost.
pub(crate) fn pod(name: &str, network: Option<&str>, node: &str) -> Value {
    let labels = network.map_or_else(|| json!({}), |network| json!({"railhead.dev/network": network}));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": node},
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 1,
            "containers": [container()],
        },
    })
}

fn container() -> Value {
    json!({"name": "train", "image": "railhead/tools:dev", "command": ["sleep", "3600"]})
}
