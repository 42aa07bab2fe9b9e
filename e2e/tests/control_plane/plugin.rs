//! `kubectl railhead` as its users run it: the real program, beside the real API server and operator. What is printed here stands in
//! `docs/cli.md`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use railhead_e2e::lab::run::{Output, capture};
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{Identity, contains};
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

const LIMIT: Duration = Duration::from_mins(1);

/// Runs the plugin as somebody. What it printed is shown where `RAILHEAD_SHOW` is set: the page in `docs/` is made of it.
pub(crate) fn railhead(world: &World, who: &Identity, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(&world.programs.plugin);
    command.args(arguments).env("KUBECONFIG", &who.kubeconfig);
    let output = capture(&mut command, LIMIT)?;
    if std::env::var_os("RAILHEAD_SHOW").is_some() {
        println!(
            "$ kubectl railhead {}\n{}{}",
            arguments.join(" "),
            output.stdout,
            output.stderr
        );
    }
    Ok(output)
}

/// What it prints for the administrator, with the exit code that is expected.
fn said(world: &World, arguments: &[&str], code: i32) -> Result<String> {
    let output = railhead(world, &world.cluster.admin(), arguments)?;
    ensure!(output.code == code, "not code {code}: {output}");
    ensure!(
        !output.stdout.contains('\u{1b}'),
        "colours where nobody sees them: {output}"
    );
    Ok(output.stdout)
}

/// The record of a pod that an agent attached.
fn attachment(pod: &Value, network: &str, slice: &str, index: u32, node: &str) -> Value {
    let mut attachment = samples::attachment(
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        slice,
        index,
        node,
    );
    attachment["metadata"]["labels"]["railhead.dev/network"] = json!(network);
    attachment["spec"]["podName"] = pod["metadata"]["name"].clone();
    attachment["spec"]["podUID"] = pod["metadata"]["uid"].clone();
    attachment
}

/// A pod of network llama, once the scheduler has chosen this node for it: the fabric has no other.
fn pod(world: &World, namespace: &str, name: &str, node: &str) -> Result<Value> {
    let cluster = &world.cluster;
    cluster.create(&cluster.admin(), &[samples::pod(namespace, name, "llama", 0)])?;
    eventually("the scheduler has chosen the node", || {
        let pod = cluster.get(namespace, "pod", name)?;
        ensure!(pod["spec"]["nodeName"] == node, "{}", pod["status"]);
        Ok(pod)
    })
}

/// The first of the fabric's own VLANs.
const VLAN: u16 = 3100;

pub(crate) fn the_plugin_explains_who_is_attached_who_waits_and_for_whom(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (admin, fabric) = (cluster.admin(), "explained");
    let namespace = cluster.namespace("explained")?;
    let mut small = samples::fabric(fabric);
    // The other tests' fabrics share theirs, which is told of each.
    small["spec"]["vlan"]["range"] = json!({"min": VLAN, "max": VLAN + 99});
    for rail in 0..2 {
        let pool = samples::pools(fabric)[rail].replace("/16", "/28");
        small["spec"]["rails"][rail]["pools"][0]["cidr"] = json!(pool);
    }
    cluster.create(&admin, &[small])?;
    let node = SimulatedNode::join(cluster, "explained-0", fabric, &["100G", "100G"])?;
    cluster.create(&admin, &[samples::network(&namespace, "llama", fabric, 3)])?;
    let slice = reserved(world, &namespace, "llama")?;
    cluster.create(&admin, &[samples::network(&namespace, "large", fabric, 16)])?;
    cluster.condition((&namespace, "tnet", "large"), "Reserved", "False", "PoolExhausted")?;

    let first = pod(world, &namespace, "llama-0", &node.name)?;
    let wired = attachment(&first, "llama", &slice, 0, &node.name);
    cluster.create(&node.agent, std::slice::from_ref(&wired))?;
    let base = cluster.get(&namespace, "networkslice", &slice)?["spec"]["base"].clone();
    let base = u32::try_from(base.as_u64().context("a slice without a base")?)?;
    let status = wired_status(fabric, base)?;
    node.write_status(cluster, &namespace, "NetworkAttachment", &format!("{slice}-0"), &status)?;
    // A second Job wants the same index.
    pod(world, &namespace, "llama-again-0", &node.name)?;
    eventually("the operator has counted the pod that is attached", || {
        let message = cluster.message((&namespace, "tnet", "llama"), "Attached", "False", "WaitingForPods")?;
        contains(&message, &["1/3 attached"])
    })?;

    let why = said(world, &["why", "network", "llama", "-n", &namespace], 1)?;
    contains(
        &why,
        &[
            &format!("TrainingNetwork {namespace}/llama: Ready, 1/3 attached"),
            "3 pods on all rails of Fabric explained, class production (the default)",
            "Reserved=True Reserved",
            &format!("<- NetworkSlice {namespace}/{slice}, spec"),
            &format!("VLAN {VLAN}"),
            "pods get their claims from llama-rails",
            "pod llama-again-0: index 0 is held by pod llama-0 on explained-0: it lives",
            "help: two pods want one index",
        ],
    )?;
    let why = said(world, &["why", "pod", "llama-0", "-n", &namespace], 0)?;
    contains(
        &why,
        &[
            &format!("Pod {namespace}/llama-0: it is wired as index 0 on explained-0, 2/2 rails"),
            "railhead.dev/network: llama",
            "0 <- batch.kubernetes.io/job-completion-index=0",
            "explained-0, chosen by the scheduler",
            "VF 0000:18:00.2 of eth0 100G (Healthy)",
            "mlx5_10  GID 3",
            &format!("<- NetworkAttachment {namespace}/{slice}-0, status.rails"),
        ],
    )?;
    let why = said(world, &["why", "pod", "llama-again-0", "-n", &namespace], 1)?;
    contains(
        &why,
        &[
            "it waits: index 0 is held by pod llama-0 on explained-0",
            "help: two pods want one index",
        ],
    )?;
    let why = said(world, &["why", "network", "large", "-n", &namespace], 1)?;
    contains(
        &why,
        &[
            &format!("TrainingNetwork {namespace}/large: not Ready, PoolExhausted: "),
            "networks hold 4 slots (addresses per rail) and 1 VLANs",
            &format!("{namespace}/llama: 4 slots from"),
            "<- FabricLedger explained, spec.entries",
        ],
    )?;
    let why = said(world, &["why", "node", "explained-0"], 0)?;
    contains(
        &why,
        &[
            "Node explained-0: ready in Fabric explained",
            "eth1 (0000:18:00.1, mlx5_core), 100G",
            &format!("pod {namespace}/llama-0: index 0"),
        ],
    )?;
    let why = said(world, &["why", "fabric", "explained"], 0)?;
    contains(&why, &["Fabric explained: Ready", "/28", "networks hold 4 slots"])?;

    let status = said(world, &["status", "-n", &namespace], 1)?;
    contains(
        &status,
        &[
            "Fabric explained  Ready",
            "1/1 ports healthy",
            &format!("Networks of namespace {namespace} 2  1 ready, 0 with all pods attached"),
            &format!("{namespace}/large"),
            "PoolExhausted",
            "pod llama-again-0 (index 0) waits",
        ],
    )?;
    eventually("the events of the network are there", || {
        let events = said(world, &["events", "network", "large", "-n", &namespace], 0)?;
        contains(&events, &["PoolExhausted", "TrainingNetwork large"])
    })?;
    machines_read_the_same(world, &namespace)
}

/// What the agent of the pod with index 0 says, whose slot is the first of the block.
fn wired_status(fabric: &str, slot: u32) -> Result<Value> {
    let now = time::OffsetDateTime::now_utc().replace_nanosecond(0)?;
    let now = now.format(&time::format_description::well_known::Rfc3339)?;
    let rail = |rail: usize| -> Result<Value> {
        let address = samples::address(fabric, rail, slot)?;
        Ok(json!({
            "id": rail, "vf": format!("0000:18:00.{}", rail + 2), "addresses": [format!("{address}/28")],
            "mac": format!("02:00:00:0{rail}:00:00"), "vlan": VLAN, "rdmaDevice": format!("mlx5_1{rail}"), "gidIndex": 3, "state": "Wired",
        }))
    };
    Ok(json!({
        "summary": "2/2", "preparedAt": now, "rails": [rail(0)?, rail(1)?],
        "conditions": [{"type": "Wired", "status": "True", "reason": "Wired", "message": "2 rails", "lastTransitionTime": now}],
    }))
}

/// JSON is one document whose kind and exit code are in it; YAML says the same.
fn machines_read_the_same(world: &World, namespace: &str) -> Result<()> {
    let arguments = ["why", "network", "large", "-n", namespace, "-o", "json"];
    let printed = said(world, &arguments, 1)?;
    let report: Value = serde_json::from_str(&printed).with_context(|| format!("no JSON: {printed}"))?;
    ensure!(
        report["apiVersion"] == "cli.railhead.dev/v1alpha1" && report["kind"] == "Why" && report["exitCode"] == 1,
        "{report}"
    );
    let facts = report["facts"].as_array().context("no facts")?;
    ensure!(
        facts
            .iter()
            .any(|fact| fact["reason"] == "PoolExhausted" && fact["level"] == "Wrong"),
        "{report}"
    );
    let yaml = said(world, &["why", "network", "large", "-n", namespace, "-o", "yaml"], 1)?;
    contains(&yaml, &["kind: Why", "exitCode: 1", "reason: PoolExhausted"])
}

pub(crate) fn the_plugin_names_the_right_that_is_missing_and_the_name_that_was_meant(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("rightless")?;
    cluster.create(
        &cluster.admin(),
        &[samples::network(&namespace, "llama", "none-of-it", 2)],
    )?;
    let nobody = cluster.service_account(&namespace, "default", None)?;
    let refused = railhead(world, &nobody, &["why", "network", "llama", "-n", &namespace])?;
    ensure!(refused.code == 4, "{refused}");
    contains(
        &refused.stderr,
        &[
            &format!("list trainingnetworks.railhead.dev in namespace {namespace}"),
            &format!("list networkattachments.railhead.dev in namespace {namespace}"),
            "ask for the ClusterRole railhead-plugin",
        ],
    )?;
    // With it, everything can be read that any command wants.
    let binding = format!("{namespace}-reads");
    let account = format!("--serviceaccount={namespace}:default");
    cluster.ok(&[
        "create",
        "clusterrolebinding",
        &binding,
        "--clusterrole=railhead-plugin",
        &account,
    ])?;
    let commands: [&[&str]; 5] = [
        &["status", "-A"],
        &["why", "network", "llama", "-n", &namespace],
        &["why", "node", "no-such-node"],
        &["why", "pod", "none", "-n", &namespace],
        &["events", "network", "llama", "-n", &namespace],
    ];
    eventually("the binding counts", || {
        for arguments in commands {
            let output = railhead(world, &nobody, arguments)?;
            if output.stderr.contains("no right") || output.code == 4 {
                bail!("{arguments:?}: {output}");
            }
        }
        Ok(())
    })?;
    cluster.ok(&["delete", "clusterrolebinding", &binding])?;
    let slip = railhead(world, &cluster.admin(), &["why", "network", "lama", "-n", &namespace])?;
    ensure!(slip.code == 3, "{slip}");
    contains(
        &slip.stderr,
        &[&format!(
            "there is no TrainingNetwork lama in namespace {namespace}; did you mean llama?"
        )],
    )
}

pub(crate) fn the_plugin_says_in_one_sentence_that_there_is_no_cluster(world: &World) -> Result<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "gone",
        "clusters": [{"name": "gone", "cluster": {"server": "http://127.0.0.1:9"}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
    });
    let gone = world.cluster.identity("gone", &config)?;
    let nowhere = Identity {
        kubeconfig: Path::new("/nowhere/config").to_owned(),
    };
    for (who, words) in [
        (gone, "http://127.0.0.1:9/ does not answer ("),
        (nowhere, "no cluster to ask ("),
    ] {
        let output = railhead(world, &who, &["status"])?;
        ensure!(output.code == 4 && output.stdout.is_empty(), "{output}");
        contains(&output.stderr, &[words])?;
        ensure!(output.stderr.lines().count() == 1, "more than a sentence: {output}");
    }
    let usage = railhead(world, &world.cluster.admin(), &["explain"])?;
    ensure!(usage.code == 3, "{usage}");
    Ok(())
}
