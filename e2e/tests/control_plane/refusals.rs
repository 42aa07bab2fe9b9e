//! Networks that get nothing: what they say, and that they take nothing.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::contains;
use crate::networks::{ledger_is_empty, reserved};
use crate::samples;
use crate::simulated_node::SimulatedNode;

/// Creates a fabric and a network on it, and waits for a refusal of the reservation.
fn refusal(world: &World, fabric: &Value, change: impl FnOnce(&mut Value), reason: &str) -> Result<String> {
    let cluster = &world.cluster;
    let name = fabric["metadata"]["name"].as_str().context("a fabric without a name")?;
    let namespace = cluster.namespace(name)?;
    let mut network = samples::network(&namespace, "llama", name, 2);
    change(&mut network);
    cluster.create(&cluster.admin(), &[fabric.clone(), network])?;
    // The message may list fabrics and classes, and other tests make some at the same time: then there is an event for each.
    let message = eventually("an event says what the condition says", || {
        let message = cluster.message((&namespace, "tnet", "llama"), "Reserved", "False", reason)?;
        let events = cluster.events(&namespace, "llama", reason)?;
        if events.contains(&message) {
            Ok(message)
        } else {
            bail!("the condition says {message:?} and the events {events:?}")
        }
    })?;
    let line = cluster.ok(&["get", "tnet", "llama", "--namespace", &namespace, "--no-headers"])?;
    contains(&line, &["False", reason])?;
    let slices = cluster.list(&namespace, "networkslices")?;
    if slices.is_empty() {
        Ok(message)
    } else {
        bail!("refused, but there are slices: {slices:?}")
    }
}

pub(crate) fn a_network_larger_than_the_pool_is_told_the_numbers(world: &World) -> Result<()> {
    let mut fabric = samples::fabric("small-pool");
    for rail in 0..2 {
        fabric["spec"]["rails"][rail]["pools"] = json!([{"cidr": format!("10.{rail}.7.0/24")}]);
    }
    let message = refusal(
        world,
        &fabric,
        |network| network["spec"]["pods"] = json!(300),
        "PoolExhausted",
    )?;
    contains(&message, &["300", "256"])
}

/// Pods of a network that gets nothing must not hold ports that admitted jobs could use.
pub(crate) fn a_refused_network_gives_no_claims_until_there_is_room(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let name = "no-room";
    let namespace = cluster.namespace(name)?;
    let mut fabric = samples::fabric(name);
    for rail in 0..2 {
        fabric["spec"]["rails"][rail]["pools"] = json!([{"cidr": format!("10.{rail}.8.0/24")}]);
    }
    let network = samples::network(&namespace, "llama", name, 300);
    let early = samples::pod(&namespace, "llama-0", "llama", 0);
    cluster.create(&admin, &[early, fabric.clone(), network])?;
    let object = (&*namespace, "tnet", "llama");
    cluster.condition(object, "Reserved", "False", "PoolExhausted")?;
    cluster.create(&admin, &[samples::pod(&namespace, "llama-1", "llama", 1)])?;
    cluster.event(&namespace, "llama-1", "NetworkNotReserved")?;
    cluster.event(&namespace, "llama-1", "FailedResourceClaimCreation")?;
    for kind in ["resourceclaimtemplates", "resourceclaims", "networkslices"] {
        let found = cluster.list(&namespace, kind)?;
        if !found.is_empty() {
            bail!("the network was refused, and yet there is {found:?}");
        }
    }
    ledger_is_empty(world, name)?;

    // Nor does a template stay that it had before.
    let uid = cluster.get(&namespace, "tnet", "llama")?["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "railhead.dev/v1alpha1", "kind": "TrainingNetwork", "name": "llama", "uid": uid, "controller": true});
    let left = json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "llama-rails", "namespace": namespace, "ownerReferences": [owner]},
        "spec": {"spec": {"devices": {
            "requests": [{"name": "other", "exactly": {"deviceClassName": "other"}}],
            "config": [{"opaque": {"driver": "railhead.dev", "parameters": {
                "kind": "NetworkClaim", "apiVersion": "railhead.dev/v1alpha1", "network": "llama", "networkUID": uid}}}],
        }}},
    });
    cluster.create(&admin, &[left])?;
    cluster.ok(&["label", "tnet", "llama", "look=again", "--namespace", &namespace])?;
    cluster.gone(&namespace, "resourceclaimtemplate", "llama-rails")?;

    // With room its template comes, and both pods get their claims without anybody's help.
    let pools = |rail: usize| json!([{"cidr": format!("10.{rail}.8.0/24")}, {"cidr": format!("10.{rail}.16.0/22")}]);
    for rail in 0..2 {
        fabric["spec"]["rails"][rail]["pools"] = pools(rail);
    }
    cluster
        .feed(
            &admin,
            &["apply", "--server-side", "--force-conflicts", "--filename", "-"],
            &[fabric],
        )?
        .ok()?;
    reserved(world, &namespace, "llama")?;
    eventually("both pods have a claim", || {
        match cluster.list(&namespace, "resourceclaims")?.len() {
            2 => Ok(()),
            count => bail!("there are {count}"),
        }
    })
}

pub(crate) fn no_vlan_is_left(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let mut fabric = samples::fabric("one-vlan");
    fabric["spec"]["vlan"]["range"] = json!({"min": 7, "max": 7});
    let namespace = cluster.namespace("one-vlan")?;
    cluster.create(
        &cluster.admin(),
        &[fabric, samples::network(&namespace, "first", "one-vlan", 2)],
    )?;
    reserved(world, &namespace, "first")?;
    cluster.create(
        &cluster.admin(),
        &[samples::network(&namespace, "second", "one-vlan", 2)],
    )?;
    let message = cluster.condition((&namespace, "tnet", "second"), "Reserved", "False", "VlanExhausted")?;
    contains(&message, &["vlan.range"])?;
    // What the first gives back, the second gets without anybody's help.
    cluster.ok(&["delete", "tnet", "first", "--namespace", &namespace])?;
    reserved(world, &namespace, "second").map(|_| ())
}

pub(crate) fn more_bandwidth_than_any_port_has_is_refused(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "slow";
    let namespace = cluster.namespace("slow")?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    SimulatedNode::join(cluster, "slow-node", fabric, &["100G", "100G"])?;
    let mut network = samples::network(&namespace, "llama", fabric, 2);
    network["spec"]["bandwidthPerRail"] = json!("200G");
    network["spec"]["qosClassName"] = json!("realtime");
    cluster.create(&cluster.admin(), &[network])?;
    let message = cluster.condition(
        (&namespace, "tnet", "llama"),
        "Reserved",
        "False",
        "BandwidthUnavailable",
    )?;
    contains(&message, &["200G", "100G", "rail0", "lower spec.bandwidthPerRail"])
}

pub(crate) fn more_bandwidth_than_the_class_allows_is_refused(world: &World) -> Result<()> {
    let class = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "capped"},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G", "maximum": "20G"}},
    });
    world.cluster.create(&world.cluster.admin(), &[class])?;
    let change = |network: &mut Value| {
        network["spec"]["qosClassName"] = json!("capped");
        network["spec"]["bandwidthPerRail"] = json!("25G");
    };
    let message = refusal(world, &samples::fabric("capped"), change, "BandwidthAboveClass")?;
    contains(
        &message,
        &[
            "25G",
            "capped lets a network guarantee (20G)",
            "lower spec.bandwidthPerRail",
            "production",
        ],
    )
}

pub(crate) fn less_bandwidth_than_the_class_allows_is_refused(world: &World) -> Result<()> {
    let class = json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "QosClass", "metadata": {"name": "generous"},
        "spec": {"dscp": 26, "priority": 3, "bandwidth": {"guaranteed": "10G", "smallestGuarantee": "5G"}},
    });
    world.cluster.create(&world.cluster.admin(), &[class])?;
    let change = |network: &mut Value| {
        network["spec"]["qosClassName"] = json!("generous");
        network["spec"]["bandwidthPerRail"] = json!("4999M");
    };
    let message = refusal(world, &samples::fabric("generous"), change, "BandwidthBelowClass")?;
    contains(
        &message,
        &[
            "4999M",
            "generous lets a network guarantee (5G)",
            "raise spec.bandwidthPerRail, leave it out for the class's 10G",
            "production",
        ],
    )
}

/// A network of one pod, and as many pods with its label as there are ports, must not take the ports from all others.
pub(crate) fn a_whole_port_is_more_than_the_default_class_lets_a_network_guarantee(world: &World) -> Result<()> {
    let change = |network: &mut Value| network["spec"]["bandwidthPerRail"] = json!("400G");
    let message = refusal(world, &samples::fabric("whole-port"), change, "BandwidthAboveClass")?;
    contains(&message, &["400G", "production lets a network guarantee (100G)"])
}

pub(crate) fn an_unknown_fabric_is_named(world: &World) -> Result<()> {
    let fabric = samples::fabric("known-fabric");
    let change = |network: &mut Value| network["spec"]["fabricName"] = json!("unknown-fabric");
    let message = refusal(world, &fabric, change, "FabricNotFound")?;
    contains(&message, &["unknown-fabric", "spec.fabricName"])
}

pub(crate) fn an_unknown_class_is_named(world: &World) -> Result<()> {
    let fabric = samples::fabric("class-fabric");
    let change = |network: &mut Value| network["spec"]["qosClassName"] = json!("prodction");
    let message = refusal(world, &fabric, change, "ClassNotFound")?;
    contains(&message, &["prodction", "production", "spec.qosClassName"])
}

pub(crate) fn a_rail_that_the_fabric_lacks_is_named(world: &World) -> Result<()> {
    let fabric = samples::fabric("two-rails");
    let change = |network: &mut Value| network["spec"]["rails"] = json!({"names": ["rail0", "rail7"]});
    let message = refusal(world, &fabric, change, "RailNotFound")?;
    contains(&message, &["rail7", "spec.rails.names"])
}

pub(crate) fn a_foreign_template_of_our_name_is_not_taken_over(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("foreign")?;
    let template = json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "llama-rails", "namespace": namespace},
        "spec": {"spec": {"devices": {"requests": [{"name": "other", "exactly": {"deviceClassName": "other"}}]}}},
    });
    cluster.create(
        &cluster.admin(),
        &[
            template,
            samples::fabric("foreign"),
            samples::network(&namespace, "llama", "foreign", 2),
        ],
    )?;
    let message = cluster.condition((&namespace, "tnet", "llama"), "Reserved", "False", "TemplateConflict")?;
    contains(&message, &["llama-rails"])?;
    let kept = cluster.get(&namespace, "resourceclaimtemplate", "llama-rails")?;
    if kept["spec"]["spec"]["devices"]["requests"][0]["name"] != "other" {
        bail!("somebody else's template was overwritten: {kept}");
    }
    Ok(())
}
