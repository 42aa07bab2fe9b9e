//! A claim template goes with its network, whatever somebody does to it.

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::World;
use crate::cluster::contains;
use crate::networks::{ledger_is_empty, reserved};
use crate::samples;

const TEMPLATE: &str = "llama-rails";

/// A fabric and a network on it that has its template.
fn offered(world: &World, name: &str) -> Result<String> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace(name)?;
    cluster.create(
        &cluster.admin(),
        &[samples::fabric(name), samples::network(&namespace, "llama", name, 2)],
    )?;
    reserved(world, &namespace, "llama")?;
    Ok(namespace)
}

/// As it may have been left by a release whose templates could be changed, or by a network whose finalizer was taken away by hand.
pub(crate) fn a_template_whose_network_is_gone_is_taken_away(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = offered(world, "strays")?;
    let mut left = cluster.get(&namespace, "resourceclaimtemplate", TEMPLATE)?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.gone(&namespace, "resourceclaimtemplate", TEMPLATE)?;
    left["metadata"] = json!({"name": TEMPLATE, "namespace": namespace});
    cluster.create(&cluster.admin(), &[left.clone()])?;
    cluster.gone(&namespace, "resourceclaimtemplate", TEMPLATE)?;
    // Under a name that no network's template has it was made by somebody who may.
    left["metadata"]["name"] = json!("tried-out");
    cluster.create(&cluster.admin(), &[left])?;
    cluster.get(&namespace, "resourceclaimtemplate", "tried-out").map(drop)
}

/// The addresses are nobody else's as long as pods may get claims.
pub(crate) fn nothing_is_released_while_a_finalizer_holds_the_template(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "template-held";
    let namespace = offered(world, fabric)?;
    // As a release before this one let anybody do; now only who has the operator's name and more rights than it.
    let hold = json!({"metadata": {"finalizers": ["example.com/mine"]}}).to_string();
    cluster.ok(&[
        "patch",
        "resourceclaimtemplate",
        TEMPLATE,
        "--namespace",
        &namespace,
        "--type",
        "merge",
        "--patch",
        &hold,
        "--as=system:serviceaccount:railhead-system:railhead-operator",
        "--as-group=system:masters",
    ])?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    let object = (&*namespace, "tnet", "llama");
    let message = cluster.condition(object, "Ready", "False", "DeletingWaitingForTemplate")?;
    contains(&message, &[TEMPLATE, "example.com/mine", "whoever put them there"])?;
    let ledger = cluster.get("default", "fabricledger", fabric)?;
    let entries = ledger["spec"]["entries"].as_array().context("no entries")?;
    if entries.len() != 1 {
        bail!("the template is still there, and the ledger holds {entries:?}");
    }
    // Whoever put it there may take it away.
    let free = json!({"metadata": {"finalizers": null}}).to_string();
    let patch = ["patch", "resourceclaimtemplate", TEMPLATE, "--namespace", &namespace];
    cluster.ok(&[&patch[..], &["--type", "merge", "--patch", &free]].concat())?;
    cluster.gone(&namespace, "tnet", "llama")?;
    ledger_is_empty(world, fabric)
}
