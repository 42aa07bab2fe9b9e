//! A cluster whose etcd was put back to a backup: pods on nodes have what the ledger knows nothing of.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Ports of a node.
const SPEEDS: [&str; 2] = ["100G", "100G"];

fn ledger(world: &World, fabric: &str) -> Result<Value> {
    Ok(world.cluster.get("default", "fabricledger", fabric)?["spec"].take())
}

fn patch(world: &World, fabric: &str, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    let arguments = ["patch", "fabricledger", fabric, "--type", "merge", "--patch", &patch];
    world.cluster.kubectl(&world.operator_account, &arguments)?.ok()?;
    Ok(())
}

/// Reserves `llama` and then `qwen`, and gives what `qwen` got.
fn two_networks(world: &World, namespace: &str, fabric: &str) -> Result<(Value, Value)> {
    let cluster = &world.cluster;
    let network = |name| samples::network(namespace, name, fabric, 2);
    cluster.create(&cluster.admin(), &[network("llama")])?;
    reserved(world, namespace, "llama")?;
    let backup = ledger(world, fabric)?;
    cluster.create(&cluster.admin(), &[network("qwen")])?;
    let slice = reserved(world, namespace, "qwen")?;
    Ok((backup, cluster.get(namespace, "networkslice", &slice)?["spec"].take()))
}

/// Everything is as in the backup: there is no `qwen`, and the ledger has not counted so far.
fn restore(world: &World, namespace: &str, fabric: &str, backup: &Value) -> Result<()> {
    let cluster = &world.cluster;
    cluster.ok(&["delete", "tnet", "qwen", "--namespace", namespace])?;
    cluster.gone(namespace, "tnet", "qwen")?;
    patch(
        world,
        fabric,
        &json!({"entries": backup["entries"], "sequence": backup["sequence"], "pools": backup["pools"]}),
    )
}

/// A fabric with the node `<fabric>-1` and the network llama, whose ledger was put back to before qwen. Gives their namespace.
fn restored_with_one_node(world: &World, fabric: &str) -> Result<String> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace(fabric)?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    SimulatedNode::join(cluster, &format!("{fabric}-1"), fabric, &SPEEDS)?;
    let (backup, _) = two_networks(world, &namespace, fabric)?;
    restore(world, &namespace, fabric, &backup)?;
    Ok(namespace)
}

/// Has a node say what its pods hold, as an answer to what it was asked last.
fn say(world: &World, node: &SimulatedNode, held: &[Value]) -> Result<()> {
    let cluster = &world.cluster;
    let asked = cluster.get("default", "nodenetwork", &node.name)?["spec"]["recount"].take();
    let mut status = json!({ "networks": held });
    if asked.is_string() {
        status["recount"] = asked;
    }
    node.write_status(cluster, "default", "NodeNetwork", &node.name, &status)
}

/// Waits until a node is asked.
fn asked(world: &World, node: &SimulatedNode) -> Result<()> {
    eventually(&format!("{} is asked what its pods hold", node.name), || {
        let spec = world.cluster.get("default", "nodenetwork", &node.name)?["spec"].take();
        let asked = spec["recount"].is_string();
        if asked { Ok(()) } else { bail!("its spec is {spec}") }
    })
}

pub(crate) fn what_nodes_still_have_is_given_to_nobody_and_all_are_asked_first(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "restored";
    let namespace = cluster.namespace(fabric)?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let [first, second, off] =
        ["restored-1", "restored-2", "restored-3"].map(|name| SimulatedNode::join(cluster, name, fabric, &SPEEDS));
    let (first, second, off) = (first?, second?, off?);
    let (backup, qwen) = two_networks(world, &namespace, fabric)?;
    let held = json!({
        "fabric": fabric, "namespace": namespace, "name": "qwen", "uid": qwen["network"]["uid"], "base": qwen["base"],
        "size": qwen["capacity"], "vlan": qwen["rails"][0]["vlan"], "ledgerSequence": qwen["ledgerSequence"],
    });
    say(world, &first, std::slice::from_ref(&held))?;
    restore(world, &namespace, fabric, &backup)?;
    // Noticed by what the node says, before anybody asks for anything; the operator that counted tells its own reason then.
    let object = ("default", "fabric", fabric);
    let message = cluster.condition(object, "LedgerRestored", "True", "NodesAsked")?;
    contains(
        &message,
        &[&format!("{namespace}/qwen"), "restored-2", "out-of-service"],
    )?;
    cluster.condition(object, "Ready", "False", "LedgerRestored")?;
    cluster.event("default", fabric, "LedgerRestored")?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "mixtral", fabric, 2)])?;
    let waits = (&*namespace, "tnet", "mixtral");
    let message = cluster.condition(waits, "Reserved", "False", "LedgerRestored")?;
    contains(
        &message,
        &["restored-1", "restored-2", "restored-3", "an agent of this release"],
    )?;
    // What has its slice goes on.
    reserved(world, &namespace, "llama")?;
    for node in [&first, &second] {
        asked(world, node)?;
    }
    say(world, &second, &[])?;
    say(world, &first, &[held])?;
    eventually("only the node that is off is waited for", || {
        let message = cluster.message(object, "LedgerRestored", "True", "NodesAsked")?;
        contains(&message, &["1 of them have not: restored-3;"])
    })?;
    let state = |name: &str| -> Result<String> {
        let ledger = ledger(world, fabric)?;
        let mut entries = ledger["entries"].as_array().into_iter().flatten();
        let entry = entries.find(|entry| entry["owner"]["name"] == name);
        Ok(entry.map_or_else(|| "none".to_owned(), |entry| entry["state"].to_string()))
    };
    if state("mixtral")? != "none" {
        bail!("something was reserved while {} has not answered", off.name);
    }
    cluster.ok(&[
        "taint",
        "node",
        &off.name,
        "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute",
    ])?;
    let mixtral = reserved(world, &namespace, "mixtral")?;
    let mixtral = cluster.get(&namespace, "networkslice", &mixtral)?["spec"].take();
    if mixtral["base"] == qwen["base"] || mixtral["rails"][0]["vlan"] == qwen["rails"][0]["vlan"] {
        bail!("pods of qwen run with what mixtral has: {qwen} and {mixtral}");
    }
    let message = cluster.condition(object, "LedgerRestored", "False", "AllAnswered")?;
    contains(&message, &[&format!("{namespace}/qwen")])?;
    if state("qwen")? != "\"Quarantined\"" {
        bail!("the entry of qwen's pods is {}", state("qwen")?);
    }
    // The last of them has ended.
    say(world, &first, &[])?;
    eventually("what qwen's pods had rests, and goes", || match &*state("qwen")? {
        "none" => Ok(()),
        state => bail!("it is {state}"),
    })?;
    cluster
        .condition(object, "LedgerRestored", "False", "NotRestored")
        .map(drop)
}

/// What is given back counts the ledger on, past what it had counted to before it was restored.
pub(crate) fn what_is_given_back_hides_no_restored_ledger(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "counted-on";
    let namespace = restored_with_one_node(world, fabric)?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    let object = ("default", "fabric", fabric);
    cluster.condition(object, "LedgerRestored", "True", "NodesAsked")?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "mixtral", fabric, 2)])?;
    cluster
        .condition((&namespace, "tnet", "mixtral"), "Reserved", "False", "LedgerRestored")
        .map(drop)
}

pub(crate) fn a_ledger_that_counts_backwards_gives_nothing_before_its_nodes_have_answered(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "counted-back";
    let namespace = restored_with_one_node(world, fabric)?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "mixtral", fabric, 2)])?;
    let waits = (&*namespace, "tnet", "mixtral");
    let message = cluster.condition(waits, "Reserved", "False", "LedgerRestored")?;
    contains(&message, &["counted-back-1"])?;
    let why = ledger(world, fabric)?["recount"]["why"].take();
    contains(why.as_str().context("nobody is asked")?, &["it had counted to"])?;
    // Whoever may write ledgers in an emergency can end it.
    patch(world, fabric, &json!({ "recount": null }))?;
    reserved(world, &namespace, "mixtral").map(drop)
}
