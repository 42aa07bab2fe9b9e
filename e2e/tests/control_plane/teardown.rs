//! The pre-delete hook of the chart, with its own account and rights.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use railhead_e2e::lab::run::{Output, capture};
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{Identity, SYSTEM, contains};
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Makes the hook's account as `helm uninstall` does, and runs what its Job runs.
fn teardown(world: &World, timeout: &str) -> Result<Output> {
    let account = hook_account(world)?;
    let mut command = Command::new(&world.binary);
    command.args(["teardown", "--timeout", timeout]).env("KUBECONFIG", &account.kubeconfig);
    capture(&mut command, Duration::from_secs(120))
}

fn hook_account(world: &World) -> Result<Identity> {
    let cluster = &world.cluster;
    let chart = crate::chart::folder().display().to_string();
    let arguments = ["template", "railhead", &chart, "--namespace", SYSTEM, "--set", "image.repository=railhead"];
    let only = ["--show-only", "templates/teardown.yaml"];
    let rendered = cluster.lab.helm(&[&arguments[..], &only[..]].concat())?.ok()?.stdout;
    let account = rendered.split("\n---\n").filter(|document| !document.contains("kind: Job")).collect::<Vec<_>>().join("\n---\n");
    cluster.lab.kubectl_with_input(&["apply", "--namespace", SYSTEM, "--filename", "-"], &account)?.ok()?;
    cluster.service_account(SYSTEM, "railhead-teardown", None)
}

fn fabrics_torn_down(world: &World) -> Result<Vec<Value>> {
    let fabrics = world.cluster.list("default", "fabrics")?;
    Ok(fabrics.into_iter().filter(|fabric| fabric["spec"]["teardown"] == true).collect())
}

pub(crate) fn teardown_is_refused_while_a_pod_is_attached(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "held";
    let namespace = cluster.namespace("held")?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric), samples::network(&namespace, "llama", fabric, 2)])?;
    let slice = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::add(cluster, "held-node", fabric)?;
    let attachment = node.attach(cluster, &namespace, &slice, 0)?;
    let output = teardown(world, "10s")?;
    if output.success() {
        bail!("teardown went on under an attached pod: {output}");
    }
    contains(&output.stderr, &[&namespace, "pod-0"])?;
    if let Some(fabric) = fabrics_torn_down(world)?.first() {
        bail!("it was refused and yet began: {}", fabric["metadata"]["name"]);
    }
    cluster.kubectl(&node.agent, &["delete", "networkattachment", &attachment, "--namespace", &namespace])?.ok()?;
    Ok(())
}

pub(crate) fn teardown_gives_everything_back(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    // What earlier tests left: every network and every node of theirs goes first, as their owners would take them away.
    for attachment in everything(world, "networkattachments")? {
        let (namespace, name) = place(&attachment)?;
        let operator = &world.operator_account;
        cluster.kubectl(operator, &["get", "networkattachment", name, "--namespace", namespace])?.ok()?;
        bail!("a test left NetworkAttachment {namespace}/{name} behind");
    }
    cluster.ok(&["delete", "tnet", "--all", "--all-namespaces", "--timeout=60s"])?;
    let nodes = cluster.list("default", "nodenetworks")?;
    let names: Vec<&str> = nodes.iter().filter_map(|node| node["metadata"]["name"].as_str()).collect();
    if names.is_empty() {
        bail!("no NodeNetwork is left to tear down");
    }
    // One node's agent answers; the others' nodes are gone.
    let (last, lost) = names.split_last().context("no node")?;
    for name in lost {
        cluster.ok(&["delete", "node", name])?;
    }
    let agent = cluster.service_account(SYSTEM, "railhead-agent", Some(&format!("agent-of-{last}")))?;
    let now = cluster.get("default", "nodenetwork", last)?["metadata"]["creationTimestamp"].clone();
    let condition = json!({"type": "TornDown", "status": "True", "reason": "TornDown", "message": "simulated", "lastTransitionTime": now});
    let patch = json!({"status": {"conditions": [condition]}}).to_string();
    let arguments = ["patch", "nodenetwork", last, "--subresource", "status", "--type", "merge", "--patch", &patch];
    cluster.kubectl(&agent, &arguments)?.ok()?;
    teardown(world, "60s")?.ok()?;
    for kind in ["fabrics", "nodenetworks", "fabricledgers"] {
        let left = cluster.list("default", kind)?;
        if !left.is_empty() {
            bail!("{} {kind} are left, for example {}", left.len(), left[0]);
        }
    }
    Ok(())
}

fn everything(world: &World, kind: &str) -> Result<Vec<Value>> {
    let list: Value = serde_json::from_str(&world.cluster.ok(&["get", kind, "--all-namespaces", "--output", "json"])?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

fn place(object: &Value) -> Result<(&str, &str)> {
    let part = |name: &str| object["metadata"][name].as_str().with_context(|| format!("an object without {name}"));
    Ok((part("namespace")?, part("name")?))
}
