//! What is written into a Fabric while networks live, and beside other Fabrics and the cluster's own addresses.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Applies a Fabric as its owner does.
fn apply(world: &World, fabric: &Value) -> Result<()> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    let admin = world.cluster.admin();
    world
        .cluster
        .feed(&admin, &arguments, std::slice::from_ref(fabric))?
        .ok()?;
    Ok(())
}

/// Waits until a condition of a Fabric is as wanted and its message holds all these words.
fn says(world: &World, fabric: &str, condition: (&str, &str, &str), words: &[&str]) -> Result<()> {
    let (kind, status, reason) = condition;
    eventually(&format!("Fabric {fabric} says in {kind}: {words:?}"), || {
        let object = ("default", "fabric", fabric);
        contains(&world.cluster.message(object, kind, status, reason)?, words)
    })
}

/// The Fabric with another pool on each rail.
fn with_pools(fabric: &Value, more: [&str; 2]) -> Value {
    let mut fabric = fabric.clone();
    for (rail, cidr) in more.into_iter().enumerate() {
        let pools = fabric["spec"]["rails"][rail]["pools"].as_array_mut();
        pools.expect("a sample has pools").push(json!({"cidr": cidr}));
    }
    fabric
}

/// The prefix of a reserved network on its first rail.
fn prefix(world: &World, namespace: &str, network: &str) -> Result<String> {
    let slice = reserved(world, namespace, network)?;
    let slice = world.cluster.get(namespace, "networkslice", &slice)?;
    let rail = &slice["spec"]["rails"][0];
    let prefix = rail["prefix"]
        .as_str()
        .or_else(|| rail["prefixes"][0]["prefix"].as_str());
    Ok(prefix.with_context(|| format!("no prefix in {rail}"))?.to_owned())
}

fn network(world: &World, namespace: &str, name: &str, fabric: &str) -> Result<()> {
    let network = samples::network(namespace, name, fabric, 2);
    world.cluster.create(&world.cluster.admin(), &[network])
}

/// A fabric with one network on it.
fn with_llama(world: &World, name: &str) -> Result<(Value, String)> {
    let fabric = samples::fabric(name);
    apply(world, &fabric)?;
    let namespace = world.cluster.namespace(name)?;
    network(world, &namespace, "llama", name)?;
    reserved(world, &namespace, "llama")?;
    Ok((fabric, namespace))
}

pub(crate) fn of_two_fabrics_with_the_same_addresses_the_younger_gives_nothing(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let mut older = samples::fabric("two-older");
    // No other fabric of these tests has them.
    older["spec"]["vlan"]["range"] = json!({"min": 3000, "max": 3009});
    apply(world, &older)?;
    let namespace = cluster.namespace("two-fabrics")?;
    let mut younger = older.clone();
    younger["metadata"]["name"] = json!("two-younger");
    apply(world, &younger)?;
    says(
        world,
        "two-younger",
        ("PoolsHealthy", "False", "PoolsInvalid"),
        &[&samples::pools("two-older")[0], "Fabric two-older"],
    )?;
    says(
        world,
        "two-younger",
        ("Ready", "False", "PoolsInvalid"),
        &["Fabric two-older"],
    )?;
    says(
        world,
        "two-younger",
        ("VlansShared", "True", "OtherFabric"),
        &["3000-3009 with Fabric two-older"],
    )?;
    network(world, &namespace, "qwen", "two-younger")?;
    let message = cluster.condition((&namespace, "tnet", "qwen"), "Reserved", "False", "FabricInvalid")?;
    contains(&message, &["Fabric two-older"])?;
    network(world, &namespace, "mixtral", "two-older")?;
    reserved(world, &namespace, "mixtral")?;
    // The younger one gets addresses of its own, and its network with it.
    let mut corrected = samples::fabric("two-apart");
    corrected["metadata"]["name"] = json!("two-younger");
    apply(world, &corrected)?;
    reserved(world, &namespace, "qwen")?;
    says(world, "two-younger", ("PoolsHealthy", "True", "Valid"), &[])
}

pub(crate) fn a_drained_pool_gives_nothing_new_and_goes(world: &World) -> Result<()> {
    let name = "drained";
    let (fabric, namespace) = with_llama(world, name)?;
    let [old, _] = samples::pools(name);
    let more = samples::pools("drained-more");
    let mut draining = with_pools(&fabric, [&more[0], &more[1]]);
    draining["spec"]["rails"][0]["pools"][0]["draining"] = json!(true);
    apply(world, &draining)?;
    let llama = format!("{namespace}/llama");
    says(world, name, ("PoolsHealthy", "True", "Draining"), &[&old, &llama])?;
    network(world, &namespace, "qwen", name)?;
    let new = more[0].trim_end_matches("0.0/16");
    let qwen = prefix(world, &namespace, "qwen")?;
    contains(&qwen, &[new])?;
    // Too early: it is in use.
    let mut without = draining.clone();
    for rail in 0..2 {
        without["spec"]["rails"][rail]["pools"] = json!([{"cidr": more[rail]}]);
    }
    apply(world, &without)?;
    says(
        world,
        name,
        ("EditConflict", "True", "LiveNetworks"),
        &[&old, &llama, "put it back"],
    )?;
    apply(world, &draining)?;
    says(world, name, ("EditConflict", "False", "NoConflict"), &[])?;
    world
        .cluster
        .ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    says(world, name, ("PoolsHealthy", "True", "Drained"), &[&old, "it may go"])?;
    apply(world, &without)?;
    says(world, name, ("PoolsHealthy", "True", "Valid"), &[])?;
    says(world, name, ("EditConflict", "False", "NoConflict"), &[])?;
    // What was reserved behind the pool that went is where it was, and nothing of it is given again.
    network(world, &namespace, "mixtral", name)?;
    let mixtral = prefix(world, &namespace, "mixtral")?;
    contains(&mixtral, &[new])?;
    if mixtral == qwen || prefix(world, &namespace, "qwen")? != qwen {
        bail!("qwen had {qwen}, mixtral got {mixtral}");
    }
    Ok(())
}

pub(crate) fn a_typo_in_a_pool_is_undone_by_the_next_apply(world: &World) -> Result<()> {
    let name = "typo";
    let (fabric, namespace) = with_llama(world, name)?;
    let more = samples::pools("typo-more");
    let pools_valid = || says(world, name, ("PoolsHealthy", "True", "Valid"), &[]);
    // One that overlaps with another rail's is refused at once.
    let own = samples::pools(name);
    let overlapping = with_pools(&fabric, [&own[1], &more[1]]);
    let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
    let output = world.cluster.feed(&world.cluster.admin(), &arguments, &[overlapping])?;
    crate::cluster::expect_refusal(&output, &["pools of two rails overlap"])?;
    // One that another Fabric has harms no pool that is right.
    let (_, _) = with_llama(world, "typo-other")?;
    let others = samples::pools("typo-other");
    apply(world, &with_pools(&fabric, [&others[0], &more[1]]))?;
    says(
        world,
        name,
        ("PoolsHealthy", "False", "PoolsInvalid"),
        &[&others[0], "Fabric typo-other"],
    )?;
    network(world, &namespace, "qwen", name)?;
    reserved(world, &namespace, "qwen")?;
    // Corrected, and taken away.
    apply(world, &with_pools(&fabric, [&more[0], &more[1]]))?;
    pools_valid()?;
    apply(world, &fabric)?;
    pools_valid()?;
    network(world, &namespace, "mixtral", name)?;
    reserved(world, &namespace, "mixtral").map(drop)
}

pub(crate) fn an_edit_against_a_live_network_is_named_and_counts_for_no_new_one(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let name = "edited";
    let (fabric, namespace) = with_llama(world, name)?;
    let llama = format!("{namespace}/llama");
    let conflict = ("EditConflict", "True", "LiveNetworks");
    let [first, _] = samples::pools(name);
    let other = samples::pools("edited-other");
    let mut moved = fabric.clone();
    moved["spec"]["rails"][0]["pools"][0]["cidr"] = json!(other[0]);
    apply(world, &moved)?;
    says(
        world,
        name,
        conflict,
        &["spec.rails[rail0].pools[0].cidr", &first, &llama],
    )?;
    network(world, &namespace, "qwen", name)?;
    let refused = (&*namespace, "tnet", "qwen");
    let message = cluster.condition(refused, "Reserved", "False", "FabricInvalid")?;
    contains(&message, &["EditConflict"])?;
    // A gateway that is a pod's address: the first pod's is the network's first.
    let pod = prefix(world, &namespace, "llama")?;
    let pod = pod.split('/').next().unwrap_or_default();
    let mut gateway = fabric.clone();
    gateway["spec"]["rails"][0]["pools"][0]["gateway"] = json!(pod);
    apply(world, &gateway)?;
    says(
        world,
        name,
        conflict,
        &["spec.rails[rail0].pools[0].gateway", pod, &llama],
    )?;
    cluster.condition(refused, "Reserved", "False", "FabricInvalid")?;
    apply(world, &fabric)?;
    says(world, name, ("EditConflict", "False", "NoConflict"), &[])?;
    // Server-side apply leaves no gateway behind.
    reserved(world, &namespace, "qwen")?;
    reserved(world, &namespace, "llama").map(drop)
}

pub(crate) fn a_rail_or_vlan_that_is_taken_from_a_live_network_is_named(world: &World) -> Result<()> {
    let name = "taken-away";
    let (fabric, namespace) = with_llama(world, name)?;
    let llama = format!("{namespace}/llama");
    let mut without = fabric.clone();
    without["spec"]["rails"] = json!([fabric["spec"]["rails"][0]]);
    without["spec"]["vlan"]["range"] = json!({"min": 2000, "max": 2099});
    apply(world, &without)?;
    let conflict = ("EditConflict", "True", "LiveNetworks");
    says(
        world,
        name,
        conflict,
        &["spec.rails: rail1 (id 1) is gone", "spec.vlan.range: VLAN 1", &llama],
    )?;
    // It comes back with other pools: the network's addresses are nobody else's meanwhile.
    let mut back = fabric.clone();
    back["spec"]["rails"][1]["pools"][0]["cidr"] = json!(samples::pools("taken-away-other")[1]);
    apply(world, &back)?;
    says(world, name, conflict, &["spec.rails[rail1].pools[0].cidr", &llama])?;
    apply(world, &fabric)?;
    says(world, name, ("EditConflict", "False", "NoConflict"), &[])
}

pub(crate) fn a_port_that_moves_under_attached_pods_waits_for_them(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let name = "moved-port";
    let (fabric, namespace) = with_llama(world, name)?;
    let node = SimulatedNode::join(cluster, "moved-port-node", name, &["100G", "100G"])?;
    let slice = reserved(world, &namespace, "llama")?;
    let attachment = node.attach(cluster, &namespace, &slice, 0)?;
    let ports = |wanted: [&str; 2]| {
        eventually(&format!("the node's ports are {wanted:?}"), || {
            let spec = cluster.get("default", "nodenetwork", &node.name)?["spec"].clone();
            let found: Vec<&str> = (0..2)
                .filter_map(|rail| spec["rails"][rail]["pciAddress"].as_str())
                .collect();
            if found == wanted { Ok(()) } else { bail!("{spec}") }
        })
    };
    let as_before = ["0000:18:00.0", "0000:18:00.1"];
    ports(as_before)?;
    let mut swapped = fabric.clone();
    for (rail, port) in [(0, 1), (1, 0)] {
        swapped["spec"]["rails"][rail]["ports"] = fabric["spec"]["rails"][port]["ports"].clone();
    }
    apply(world, &swapped)?;
    says(
        world,
        name,
        ("EditConflict", "True", "LiveNetworks"),
        &["spec.rails[rail0].ports", &node.name, &format!("{namespace}/llama")],
    )?;
    ports(as_before)?;
    cluster
        .kubectl(
            &node.agent,
            &["delete", "networkattachment", &attachment, "--namespace", &namespace],
        )?
        .ok()?;
    ports(["0000:18:00.1", "0000:18:00.0"])?;
    says(world, name, ("EditConflict", "False", "NoConflict"), &[])
}

pub(crate) fn a_pool_inside_the_service_range_is_not_used(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let name = "services";
    let mut fabric = samples::fabric(name);
    let services = "10.96.128.0/24";
    let other = samples::pools("services-other");
    let small = other[1].replace("/16", "/24");
    for (rail, cidr) in [(0, services), (1, &*small)] {
        fabric["spec"]["rails"][rail]["pools"] = json!([{"cidr": cidr}]);
    }
    apply(world, &fabric)?;
    let words = [services, "Service range 10.96.0.0/16", "ServiceCIDR"];
    says(world, name, ("PoolsHealthy", "False", "PoolsInvalid"), &words)?;
    let namespace = cluster.namespace(name)?;
    network(world, &namespace, "llama", name)?;
    let refused = (&*namespace, "tnet", "llama");
    let message = cluster.condition(refused, "Reserved", "False", "FabricInvalid")?;
    contains(&message, &words)?;
    // Nor one that has the pods or the address of a node.
    let mine = samples::pools("services-nodes")[0].replace("/16", "/24");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "services-node"}, "spec": {"podCIDR": mine, "podCIDRs": [mine]}});
    cluster.create(&cluster.admin(), &[node])?;
    fabric["spec"]["rails"][0]["pools"] = json!([{"cidr": mine}]);
    apply(world, &fabric)?;
    let words = [&*mine, "pods' range", "node services-node"];
    says(world, name, ("PoolsHealthy", "False", "PoolsInvalid"), &words)?;
    cluster.ok(&["delete", "node", "services-node"])?;
    reserved(world, &namespace, "llama").map(drop)
}
