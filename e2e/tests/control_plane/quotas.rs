//! How much of a fabric the networks of a namespace may take.

use anyhow::{Context, Result, bail, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::cluster::{contains, expect_refusal};
use crate::guards::tenant;
use crate::networks::reserved;
use crate::operator::Operator;
use crate::operators::LEADER_PORT;
use crate::samples;

/// A quota `rails` on a fabric.
fn quota(namespace: &str, fabric: &str, hard: &Value) -> Value {
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkQuota",
        "metadata": {"name": "rails", "namespace": namespace},
        "spec": {"fabricName": fabric, "hard": hard},
    })
}

fn limit(world: &World, namespace: &str, hard: &Value) -> Result<()> {
    let patch = json!({"spec": {"hard": hard}});
    let admin = world.cluster.admin();
    let object = (namespace, "networkquota", "rails");
    world.cluster.patch(&admin, object, &patch, &[])?.ok().map(|_| ())
}

/// Waits until a quota says that so much of its fabric is used.
fn uses(world: &World, namespace: &str, expected: &Value) -> Result<()> {
    eventually("the quota says what is used", || {
        let quota = world.cluster.get(namespace, "networkquota", "rails")?;
        let mut used = quota["status"]["used"][0].clone();
        used.as_object_mut()
            .context("nothing is said yet")?
            .remove("fabricName");
        if used == *expected {
            Ok(())
        } else {
            bail!("{used} instead of {expected}")
        }
    })
}

fn refused(world: &World, namespace: &str, network: &str) -> Result<String> {
    let object = (namespace, "tnet", network);
    world.cluster.condition(object, "Reserved", "False", "QuotaExceeded")
}

pub(crate) fn what_is_beyond_a_quota_waits_and_the_oldest_gets_it_first(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "quota-limits";
    let namespace = cluster.namespace(fabric)?;
    let hard = json!({"networks": 2, "pods": 16, "bandwidth": "320G"});
    cluster.create(&admin, &[samples::fabric(fabric), quota(&namespace, fabric, &hard)])?;
    uses(
        world,
        &namespace,
        &json!({"networks": 0, "pods": 0, "bandwidth": "0M", "vlans": 0}),
    )?;
    let network = |name: &str, pods: u32| samples::network(&namespace, name, fabric, pods);
    cluster.create(&admin, &[network("first", 4), network("second", 4)])?;
    reserved(world, &namespace, "first")?;
    reserved(world, &namespace, "second")?;
    // Two pods more than there are left, and both networks are: all limits are named, and the numbers.
    cluster.create(&admin, &[network("third", 10)])?;
    let message = refused(world, &namespace, "third")?;
    let words = [
        &*format!("namespace {namespace}"),
        "NetworkQuota rails, spec.hard.networks: 1 asked, 2 used by other networks, 2 allowed",
        "spec.hard.pods: 10 asked, 8 used by other networks, 16 allowed",
        "spec.hard.bandwidth: 200G asked, 160G used by other networks, 320G allowed",
        "ask the platform team to raise the limit",
    ];
    contains(&message, &words)?;
    contains(&cluster.event(&namespace, "third", "QuotaExceeded")?, &words)?;
    // A second apart, since that is how exactly the API server notes ages.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    cluster.create(&admin, &[network("fourth", 4)])?;
    refused(world, &namespace, "fourth")?;
    let slices = cluster.list(&namespace, "networkslices")?;
    ensure!(slices.len() == 2, "there are slices: {slices:?}");
    uses(
        world,
        &namespace,
        &json!({"networks": 2, "pods": 8, "bandwidth": "160G", "vlans": 2}),
    )?;
    let line = cluster.ok(&["get", "nquota", "rails", "--namespace", &namespace, "--no-headers"])?;
    contains(&line, &["quota", "2/2", "8/16", "160G/320G", "False"])?;

    // The third is the oldest that waits, and fits now; nobody has to do anything for it.
    cluster.ok(&["delete", "tnet", "first", "--namespace", &namespace])?;
    reserved(world, &namespace, "third")?;
    refused(world, &namespace, "fourth")?;
    uses(
        world,
        &namespace,
        &json!({"networks": 2, "pods": 14, "bandwidth": "280G", "vlans": 2}),
    )?;
    limit(
        world,
        &namespace,
        &json!({"networks": 3, "pods": 18, "bandwidth": "360G"}),
    )?;
    reserved(world, &namespace, "fourth")?;
    // What is no fabric of the quota is not counted, and another namespace has its own.
    cluster.create(
        &admin,
        &[
            samples::fabric("quota-free"),
            samples::network(&namespace, "free", "quota-free", 64),
        ],
    )?;
    reserved(world, &namespace, "free")?;
    let other = cluster.namespace("quota-other")?;
    cluster.create(&admin, &[samples::network(&other, "llama", fabric, 64)])?;
    reserved(world, &other, "llama").map(|_| ())
}

pub(crate) fn a_quota_below_use_alters_no_slice_and_lets_nothing_grow(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "quota-below";
    let namespace = cluster.namespace(fabric)?;
    let network = |name: &str| samples::network(&namespace, name, fabric, 5);
    cluster.create(&admin, &[samples::fabric(fabric), network("llama"), network("qwen")])?;
    let slice = reserved(world, &namespace, "llama")?;
    reserved(world, &namespace, "qwen")?;
    let before = cluster.get(&namespace, "networkslice", &slice)?["spec"].clone();
    cluster.create(
        &admin,
        &[quota(&namespace, fabric, &json!({"networks": 1, "pods": 10}))],
    )?;
    let object = (&*namespace, "networkquota", "rails");
    let message = cluster.condition(object, "Exceeded", "True", "UsedAboveHard")?;
    contains(
        &message,
        &["Fabric quota-below: networks 2 used, 1 allowed", "raise spec.hard"],
    )?;
    cluster.event(&namespace, "rails", "Exceeded")?;
    let grow = |pods: u32| {
        let patch = json!({"spec": {"pods": pods}});
        cluster.patch(&admin, (&*namespace, "tnet", "llama"), &patch, &[])?.ok()
    };
    grow(6)?;
    let llama = (&*namespace, "tnet", "llama");
    let message = cluster.condition(llama, "Reserved", "True", "CannotGrow")?;
    let words = [
        "stays at 5 pods and cannot have 6",
        "spec.hard.pods: 6 asked, 5 used by other networks, 10 allowed",
    ];
    contains(&message, &words)?;
    let now = cluster.get(&namespace, "networkslice", &slice)?["spec"].clone();
    ensure!(now == before, "a quota altered a slice: {before} {now}");
    cluster.create(&admin, &[network("mixtral")])?;
    refused(world, &namespace, "mixtral")?;
    cluster.condition((&*namespace, "tnet", "qwen"), "Ready", "True", "Usable")?;

    limit(world, &namespace, &json!({"networks": 2, "pods": 11}))?;
    reserved(world, &namespace, "llama")?;
    uses(
        world,
        &namespace,
        &json!({"networks": 2, "pods": 11, "bandwidth": "220G", "vlans": 2}),
    )?;
    cluster.condition(object, "Exceeded", "False", "WithinLimits")?;
    cluster.ok(&["delete", "networkquota", "rails", "--namespace", &namespace])?;
    reserved(world, &namespace, "mixtral").map(|_| ())
}

pub(crate) fn a_quota_is_read_by_its_tenants_and_written_by_the_platform_team(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let namespace = cluster.namespace("quota-rights")?;
    let fabric = "quota-rights";
    let quota = quota(&namespace, fabric, &json!({"networks": 1}));
    cluster.create(&admin, std::slice::from_ref(&quota))?;
    let everything = ["create", "role", "everything", "--verb=*", "--resource=*.railhead.dev"];
    cluster.ok(&[&everything[..], &["--namespace", &namespace]].concat())?;
    let with_all = tenant(world, &namespace, "--role=everything")?;
    let words = [
        "is written by the platform team",
        "may not write those of all namespaces",
    ];
    let try_to = |arguments: &[&str]| cluster.kubectl(&with_all, &[arguments, &["--namespace", &namespace]].concat());
    let mut another = quota.clone();
    another["metadata"]["name"] = json!("another");
    cluster.refused(&with_all, &another, &words)?;
    let raise = ["patch", "networkquota", "rails", "--type", "merge", "--patch"];
    let hard = r#"{"spec": {"hard": {"networks": 100}}}"#;
    expect_refusal(&try_to(&[&raise[..], &[hard]].concat())?, &words)?;
    let nothing = r#"{"status": {"used": []}}"#;
    expect_refusal(
        &try_to(&[&raise[..], &[nothing, "--subresource", "status"]].concat())?,
        &words,
    )?;
    expect_refusal(&try_to(&["delete", "networkquota", "rails"])?, &words)?;
    try_to(&["get", "networkquota", "rails"])?.ok()?;
    // With the roles that Kubernetes has for tenants.
    let other = cluster.namespace("quota-readers")?;
    let mut its = quota;
    its["metadata"]["namespace"] = json!(other);
    cluster.create(&admin, &[its])?;
    let editor = tenant(world, &other, "--clusterrole=edit")?;
    eventually("the edit role lets read quotas", || {
        cluster
            .kubectl(&editor, &["get", "nquota", "--namespace", &other])?
            .ok()
    })?;
    let delete = ["delete", "networkquota", "rails", "--namespace", &other];
    expect_refusal(&cluster.kubectl(&editor, &delete)?, &["forbidden"])?;
    // A namespace takes its quota with it.
    cluster
        .ok(&["delete", "namespace", &other, "--timeout=60s"])
        .map(|_| ())
}

pub(crate) fn a_quota_without_a_limit_or_with_absurd_ones_is_refused(world: &World) -> Result<()> {
    let admin = world.cluster.admin();
    for (hard, words) in [
        (json!({}), "hard names no limit, and would limit nothing"),
        (
            json!({"networks": null}),
            "hard names no limit, and would limit nothing",
        ),
        (json!({"networks": -1}), "greater than or equal to 0"),
        (json!({"vlans": 4095}), "less than or equal to 4094"),
        (json!({"bandwidth": "100Gi"}), "decimal bits per second"),
        (json!({"bandwidth": "0"}), "decimal bits per second"),
    ] {
        world
            .cluster
            .refused(&admin, &quota("default", "any", &hard), &["spec.hard", words])?;
    }
    Ok(())
}

/// The ledger is the lock: each of the two counts what the other has given.
pub(crate) fn two_operators_that_both_lead_stay_within_a_quota(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let fabric = "quota-rivals";
    let namespace = cluster.namespace(fabric)?;
    let operator = &world.programs.operator;
    let rival = Operator::start(
        cluster,
        operator,
        &world.operator_account,
        fabric,
        fabric,
        LEADER_PORT + 3,
    )?;
    cluster.create(
        &admin,
        &[quota(&namespace, fabric, &json!({"networks": 5, "pods": 20}))],
    )?;
    let networks: Vec<Value> = (0..16)
        .map(|number| samples::network(&namespace, &format!("network-{number}"), fabric, 3))
        .collect();
    cluster.create(&admin, &networks)?;
    // All begin at one moment.
    cluster.create(&admin, &[samples::fabric(fabric)])?;
    let count = |wanted: &[(&str, usize)]| {
        eventually(&format!("{wanted:?}"), || {
            let networks = cluster.list(&namespace, "trainingnetworks")?;
            for (reason, count) in wanted {
                let has = |network: &&Value| {
                    let conditions = network["status"]["conditions"].as_array();
                    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Reserved" && c["reason"] == *reason))
                };
                let found = networks.iter().filter(has).count();
                ensure!(found == *count, "{found} say {reason}");
            }
            Ok(())
        })
    };
    let entries = |most: usize| {
        let ledger = cluster.get("default", "fabricledger", fabric)?;
        let entries = ledger["spec"]["entries"].as_array().cloned().unwrap_or_default();
        let held = entries.iter().filter(|entry| entry["state"] == "Held").count();
        ensure!(held == most, "{held} networks are reserved of {most}: {entries:?}");
        let slices = cluster.list(&namespace, "networkslices")?.len();
        ensure!(slices == most, "{slices} slices");
        Ok(())
    };
    count(&[("Reserved", 5), ("QuotaExceeded", 11)])?;
    entries(5)?;
    limit(world, &namespace, &json!({"networks": 16, "pods": 20}))?;
    count(&[("Reserved", 6), ("QuotaExceeded", 10)])?;
    entries(6)?;
    drop(rival);
    Ok(())
}
