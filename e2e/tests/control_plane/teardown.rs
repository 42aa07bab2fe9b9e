//! What the chart's pre-delete hook runs, with the account that it has.

use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use railhead_e2e::lab::run::{Output, capture};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Identity, SYSTEM, contains, expect_refusal};
use crate::networks::reserved;
use crate::operator::Operator;
use crate::operators::{LEADER_PORT, stop_leader};
use crate::samples;
use crate::simulated_node::SimulatedNode;
use crate::way::Way;
use crate::{World, helm_release};

/// Runs what the hook's Job runs.
fn teardown(world: &World, timeout: &str) -> Result<Output> {
    hook(world, &world.operator_account, "railhead-operator", timeout)
}

fn hook(world: &World, account: &Identity, deployment: &str, timeout: &str) -> Result<Output> {
    let mut command = Command::new(&world.programs.operator);
    command
        .args(["--log-format", "text", "teardown"])
        .args(["--deployment", deployment, "--timeout", timeout])
        .env("KUBECONFIG", &account.kubeconfig)
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

/// Takes the nodes, fabrics and networks of earlier tests away: only the nodes of this test answer.
pub(crate) fn begin_anew(cluster: &Cluster) -> Result<()> {
    for kind in ["nodes", "fabrics", "tnet"] {
        cluster.delete(&cluster.admin(), &cluster.list_everywhere(kind)?)?;
    }
    eventually("the nodes and networks of earlier tests are gone", || {
        for kind in ["nodes", "tnet"] {
            let left = cluster.list_everywhere(kind)?.len();
            ensure!(left == 0, "{left} {kind} are left");
        }
        Ok(())
    })
}

/// Waits until the hook has asked the node to give everything back.
fn asked(cluster: &Cluster, node: &SimulatedNode) -> Result<()> {
    eventually("the operator asks the node to give everything back", || {
        let wish = cluster.get("default", "nodenetwork", &node.name)?;
        if wish["spec"]["teardown"] == true {
            Ok(())
        } else {
            bail!("its spec is {}", wish["spec"])
        }
    })
}

/// Checks that the nodes of a fabric are to stay as they are.
fn asked_no_more(cluster: &Cluster, fabric: &str) -> Result<()> {
    let fabric = cluster.get("default", "fabric", fabric)?;
    if fabric["spec"]["teardown"] == true {
        bail!("the hook has failed, and yet the nodes of the fabric go on giving back");
    }
    Ok(())
}

fn replicas(cluster: &Cluster) -> Result<Value> {
    Ok(cluster.get(SYSTEM, "deployment", "railhead-operator")?["spec"]["replicas"].clone())
}

/// A pod that came while the nodes gave everything back: refused like one that was there before, and nothing stays begun.
pub(crate) fn a_pod_that_comes_during_the_teardown_ends_it(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    begin_anew(cluster)?;
    let fabric = "late-pod";
    let namespace = cluster.namespace(fabric)?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    let node = SimulatedNode::join(cluster, "late-pod-node", fabric, &["100G", "100G"])?;
    let (output, attachment) = thread::scope(|scope| -> Result<(Output, String)> {
        let hook = scope.spawn(|| teardown(world, "90s"));
        asked(cluster, &node)?;
        let attachment = node.attach(cluster, &namespace, &slice, 0)?;
        node.torn_down(cluster)?;
        let output = hook
            .join()
            .map_err(|_| anyhow::anyhow!("the hook's thread panicked"))??;
        Ok((output, attachment))
    })?;
    if output.success() {
        bail!("teardown went on under an attached pod: {output}");
    }
    contains(&output.to_string(), &["refused", "pod-0", "uninstall again"])?;
    contains(&output.to_string(), &["teardown: false is set again on Fabric", fabric])?;
    asked_no_more(cluster, fabric)?;
    let count = replicas(cluster)?;
    if count != 1 {
        bail!("it was refused and yet the operator has {count} replicas");
    }
    let delete = ["delete", "networkattachment", &attachment, "--namespace", &namespace];
    cluster.kubectl(&node.agent, &delete)?.ok()?;
    Ok(())
}

/// The time for all of it is one; an operator that does not end is left as it was.
pub(crate) fn an_operator_that_does_not_end_is_started_again(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    begin_anew(cluster)?;
    let labels = json!({"app.kubernetes.io/name": "railhead", "app.kubernetes.io/component": "operator"});
    let stays = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stays", "namespace": SYSTEM, "labels": labels},
        "spec": {"nodeSelector": {"nowhere": "yes"}, "containers": [{"name": "operator", "image": "railhead"}]},
    });
    cluster.create(&cluster.admin(), &[stays])?;
    let fabric = "beside-an-operator";
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let output = teardown(world, "15s")?;
    if output.success() {
        bail!("teardown went on beside an operator: {output}");
    }
    contains(
        &output.to_string(),
        &["has its 1 replicas again", "have not ended within 15s: ", "stays"],
    )?;
    asked_no_more(cluster, fabric)?;
    let count = replicas(cluster)?;
    if count != 1 {
        bail!("the operator has {count} replicas");
    }
    cluster.ok(&["delete", "pod", "stays", "--namespace", SYSTEM, "--wait=false"])?;
    Ok(())
}

/// Whatever goes wrong after the nodes were asked, they are asked no more, and the message says what the Fabrics say.
pub(crate) fn a_teardown_that_fails_takes_back_what_it_began(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    begin_anew(cluster)?;
    let (begun, before) = ("begun", "begun-before");
    let mut by_hand = samples::fabric(before);
    by_hand["spec"]["teardown"] = json!(true);
    cluster.create(&cluster.admin(), &[samples::fabric(begun), by_hand])?;
    // The operator's account may look at its own Deployment only.
    let output = hook(world, &world.operator_account, "misspelt", "10s")?;
    if output.success() {
        bail!("it stopped a deployment that is not its own: {output}");
    }
    contains(
        &output.to_string(),
        &[
            "cannot change Deployment misspelt",
            &format!("teardown: false is set again on Fabric {begun}"),
            &format!("teardown: true stays on Fabric {before}"),
            &format!("kubectl patch fabric {before} "),
        ],
    )?;
    asked_no_more(cluster, begun)?;
    if cluster.get("default", "fabric", before)?["spec"]["teardown"] != true {
        bail!("the hook changed what somebody else had asked for");
    }
    Ok(())
}

/// The API server that stays away ends the hook at its deadline, and nodes that go on giving back are not concealed.
pub(crate) fn a_teardown_without_an_api_server_says_what_stays_begun(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    begin_anew(cluster)?;
    let fabric = "cut-off";
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let node = SimulatedNode::join(cluster, "cut-off-node", fabric, &["100G", "100G"])?;
    let (way, account) = Way::start(cluster, &world.operator_account)?;
    let output = thread::scope(|scope| -> Result<Output> {
        let hook = scope.spawn(|| hook(world, &account, "railhead-operator", "15s"));
        asked(cluster, &node)?;
        way.cut();
        hook.join().map_err(|_| anyhow::anyhow!("the hook's thread panicked"))?
    })?;
    if output.success() {
        bail!("it succeeded without an API server: {output}");
    }
    let command = format!("kubectl patch fabric {fabric} --type merge");
    contains(&output.to_string(), &["trying again", "teardown: true stays", &command])?;
    Ok(())
}

/// A Fabric that was deleted a moment ago: its nodes are not as before yet, and an uninstall would take their agents away.
pub(crate) fn nodes_of_a_deleted_fabric_are_waited_for(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    begin_anew(cluster)?;
    let fabric = "just-deleted";
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let node = SimulatedNode::join(cluster, "just-deleted-node", fabric, &["100G", "100G"])?;
    cluster.ok(&["delete", "fabric", fabric, "--wait=false"])?;
    let output = teardown(world, "10s")?;
    if output.success() {
        bail!("the agents were to go, and a node was not as before: {output}");
    }
    let waits = format!("{} (no word from its agent)", node.name);
    contains(&output.to_string(), &["not all nodes have given back", &waits])?;
    asked(cluster, &node)?;
    node.torn_down(cluster)?;
    cluster.gone("default", "fabric", fabric)
}

pub(crate) fn teardown_gives_everything_back(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    begin_anew(cluster)?;
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

    // An API server that is away for a while, as when its host starts anew, is waited for.
    let (way, account) = Way::start(cluster, &world.operator_account)?;
    let output = thread::scope(|scope| -> Result<Output> {
        let hook = scope.spawn(|| hook(world, &account, "railhead-operator", "90s"));
        asked(cluster, &node)?;
        way.cut();
        thread::sleep(Duration::from_secs(4));
        way.restore();
        // Here the hook waits for the node. In a cluster it stops the operator's pods; this operator is a process.
        stop_leader();
        node.torn_down(cluster)?;
        hook.join().map_err(|_| anyhow::anyhow!("the hook's thread panicked"))?
    })?;
    contains(&output.ok()?.to_string(), &["trying again"])?;

    let count = replicas(cluster)?;
    if count != 0 {
        bail!("the operator was not stopped: it has {count} replicas");
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

/// As `docs/troubleshooting.md` says: operator and agents are gone with the namespace, the policies are not.
pub(crate) fn a_release_whose_namespace_was_deleted_is_installed_again_and_all_goes_on(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    stop_leader();
    let fabric = "orphaned";
    let namespace = cluster.namespace(fabric)?;
    let operator = |account: &Identity, name: &str| {
        Operator::start(
            cluster,
            &world.programs.operator,
            account,
            name,
            "railhead-operator",
            LEADER_PORT,
        )
    };
    let before = operator(&world.operator_account, "before")?;
    let network = samples::network(&namespace, "llama", fabric, 2);
    cluster.create(&admin, &[samples::fabric(fabric), network])?;
    let slice = reserved(world, &namespace, "llama")?;
    drop(before);
    cluster.ok(&["delete", "namespace", SYSTEM, "--wait=false"])?;
    // No kubelet ends the pods of simulated nodes.
    cluster.ok(&[
        "delete",
        "pods",
        "--all",
        "--namespace",
        SYSTEM,
        "--force",
        "--grace-period=0",
    ])?;
    cluster.gone("default", "namespace", SYSTEM)?;

    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    let without = r#"{"metadata": {"finalizers": null}}"#;
    let force = [
        "patch",
        "nslice",
        &slice,
        "--namespace",
        &namespace,
        "--type=merge",
        "--patch",
        without,
    ];
    expect_refusal(
        &cluster.kubectl(&admin, &force)?,
        &["railhead-records", "written by Railhead only"],
    )?;
    cluster
        .get(&namespace, "tnet", "llama")
        .context("it went without an operator")?;

    helm_release(cluster, "install", &["--create-namespace"])?;
    let account = cluster.service_account(SYSTEM, "railhead-operator", None)?;
    let _after = operator(&account, "after")?;
    cluster.gone(&namespace, "tnet", "llama")?;
    cluster.gone(&namespace, "networkslice", &slice)
}
