//! What a Fabric says about its nodes, its pools and its end.

use anyhow::{Result, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::json;

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

pub(crate) fn a_fabric_without_nodes_says_so(world: &World) -> Result<()> {
    let name = "nodeless";
    world.cluster.create(&world.cluster.admin(), &[samples::fabric(name)])?;
    let message = world
        .cluster
        .condition(("default", "fabric", name), "NodesReady", "False", "NoNodes")?;
    contains(&message, &["nodeSelector"])
}

pub(crate) fn a_fabric_whose_ports_no_node_has_says_which_are_missing(world: &World) -> Result<()> {
    let name = "portless";
    world.cluster.create(&world.cluster.admin(), &[samples::fabric(name)])?;
    // The agent found nothing at the places that the Fabric names.
    SimulatedNode::join(&world.cluster, "portless-node", name, &[])?;
    let message = world
        .cluster
        .condition(("default", "fabric", name), "NodesReady", "False", "PortMissing")?;
    contains(&message, &["portless-node", "rail0"])
}

pub(crate) fn a_fabric_shows_its_nodes_and_what_is_free(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let name = "shown";
    let mut fabric = samples::fabric(name);
    fabric["spec"]["vlan"]["range"] = json!({"min": 100, "max": 109});
    cluster.create(&cluster.admin(), &[fabric])?;
    SimulatedNode::join(cluster, "shown-node", name, &["100G", "100G"])?;
    let message = cluster.condition(("default", "fabric", name), "NodesReady", "True", "AllReady")?;
    contains(&message, &["1/1 nodes have all ports"])?;
    let namespace = cluster.namespace("shown")?;
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "llama", name, 16384)])?;
    reserved(world, &namespace, "llama")?;
    eventually("the Fabric's columns follow", || {
        let line = cluster.ok(&["get", "fabric", name, "--no-headers"])?;
        contains(&line, &["RoCE", "RailSubnet", "1/1", "25%", " 9 "])
    })
}

pub(crate) fn a_fabric_in_use_is_not_deleted(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let name = "in-use";
    let namespace = cluster.namespace("in-use")?;
    cluster.create(
        &cluster.admin(),
        &[samples::fabric(name), samples::network(&namespace, "llama", name, 2)],
    )?;
    reserved(world, &namespace, "llama")?;
    cluster.ok(&["delete", "fabric", name, "--wait=false"])?;
    let message = cluster.event("default", name, "DeletingWaitingForNetworks")?;
    contains(&message, &[&format!("{namespace}/llama"), "delete them first"])?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.gone("default", "fabric", name)
}

/// Waits until the node is asked, or asked no more, to give back what was changed on it.
fn asked(world: &World, node: &SimulatedNode, wanted: bool) -> Result<()> {
    eventually(&format!("{} has teardown: {wanted}", node.name), || {
        let spec = world.cluster.get("default", "nodenetwork", &node.name)?["spec"].clone();
        ensure!(spec["teardown"] == wanted, "it is {spec}");
        Ok(())
    })
}

/// Waits until a condition of the Fabric holds all these words.
fn says(world: &World, fabric: &str, kind: &str, words: &[&str]) -> Result<()> {
    eventually(&format!("Fabric {fabric} says in {kind}: {words:?}"), || {
        let fabric = world.cluster.get("default", "fabric", fabric)?;
        let conditions = fabric["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|condition| condition["type"] == kind);
        contains(&found.map(ToString::to_string).unwrap_or_default(), words)
    })
}

pub(crate) fn a_node_that_is_selected_no_more_gives_back_first(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (fabric, label) = ("leavers", "test.railhead.dev/fabric");
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let speeds = ["100G", "100G"];
    SimulatedNode::join(cluster, "leavers-stays", fabric, &speeds)?;
    let node = SimulatedNode::join(cluster, "leavers-goes", fabric, &speeds)?;
    says(world, fabric, "NodesReady", &["2/2 nodes have all ports"])?;
    let deselect = || cluster.ok(&["label", "node", &node.name, &format!("{label}-")]);
    deselect()?;
    asked(world, &node, true)?;
    let waits = "leavers-goes (no word from its agent)";
    says(world, fabric, "NodesReady", &["1/1 nodes have all ports", waits])?;
    // It comes back before its agent was done, and goes again: what the agent said meanwhile was of the first time.
    node.torn_down_of(cluster, 1)?;
    cluster.ok(&["label", "node", &node.name, &format!("{label}={fabric}")])?;
    asked(world, &node, false)?;
    deselect()?;
    asked(world, &node, true)?;
    says(world, fabric, "NodesReady", &["1/1 nodes have all ports", waits])?;
    node.torn_down(cluster)?;
    cluster.gone("default", "nodenetwork", &node.name)?;
    eventually("the Fabric speaks of it no more", || {
        let fabric = cluster.get("default", "fabric", fabric)?;
        ensure!(
            !fabric["status"].to_string().contains(&node.name),
            "{}",
            fabric["status"]
        );
        Ok(())
    })
}

pub(crate) fn a_fabric_is_gone_when_its_nodes_are_as_before(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (fabric, speeds) = ("unmade", ["100G", "100G"]);
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    let answers = SimulatedNode::join(cluster, "unmade-answers", fabric, &speeds)?;
    let silent = SimulatedNode::join(cluster, "unmade-silent", fabric, &speeds)?;
    cluster.ok(&["delete", "fabric", fabric, "--wait=false"])?;
    let message = cluster.event("default", fabric, "DeletingWaitingForNodes")?;
    contains(
        &message,
        &["2 of its nodes", &answers.name, &silent.name, "kubectl delete node"],
    )?;
    for node in [&answers, &silent] {
        asked(world, node, true)?;
    }
    answers.torn_down(cluster)?;
    cluster.gone("default", "nodenetwork", &answers.name)?;
    let waits = "unmade-silent (no word from its agent)";
    says(
        world,
        fabric,
        "Ready",
        &["DeletingWaitingForNodes", "1 of its nodes", waits],
    )?;
    // Its machine does not come back.
    cluster.ok(&["delete", "node", &silent.name])?;
    cluster.gone("default", "fabric", fabric)?;
    cluster.gone("default", "nodenetwork", &silent.name)
}

pub(crate) fn pools_that_overlap_across_rails_are_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    let mut fabric = samples::fabric("shared-pool");
    fabric["spec"]["rails"][1]["pools"] = fabric["spec"]["rails"][0]["pools"].clone();
    let words = ["pools of two rails overlap", "prefixes of its own"];
    world.cluster.refused(&admin, &fabric, &words)
}
