//! More than one operator: rivals that both think they lead, and a follower that takes over.

use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, bail};
use railhead_e2e::cluster::eventually;
use serde_json::Value;

use crate::World;

use crate::networks::reserved;
use crate::operator::Operator;
use crate::samples;

/// HTTP port of the operator that serves all tests.
pub(crate) const LEADER_PORT: u16 = 18080;
/// The operator that serves all tests.
pub(crate) static LEADER: OnceLock<Mutex<Option<Operator>>> = OnceLock::new();

/// Ends the operator that serves all tests.
pub(crate) fn stop_leader() {
    if let Some(leader) = LEADER.get() {
        leader.lock().expect("no holder of this lock panics").take();
    }
}

/// Checks that none of those that served all tests ever panicked.
pub(crate) fn no_leader_panicked(world: &World) -> Result<()> {
    for name in ["operator-a", "operator-b"] {
        let Ok(log) = std::fs::read(world.cluster.lab.log(name)) else {
            continue;
        };
        let log = String::from_utf8_lossy(&log);
        if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            bail!("{name}: {line}");
        }
    }
    Ok(())
}

pub(crate) fn replace_leader(with: Operator) {
    let leader = LEADER.get().expect("set before the first test");
    *leader.lock().expect("no holder of this lock panics") = Some(with);
}

pub(crate) fn two_operators_that_both_lead_reserve_nothing_twice(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "rivals";
    let namespace = cluster.namespace("rivals")?;
    // With a lease of its own it leads beside the other, as after a network partition.
    let rival = Operator::start(
        cluster,
        &world.programs.operator,
        &world.operator_account,
        "rival",
        "rival",
        LEADER_PORT + 1,
    )?;
    let names: Vec<String> = (0..20).map(|number| format!("network-{number}")).collect();
    let networks: Vec<Value> = names
        .iter()
        .zip(1..)
        .map(|(name, pods)| samples::network(&namespace, name, fabric, pods))
        .collect();
    // The networks wait for their fabric, so that both operators begin to reserve at the same moment.
    cluster.create(&cluster.admin(), &networks)?;
    cluster.create(&cluster.admin(), &[samples::fabric(fabric)])?;
    for name in &names {
        reserved(world, &namespace, name)?;
    }
    drop(rival);
    let ledger = cluster.get("default", "fabricledger", fabric)?;
    let entries = ledger["spec"]["entries"].as_array().context("an empty ledger")?;
    if entries.len() != names.len() {
        bail!("{} networks, {} entries in the ledger", names.len(), entries.len());
    }
    let number = |value: &Value| value.as_u64().with_context(|| format!("{value} is no number"));
    for (index, entry) in entries.iter().enumerate() {
        let end = number(&entry["base"])? + number(&entry["size"])?;
        for other in &entries[index + 1..] {
            let other_end = number(&other["base"])? + number(&other["size"])?;
            if number(&entry["base"])? < other_end && number(&other["base"])? < end {
                bail!("two networks hold one address: {entry} and {other}");
            }
            if entry["vlan"] == other["vlan"] || entry["owner"]["uid"] == other["owner"]["uid"] {
                bail!("two entries share a VLAN or an owner: {entry} and {other}");
            }
        }
    }
    let slices = cluster.list(&namespace, "networkslices")?;
    if slices.len() != names.len() {
        bail!("{} networks, {} slices", names.len(), slices.len());
    }
    for slice in &slices {
        let spec = &slice["spec"];
        let entry = entries
            .iter()
            .find(|entry| entry["owner"]["uid"] == spec["network"]["uid"]);
        let entry = entry.with_context(|| format!("a slice without an entry: {spec}"))?;
        let agree = spec["base"] == entry["base"]
            && spec["capacity"] == entry["size"]
            && spec["rails"][0]["vlan"] == entry["vlan"];
        if !agree {
            bail!("the ledger says {entry} and the slice {spec}");
        }
    }
    Ok(())
}

pub(crate) fn the_metrics_tell_what_was_done(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let namespace = cluster.namespace("metrics")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric("metrics"),
            samples::network(&namespace, "llama", "metrics", 2),
        ],
    )?;
    reserved(world, &namespace, "llama")?;
    let leader = LEADER
        .get()
        .context("no operator runs")?
        .lock()
        .expect("no holder of this lock panics");
    let leader = leader.as_ref().context("the operator was stopped")?;
    leader.page("/healthz")?;
    // What all tests together did; each of these has happened by now, and the watch tells of it in a moment.
    eventually("the metrics count it", || {
        let page = leader.page("/metrics")?;
        for metric in [
            r#"reconciles_total{kind="TrainingNetwork",outcome="ok"}"#,
            r#"reservations_total{outcome="Reserved"}"#,
            "ledger_writes_total",
            r#"networks{state="reserved"}"#,
            "leader",
        ] {
            let value = value(&page, metric)?;
            if value < 1.0 {
                bail!("{metric} is {value}:\n{page}");
            }
        }
        Ok(())
    })
}

/// The value of one of the operator's metrics.
fn value(page: &str, metric: &str) -> Result<f64> {
    let line = page
        .lines()
        .find_map(|line| {
            line.strip_prefix("railhead_operator_")?
                .strip_prefix(metric)?
                .strip_prefix(' ')
        })
        .with_context(|| format!("there is no {metric} in\n{page}"))?;
    Ok(line.trim().parse()?)
}

pub(crate) fn a_follower_takes_over_and_keeps_what_is_reserved(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "takeover";
    let namespace = cluster.namespace("takeover")?;
    cluster.create(
        &cluster.admin(),
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "before", fabric, 8),
        ],
    )?;
    let slice = reserved(world, &namespace, "before")?;
    let ledger = cluster.get("default", "fabricledger", fabric)?["spec"].clone();
    let account = &world.operator_account;
    let follower = Operator::start(
        cluster,
        &world.programs.operator,
        account,
        "operator-b",
        "railhead-operator",
        LEADER_PORT + 2,
    )?;
    // Power is cut: nothing is released, the lease runs out.
    stop_leader();
    cluster.create(&cluster.admin(), &[samples::network(&namespace, "after", fabric, 8)])?;
    reserved(world, &namespace, "after")?;
    replace_leader(follower);
    if reserved(world, &namespace, "before")? != slice {
        bail!("the new leader made another slice for a network that had one");
    }
    eventually("the new leader kept the old entry", || {
        let now = cluster.get("default", "fabricledger", fabric)?;
        let entries = now["spec"]["entries"].as_array().cloned().unwrap_or_default();
        if entries.len() == 2 && entries.contains(&ledger["entries"][0]) {
            Ok(())
        } else {
            bail!("{entries:?}")
        }
    })
}
