//! What the operator's account may do to other people's objects: no more than the operator does.

use anyhow::Result;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::expect_refusal;
use crate::samples;

pub(crate) fn the_operator_writes_two_annotations_of_pods_and_nothing_else(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("rights")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "pod", "llama", 0)])?;
    let patch = |what: &Value| {
        let what = what.to_string();
        let command = ["patch", "pod", "pod", "--namespace", &namespace, "--type", "strategic"];
        cluster.kubectl(&world.operator_account, &[&command[..], &["--patch", &what]].concat())
    };
    for wish in [
        json!({"spec": {"containers": [{"name": "train", "image": "mine"}]}}),
        json!({"metadata": {"labels": {"app": "mine"}}}),
        json!({"metadata": {"annotations": {"example.com/mine": "yes"}}}),
        json!({"metadata": {"annotations": {"railhead.dev/index-free": "1", "example.com/mine": "yes"}}}),
        json!({"metadata": {"finalizers": ["example.com/mine"]}}),
    ] {
        let words = [
            "railhead.dev/template-created and railhead.dev/index-free",
            "of pod pod",
            "nothing else",
        ];
        expect_refusal(&patch(&wish)?, &words)?;
    }
    patch(&json!({"metadata": {"annotations": {"railhead.dev/index-free": "1"}}}))?.ok()?;
    Ok(())
}

pub(crate) fn the_operator_writes_no_specs_of_people_and_no_templates_of_others(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("specs")?;
    let mut fabric = samples::fabric("specs");
    fabric["spec"]["mtu"] = json!(9000);
    cluster.create(
        &cluster.admin(),
        &[fabric, samples::network(&namespace, "llama", "specs", 2)],
    )?;
    let operator = &world.operator_account;
    let patch = |kind: &str, name: &str, what: &Value| {
        let what = what.to_string();
        let command = [
            "patch",
            kind,
            name,
            "--namespace",
            &namespace,
            "--type",
            "merge",
            "--dry-run=server",
        ];
        cluster.kubectl(operator, &[&command[..], &["--patch", &what]].concat())
    };
    let nccl = json!({"spec": {"nccl": {"inject": "None"}}});
    expect_refusal(
        &patch("tnet", "llama", &nccl)?,
        &["finalizers of trainingnetworks", "not the spec"],
    )?;
    let words = ["finalizers and spec.teardown of Fabric specs", "nothing else"];
    expect_refusal(&patch("fabric", "specs", &json!({"spec": {"mtu": 1500}}))?, &words)?;
    expect_refusal(
        &patch("fabric", "specs", &json!({"metadata": {"labels": {"a": "b"}}}))?,
        &words,
    )?;
    patch("fabric", "specs", &json!({"spec": {"teardown": true}}))?.ok()?;
    let template = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "gpus", "namespace": namespace},
        "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}}},
    });
    let words = ["claim templates of networks only", "gpus is none"];
    cluster.refused(operator, &template, &words)?;
    cluster.create(&cluster.admin(), &[template])?;
    let delete = ["delete", "resourceclaimtemplate", "gpus", "--namespace", &namespace];
    expect_refusal(&cluster.kubectl(operator, &delete)?, &words)
}
