//! What kube-scheduler makes of our claims and devices.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// A fabric with one node of two 1G ports.
fn fabric_with_node(world: &World, fabric: &str) -> Result<()> {
    world
        .cluster
        .create(&world.cluster.admin(), &[samples::fabric(fabric)])?;
    SimulatedNode::join(&world.cluster, &format!("{fabric}-node"), fabric, &["1G", "1G"])?;
    Ok(())
}

fn network(namespace: &str, name: &str, fabric: &str, bandwidth: &str) -> Value {
    let mut network = samples::network(namespace, name, fabric, 2);
    network["spec"]["bandwidthPerRail"] = json!(bandwidth);
    network
}

fn scheduled(world: &World, namespace: &str, pod: &str, node: &str) -> Result<()> {
    eventually(&format!("{pod} is scheduled to {node}"), || {
        let pod = world.cluster.get(namespace, "pod", pod)?;
        if pod["spec"]["nodeName"] == node {
            Ok(())
        } else {
            bail!("its conditions are {}", pod["status"]["conditions"])
        }
    })
}

pub(crate) fn a_pod_gets_one_port_per_rail_with_its_guarantee(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "ports";
    fabric_with_node(world, fabric)?;
    let namespace = cluster.namespace("ports")?;
    cluster.create(&cluster.admin(), &[network(&namespace, "llama", fabric, "300M")])?;
    let slice = reserved(world, &namespace, "llama")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-1", "llama", 1)])?;
    scheduled(world, &namespace, "llama-1", "ports-node")?;
    let claims = cluster.list(&namespace, "resourceclaims")?;
    let [claim] = &claims[..] else {
        bail!("one pod, {} claims", claims.len())
    };
    let results = claim["status"]["allocation"]["devices"]["results"]
        .as_array()
        .context("the claim is not allocated")?;
    let got: Vec<Value> = results
        .iter()
        .map(|r| {
            json!([
                r["request"],
                r["device"],
                r["pool"],
                r["consumedCapacity"]["bandwidth"],
                r["consumedCapacity"]["vfs"]
            ])
        })
        .collect();
    let wanted = json!([
        ["rail0", "rail0", "ports-node", "300M", "1"],
        ["rail1", "rail1", "ports-node", "300M", "1"]
    ]);
    if Value::Array(got.clone()) != wanted {
        bail!("the scheduler gave {got:?}");
    }
    // The agent reads from the claim whose it is.
    let parameters = &claim["status"]["allocation"]["devices"]["config"][0]["opaque"]["parameters"];
    let uid = cluster.get(&namespace, "tnet", "llama")?["metadata"]["uid"].clone();
    if parameters["kind"] != "NetworkClaim" || parameters["network"] != "llama" || parameters["networkUID"] != uid {
        bail!("the claim carries {parameters}");
    }
    let message = cluster.event(&namespace, "llama-1", "NetworkReserved")?;
    let slice = cluster.get(&namespace, "networkslice", &slice)?;
    contains(
        &message,
        &["index 1", &format!("VLAN {}", slice["spec"]["rails"][0]["vlan"]), "10."],
    )
}

pub(crate) fn a_port_is_never_oversold_and_the_event_says_what_is_free(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "oversell";
    fabric_with_node(world, fabric)?;
    let namespace = cluster.namespace("oversell")?;
    let networks = [
        network(&namespace, "llama", fabric, "400M"),
        network(&namespace, "qwen", fabric, "400M"),
    ];
    cluster.create(&cluster.admin(), &networks)?;
    reserved(world, &namespace, "llama")?;
    reserved(world, &namespace, "qwen")?;
    for index in 0..2 {
        let name = format!("llama-{index}");
        cluster.create(&cluster.admin(), &[samples::pod(&namespace, &name, "llama", index)])?;
        scheduled(world, &namespace, &name, "oversell-node")?;
    }
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "qwen-0", "qwen", 0)])?;
    let message = cluster.event(&namespace, "qwen-0", "BandwidthUnavailable")?;
    contains(&message, &["rail0", "400M", "oversell-node", "200M"])?;
    let pod = cluster.get(&namespace, "pod", "qwen-0")?;
    if !pod["spec"]["nodeName"].is_null() {
        bail!("the third pod was scheduled: 1.2G of a 1G port are given away");
    }
    // When one of the two goes, the third gets its place.
    cluster.ok(&[
        "delete",
        "pod",
        "llama-0",
        "--namespace",
        &namespace,
        "--force",
        "--grace-period=0",
    ])?;
    scheduled(world, &namespace, "qwen-0", "oversell-node")
}

/// Nobody counts pods when they are made; what they hold is counted.
pub(crate) fn a_quota_bounds_what_the_pods_of_a_namespace_hold(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "quota";
    fabric_with_node(world, fabric)?;
    let namespace = cluster.namespace("quota")?;
    let quota = "--hard=rail.railhead.dev.deviceclass.resource.k8s.io/devices=2";
    cluster.ok(&["create", "quota", "rails", "--namespace", &namespace, quota])?;
    cluster.create(&cluster.admin(), &[network(&namespace, "llama", fabric, "100M")])?;
    reserved(world, &namespace, "llama")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-0", "llama", 0)])?;
    scheduled(world, &namespace, "llama-0", "quota-node")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-1", "llama", 1)])?;
    let message = cluster.event(&namespace, "llama-1", "FailedResourceClaimCreation")?;
    contains(&message, &["exceeded quota: rails", "rail.railhead.dev"])?;
    let claims = cluster.list(&namespace, "resourceclaims")?;
    if claims.len() != 1 {
        bail!(
            "two rails are allowed, and there are {} claims of two each",
            claims.len()
        );
    }
    Ok(())
}

pub(crate) fn a_pod_older_than_its_network_is_scheduled(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "older";
    fabric_with_node(world, fabric)?;
    let namespace = cluster.namespace("older")?;
    cluster.create(&cluster.admin(), &[samples::pod(&namespace, "llama-0", "llama", 0)])?;
    cluster.event(&namespace, "llama-0", "NetworkNotFound")?;
    // By now Kubernetes has given up on the claim's template for minutes.
    eventually("Kubernetes has missed the template", || {
        contains(
            &cluster.ok(&["get", "events", "--namespace", &namespace])?,
            &["llama-rails"],
        )
    })?;
    cluster.create(&cluster.admin(), &[network(&namespace, "llama", fabric, "100M")])?;
    scheduled(world, &namespace, "llama-0", "older-node")
}
