//! What the chart's pre-delete hook runs, with the account that it has.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use railhead_e2e::lab::run::{Output, capture};
use serde_json::Value;

use crate::World;
use crate::cluster::{SYSTEM, contains, eventually};
use crate::networks::reserved;
use crate::operators::stop_leader;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Runs what the hook's Job runs.
fn teardown(world: &World, timeout: &str) -> Result<Output> {
    let mut command = Command::new(&world.binary);
    command
        .args([
            "--log-format",
            "text",
            "teardown",
            "--deployment",
            "railhead-operator",
            "--timeout",
            timeout,
        ])
        .env("KUBECONFIG", &world.operator_account.kubeconfig)
        .env("POD_NAMESPACE", SYSTEM)
        .env_remove("RUST_BACKTRACE");
    capture(&mut command, Duration::from_mins(3))
}

pub(crate) fn teardown_is_refused_while_a_pod_is_attached(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "held";
    let namespace = cluster.namespace("held")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::add(cluster, "held-node", fabric)?;
    let attachment = node.attach(cluster, &namespace, &slice, 0)?;
    let output = teardown(world, "10s")?;
    if output.success() {
        bail!("teardown went on under an attached pod: {output}");
    }
    contains(
        &output.to_string(),
        &["refused", &namespace, "pod-0", "uninstall again"],
    )?;
    let began = cluster
        .list("default", "fabrics")?
        .into_iter()
        .find(|fabric| fabric["spec"]["teardown"] == true);
    if let Some(fabric) = began {
        bail!("it was refused and yet began with {}", fabric["metadata"]["name"]);
    }
    cluster
        .kubectl(
            &node.agent,
            &["delete", "networkattachment", &attachment, "--namespace", &namespace],
        )?
        .ok()?;
    Ok(())
}

pub(crate) fn teardown_gives_everything_back(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    // Only this test's node answers; those of earlier tests are gone.
    cluster.ok(&["delete", "nodes", "--all"])?;
    cluster.ok(&["delete", "fabrics", "--all", "--wait=false"])?;
    cluster.ok(&["delete", "tnet", "--all", "--all-namespaces", "--timeout=60s"])?;
    let fabric = "uninstalled";
    let namespace = cluster.namespace("uninstalled")?;
    cluster.create(
        &admin,
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::join(cluster, "uninstalled-node", fabric, &["100G", "100G"])?;

    let output = thread::scope(|scope| -> Result<Output> {
        let hook = scope.spawn(|| teardown(world, "90s"));
        eventually("the operator asks the node to give everything back", || {
            let wish = cluster.get("default", "nodenetwork", &node.name)?;
            if wish["spec"]["teardown"] == true {
                Ok(())
            } else {
                bail!("its spec is {}", wish["spec"])
            }
        })?;
        // Here the hook waits for the node. In a cluster it stops the operator's pods; this operator is a process.
        stop_leader();
        node.torn_down(cluster)?;
        hook.join().map_err(|_| anyhow::anyhow!("the hook's thread panicked"))?
    })?;
    output.ok()?;

    let deployment = cluster.get(SYSTEM, "deployment", "railhead-operator")?;
    if deployment["spec"]["replicas"] != 0 {
        bail!("the operator was not stopped: {}", deployment["spec"]["replicas"]);
    }
    for kind in ["nodenetworks", "fabricledgers", "networkslices"] {
        let left = cluster.ok(&["get", kind, "--all-namespaces", "--no-headers", "--ignore-not-found"])?;
        if !left.trim().is_empty() {
            bail!("{kind} are left: {left}");
        }
    }
    // What people wrote stays, and does not wait for a controller that is gone.
    for (kind, namespace, name) in [("fabric", "default", fabric), ("tnet", &*namespace, "llama")] {
        let kept = cluster.get(namespace, kind, name)?;
        if kept["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|finalizers| !finalizers.is_empty())
        {
            bail!(
                "{kind} {name} still has the finalizers {}",
                kept["metadata"]["finalizers"]
            );
        }
        if kept["spec"]["teardown"] == Value::Bool(true) {
            bail!("the next install would begin with a teardown");
        }
    }
    cluster
        .ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--timeout=10s"])
        .context("the network does not go")?;
    Ok(())
}
