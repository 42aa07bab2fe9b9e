//! A ledger that somebody repaired by hand, restored from a backup or wrote with a later release, one whose fabric is gone, and
//! what networks and slices make of it.

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{contains, expect_refusal};
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

/// Waits until a slice is in quarantine, or in none.
fn quarantined(world: &World, namespace: &str, slice: &str, status: &str) -> Result<String> {
    let reason = if status == "True" {
        "LedgerMismatch"
    } else {
        "NotContested"
    };
    let slice = (namespace, "networkslice", slice);
    world.cluster.condition(slice, "Quarantined", status, reason)
}

pub(crate) fn a_quarantined_slice_takes_no_new_pods_until_nobody_else_has_its_block(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "quarantine";
    let (namespace, before) = with_networks(world, fabric, &["llama", "qwen", "mixtral"])?;
    let slice = |network: &str| reserved(world, &namespace, network);
    let (llama, qwen, mixtral) = (slice("llama")?, slice("qwen")?, slice("mixtral")?);
    let of = |name: &str| before.iter().find(|entry| entry["owner"]["name"] == name).cloned();
    let first = of("llama").context("llama has no entry")?;
    let mut second = of("qwen").context("qwen has no entry")?;
    let third = of("mixtral").context("mixtral has no entry")?;
    second["base"] = first["base"].clone();
    overwrite(world, fabric, &[&second, &third])?;
    // Of both networks, and only of those: mark, words, and no template from which pods would get claims.
    let names = [format!("{namespace}/llama"), format!("{namespace}/qwen")];
    for (network, slice) in [("llama", &llama), ("qwen", &qwen)] {
        contains(&quarantined(world, &namespace, slice, "True")?, &[&names[0], &names[1]])?;
        cluster.condition((&namespace, "tnet", network), "Reserved", "False", "LedgerMismatch")?;
        cluster.gone(&namespace, "resourceclaimtemplate", &format!("{network}-rails"))?;
        let pod = format!("{network}-0");
        cluster.create(&cluster.admin(), &[samples::pod(&namespace, &pod, network, 0)])?;
        contains(
            &cluster.event(&namespace, &pod, "NetworkNotReserved")?,
            &["takes no new pods", &names[0], &names[1], "delete the pods"],
        )?;
    }
    let third = cluster.get(&namespace, "networkslice", &mixtral)?;
    let mut said = third["status"]["conditions"].as_array().into_iter().flatten();
    if let Some(said) = said.find(|said| said["type"] == "Quarantined" && said["status"] == "True") {
        bail!("a slice that shares nothing is in quarantine: {said}");
    }
    cluster.get(&namespace, "resourceclaimtemplate", "mixtral-rails")?;
    // One of the two goes, as the words say: the other gets its entry back, and its pods come.
    cluster.ok(&["delete", "pod", "qwen-0", "--namespace", &namespace, "--wait=false"])?;
    cluster.ok(&["delete", "tnet", "qwen", "--namespace", &namespace])?;
    quarantined(world, &namespace, &llama, "False")?;
    reserved(world, &namespace, "llama")?;
    eventually("the claim template is offered again", || {
        cluster.get(&namespace, "resourceclaimtemplate", "llama-rails")
    })?;
    eventually("the ledger gives the block to the network that has it", || {
        let now = entries(world, fabric)?;
        match now.iter().find(|entry| entry["owner"]["name"] == "llama") {
            Some(entry) if entry["base"] == first["base"] => Ok(()),
            _ => bail!("it says {now:?}"),
        }
    })
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

fn patch(world: &World, fabric: &str, spec: &Value) -> Result<()> {
    let patch = json!({ "spec": spec }).to_string();
    let arguments = ["patch", "fabricledger", fabric, "--type", "merge", "--patch", &patch];
    world.cluster.kubectl(&world.operator_account, &arguments)?.ok()?;
    Ok(())
}

pub(crate) fn a_ledger_of_a_later_release_is_left_as_it_is_and_said_to_its_networks(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "later";
    let (namespace, mut entries) = with_networks(world, fabric, &["llama"])?;
    let (elsewhere, _) = with_networks(world, "not-later", &["llama"])?;
    entries[0]["maxPods"] = json!(16);
    patch(
        world,
        fabric,
        &json!({"version": 3, "entries": entries, "quarantine": [{"node": "gpu-7", "since": 12}]}),
    )?;
    let before = cluster.get("default", "fabricledger", fabric)?;
    cluster.create(&admin, &[samples::network(&namespace, "qwen", fabric, 2)])?;
    let message = cluster.condition((&namespace, "tnet", "qwen"), "Reserved", "False", "LedgerNewer")?;
    contains(&message, &["version 3, this one knows 2", "run that release again"])?;
    let delete = |namespace: &str, network: &str| {
        cluster.ok(&["delete", "tnet", network, "--namespace", namespace, "--wait=false"])
    };
    delete(&namespace, "llama")?;
    let message = cluster.condition(
        (&namespace, "tnet", "llama"),
        "Ready",
        "False",
        "DeletingWaitingForLedger",
    )?;
    contains(&message, &["version 3, this one knows 2"])?;
    // Other fabrics' networks come and go meanwhile.
    delete(&elsewhere, "llama")?;
    cluster.gone(&elsewhere, "tnet", "llama")?;
    let now = cluster.get("default", "fabricledger", fabric)?;
    if now != before {
        bail!("a ledger of a later release was written: {before}, then {now}");
    }
    // What is of a version that is known here is written, with what is not known in it.
    entries[0]["state"] = json!("Frozen");
    patch(world, fabric, &json!({"version": 2, "entries": entries}))?;
    reserved(world, &namespace, "qwen")?;
    let now = cluster.get("default", "fabricledger", fabric)?;
    let spec = &now["spec"];
    let llama = spec["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["owner"]["name"] == "llama");
    if spec["quarantine"] != before["spec"]["quarantine"] || llama != entries.first() {
        bail!("what a later release wrote is lost: {spec}");
    }
    eventually("the deletion waits for the later release", || {
        let message = cluster.message(
            (&namespace, "tnet", "llama"),
            "Ready",
            "False",
            "DeletingWaitingForLedger",
        )?;
        contains(&message, &["in the state \"Frozen\" of a later release"])
    })?;
    entries[0]["state"] = json!("Held");
    let held: Vec<Value> = spec["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["owner"]["name"] != "llama")
        .cloned()
        .collect();
    let repaired = [&held[..], &entries[..]].concat();
    patch(world, fabric, &json!({ "entries": repaired }))?;
    cluster.gone(&namespace, "tnet", "llama")
}

pub(crate) fn a_ledger_that_cannot_be_read_keeps_no_other_from_being_written(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "unreadable";
    let (namespace, entries) = with_networks(world, fabric, &["llama"])?;
    let (elsewhere, _) = with_networks(world, "readable", &["llama"])?;
    // What the API server's rules let through, as those of a later release may.
    let mut spoilt = entries.clone();
    spoilt[0]["intervals"] = json!([{"base": 4, "size": 4_294_967_296_u64}]);
    for field in ["base", "size"] {
        spoilt[0].as_object_mut().context("an entry")?.remove(field);
    }
    patch(world, fabric, &json!({ "entries": spoilt }))?;
    cluster.create(&admin, &[samples::network(&namespace, "qwen", fabric, 2)])?;
    let message = cluster.condition((&namespace, "tnet", "qwen"), "Reserved", "False", "LedgerUnreadable")?;
    contains(
        &message,
        &["cannot be read", "run the release of Railhead that wrote it"],
    )?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &elsewhere, "--wait=false"])?;
    cluster.gone(&elsewhere, "tnet", "llama")?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    cluster.condition(
        (&namespace, "tnet", "llama"),
        "Ready",
        "False",
        "DeletingWaitingForLedger",
    )?;
    patch(world, fabric, &json!({ "entries": entries }))?;
    cluster.gone(&namespace, "tnet", "llama")?;
    reserved(world, &namespace, "qwen").map(|_| ())
}

pub(crate) fn an_entry_has_base_and_size_or_intervals(world: &World) -> Result<()> {
    let create = |slots: Value| {
        let mut entry = json!({"owner": {"namespace": "a", "name": "b", "uid": "c"}, "sequence": 1, "state": "Held"});
        entry
            .as_object_mut()
            .context("an entry")?
            .extend(slots.as_object().cloned().unwrap_or_default());
        let ledger = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "slots"},
            "spec": {"version": 2, "sequence": 1, "entries": [entry]},
        });
        let arguments = ["create", "--dry-run=server", "--filename", "-"];
        world.cluster.feed(&world.operator_account, &arguments, &[ledger])
    };
    create(json!({"base": 0, "size": 4, "vlan": 7}))?.ok()?;
    create(json!({"intervals": [{"base": 0, "size": 4}, {"base": 8, "size": 2}]}))?.ok()?;
    for slots in [
        json!({}),
        json!({"base": 0}),
        json!({"base": 0, "size": 4, "intervals": [{"base": 8, "size": 2}]}),
    ] {
        expect_refusal(
            &create(slots)?,
            &["an entry of a ledger has base and size, or intervals"],
        )?;
    }
    Ok(())
}

pub(crate) fn a_fabric_that_is_gone_gets_no_ledger_and_leaves_none(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let force = |fabric: &str| {
        cluster.ok(&["delete", "fabric", fabric, "--wait=false"])?;
        let unlock = r#"{"metadata": {"finalizers": null}}"#;
        cluster.ok(&["patch", "fabric", fabric, "--type", "merge", "--patch", unlock])?;
        cluster.gone("default", "fabric", fabric)
    };
    // The ledger is there: it goes with the last network.
    let (namespace, _) = with_networks(world, "forced", &["llama"])?;
    force("forced")?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    cluster.gone(&namespace, "tnet", "llama")?;
    cluster.gone("default", "fabricledger", "forced")?;
    // It went with the fabric: the network keeps what it has, and makes no new one.
    let (namespace, _) = with_networks(world, "forgotten", &["llama"])?;
    force("forgotten")?;
    let arguments = ["delete", "fabricledger", "forgotten"];
    cluster.kubectl(&world.operator_account, &arguments)?.ok()?;
    let label = ["label", "tnet", "llama", "--namespace", &namespace, "looked=again"];
    cluster.ok(&label)?;
    std::thread::sleep(std::time::Duration::from_secs(3));
    reserved(world, &namespace, "llama")?;
    if cluster.get("default", "fabricledger", "forgotten").is_ok() {
        bail!("a ledger was made for a fabric that is gone");
    }
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace, "--wait=false"])?;
    cluster.gone(&namespace, "tnet", "llama")
}
