//! A ledger that somebody repaired by hand or restored from a backup, and what the slices make of it.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::samples;

/// A fabric with networks of two pods on it, all reserved; and its ledger's entries.
fn with_networks(world: &World, fabric: &str, networks: &[&str]) -> Result<(String, Vec<Value>)> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace(fabric)?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    for name in networks {
        cluster.create(&cluster.admin(), &[samples::network(&namespace, name, fabric, 2)])?;
        reserved(world, &namespace, name)?;
    }
    Ok((namespace, entries(world, fabric)?))
}

fn entries(world: &World, fabric: &str) -> Result<Vec<Value>> {
    let ledger = world.cluster.get("default", "fabricledger", fabric)?;
    Ok(ledger["spec"]["entries"].as_array().cloned().unwrap_or_default())
}

fn overwrite(world: &World, fabric: &str, entries: &[&Value]) -> Result<()> {
    let patch = json!({"spec": {"entries": entries}}).to_string();
    let arguments = ["patch", "fabricledger", fabric, "--type", "merge", "--patch", &patch];
    world.cluster.kubectl(&world.operator_account, &arguments)?.ok()?;
    Ok(())
}

pub(crate) fn an_entry_that_was_taken_out_comes_back_and_its_block_is_not_given_away(world: &World) -> Result<()> {
    let fabric = "mended";
    let (namespace, before) = with_networks(world, fabric, &["llama"])?;
    let entry = before.first().context("nothing was reserved")?;
    overwrite(world, fabric, &[])?;
    // Whoever comes first, the new network or the operator's look at the old one: the block stays with its slice.
    let admin = world.cluster.admin();
    world
        .cluster
        .create(&admin, &[samples::network(&namespace, "qwen", fabric, 2)])?;
    let other = reserved(world, &namespace, "qwen")?;
    eventually("the ledger knows both networks", || {
        let now = entries(world, fabric)?;
        let same = |found: &&Value| {
            ["base", "size", "vlan", "owner"]
                .iter()
                .all(|key| found[key] == entry[key])
        };
        match (now.len(), now.iter().find(same)) {
            (2, Some(_)) => Ok(()),
            _ => bail!("{entry} was taken out, and now it says {now:?}"),
        }
    })?;
    let other = world.cluster.get(&namespace, "networkslice", &other)?;
    if other["spec"]["base"] == entry["base"] || other["spec"]["rails"][0]["vlan"] == entry["vlan"] {
        bail!("two networks have one block or VLAN: {entry} and {}", other["spec"]);
    }
    reserved(world, &namespace, "llama").map(|_| ())
}

pub(crate) fn a_slice_whose_block_the_ledger_gives_to_another_is_told_both_names(world: &World) -> Result<()> {
    let fabric = "contested";
    let (namespace, before) = with_networks(world, fabric, &["llama", "qwen"])?;
    let of = |name: &str| {
        let found = before.iter().find(|entry| entry["owner"]["name"] == name);
        found.cloned().with_context(|| format!("{name} has no entry"))
    };
    let (first, mut second) = (of("llama")?, of("qwen")?);
    second["base"] = first["base"].clone();
    overwrite(world, fabric, &[&second])?;
    let network = (&*namespace, "tnet", "llama");
    let message = world
        .cluster
        .condition(network, "Reserved", "False", "LedgerMismatch")?;
    let names = [format!("{namespace}/llama"), format!("{namespace}/qwen")];
    contains(&message, &[&names[0], &names[1], "delete the pods"])?;
    let now = entries(world, fabric)?;
    if now.len() != 1 {
        bail!("two networks hold one block: {now:?}");
    }
    // The pods of both slices may run: a third network gets nothing of what either has.
    let admin = world.cluster.admin();
    let third = samples::network(&namespace, "mixtral", fabric, 2);
    world.cluster.create(&admin, &[third])?;
    let third = reserved(world, &namespace, "mixtral")?;
    let third = world.cluster.get(&namespace, "networkslice", &third)?;
    for held in &before {
        if third["spec"]["base"] == held["base"] || third["spec"]["rails"][0]["vlan"] == held["vlan"] {
            bail!(
                "{} has a slice, and of that a third network got {}",
                held,
                third["spec"]
            );
        }
    }
    Ok(())
}
