//! `kubectl railhead fsck` and `plan` on the real API server, with the operator beside them.

use anyhow::{Context, Result, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{Identity, contains};
use crate::networks::reserved;
use crate::plugin::railhead;
use crate::samples;

/// What it prints as somebody, with the exit code that is expected.
fn said(world: &World, who: &Identity, arguments: &[&str], code: i32) -> Result<String> {
    let output = railhead(world, who, arguments)?;
    ensure!(output.code == code, "not code {code}: {output}");
    Ok(output.stdout)
}

pub(crate) fn what_contradicts_is_found_and_what_is_safe_is_repaired_by_who_may(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (admin, fabric) = (cluster.admin(), "fsck");
    let namespace = cluster.namespace(fabric)?;
    cluster.create(
        &admin,
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let slice = reserved(world, &namespace, "llama")?;
    // The other tests have clusters of their own kinds of disorder: this one looks at its namespace.
    let fsck = ["fsck", "-n", &namespace];
    let sound = said(world, &admin, &fsck, 0)?;
    contains(&sound, &["compared: networks", "nothing contradicts anything"])?;

    // Nobody puts this finalizer back.
    let unguard = json!({"metadata": {"finalizers": null}});
    let object = (&*namespace, "networkslice", &*slice);
    cluster.patch(&world.operator_account, object, &unguard, &[])?.ok()?;
    let planted = said(world, &admin, &fsck, 1)?;
    contains(
        &planted,
        &[
            "SliceUnguarded  1",
            &format!("NetworkSlice {namespace}/{slice}"),
            "the finalizer railhead.dev/attachments is not on it",
            "--repair: puts back the finalizer railhead.dev/attachments",
            "1 found: 1 repairable with --repair",
        ],
    )?;
    let json = said(world, &admin, &[&fsck[..], &["-o", "json"]].concat(), 1)?;
    let json: Value = serde_json::from_str(&json).with_context(|| format!("no JSON: {json}"))?;
    let finding = &json["findings"][0];
    ensure!(
        json["kind"] == "Fsck" && finding["check"] == "SliceUnguarded" && finding["who"] == "Repairable",
        "{json}"
    );

    // Records are written by Railhead's accounts only, and the refusal says who else may.
    let repair = [&fsck[..], &["--repair"]].concat();
    let refused = said(world, &admin, &repair, 1)?;
    contains(
        &refused,
        &["not repaired: the API server refused it", "guards.breakGlassGroups"],
    )?;
    let finalizers =
        || -> Result<Value> { Ok(cluster.get(&namespace, "networkslice", &slice)?["metadata"]["finalizers"].clone()) };
    ensure!(finalizers()?.is_null(), "it was written all the same");
    let repaired = said(world, &world.operator_account, &repair, 0)?;
    contains(
        &repaired,
        &[
            "repaired: puts back the finalizer railhead.dev/attachments",
            "1 of 1 repaired",
        ],
    )?;
    ensure!(
        finalizers()? == json!(["railhead.dev/attachments"]),
        "{}",
        finalizers()?
    );
    said(world, &admin, &fsck, 0)?;

    // What the operator mends by itself is gone at the second look, or told as such, and never repaired from here.
    cluster.ok(&[
        "delete",
        "resourceclaimtemplate",
        "llama-rails",
        "--namespace",
        &namespace,
    ])?;
    let mended = railhead(world, &world.operator_account, &repair)?;
    ensure!(!mended.stdout.contains("repaired: "), "{mended}");
    eventually("the operator has made the template again", || {
        said(world, &admin, &fsck, 0)
    })?;
    Ok(())
}

pub(crate) fn what_is_planned_is_what_is_reserved_then(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let (admin, fabric) = (cluster.admin(), "planned");
    let namespace = cluster.namespace(fabric)?;
    let mut described = samples::fabric(fabric);
    for rail in 0..2 {
        described["spec"]["rails"][rail]["speed"] = json!("400G");
    }
    cluster.create(&admin, &[described])?;
    cluster.condition(("default", "fabric", fabric), "NodesReady", "False", "NoNodes")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("big.json");
    let network = samples::network(&namespace, "big", fabric, 12);
    std::fs::write(&file, network.to_string())?;
    let file = file.to_str().context("the folder's name is not UTF-8")?;

    let plan = ["plan", "-n", &namespace, "-f", file];
    let none = said(world, &admin, &plan, 2)?;
    contains(
        &none,
        &[
            "does not fit",
            "would reserve: 16 addresses on each of 2 rails",
            "room: for 0 of 12 pods",
        ],
    )?;
    let with_nodes = [&plan[..], &["--nodes", "12", "--per-node", "1"]].concat();
    contains(&said(world, &admin, &with_nodes, 0)?, &["fits", "on 12 of 12 nodes"])?;
    let json = said(world, &admin, &[&with_nodes[..], &["-o", "json"]].concat(), 0)?;
    let json: Value = serde_json::from_str(&json).with_context(|| format!("no JSON: {json}"))?;
    let planned = &json["networks"][0]["reserves"];
    ensure!(json["kind"] == "Plan" && json["networks"][0]["fits"] == true, "{json}");

    cluster.create(&admin, &[network])?;
    let slice = reserved(world, &namespace, "big")?;
    let slice = cluster.get(&namespace, "networkslice", &slice)?;
    for rail in 0..2 {
        let got = &slice["spec"]["rails"][rail]["prefixes"][0]["prefix"];
        ensure!(planned["prefixes"][rail]["prefix"] == *got, "{planned} and then {got}");
    }
    ensure!(planned["vlan"] == slice["spec"]["rails"][0]["vlan"], "{planned}");
    let again = said(world, &admin, &with_nodes, 0)?;
    contains(&again, &["has: 16 addresses"])?;

    for (arguments, words) in [
        (
            &["plan", "-f", "/nowhere/big.yaml"][..],
            "/nowhere/big.yaml cannot be read",
        ),
        (
            &["plan", "-n", &namespace, "-f", file, "--nodes", "lots"],
            "--nodes lots: write +64",
        ),
        (
            &["plan", "-n", &namespace, "-f", file, "--without-rail", "rail9"],
            "has no rail \"rail9\"",
        ),
    ] {
        let output = railhead(world, &admin, arguments)?;
        ensure!(output.code == 3, "{output}");
        contains(&output.stderr, &[words])?;
    }
    Ok(())
}
