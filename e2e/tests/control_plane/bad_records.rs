//! Ledgers that somebody edited into what makes no sense: the networks of their fabrics say so or go on, the operator lives, and what
//! slices hold is given to nobody else.

use anyhow::{Context, Result, ensure};
use railhead_e2e::cluster::eventually;
use serde_json::{Value, json};

use crate::World;
use crate::bad_input::the_operator_lives;
use crate::cluster::Identity;
use crate::networks::reserved;
use crate::samples;

/// What is done to a ledger with the entries of two networks: a name, and the fields of the spec that are other then.
fn edits(spec: &Value) -> Vec<(&'static str, Value)> {
    let first = spec["entries"][0].clone();
    let entry = |field: &str, value: Value| {
        let mut changed = first.clone();
        changed[field] = value;
        json!({"entries": [changed, spec["entries"][1]]})
    };
    let owner = |field: &str, value: Value| {
        let mut changed = first["owner"].clone();
        changed[field] = value;
        entry("owner", changed)
    };
    let intervals = |intervals: Value| {
        let mut changed = first.clone();
        for field in ["base", "size"] {
            changed.as_object_mut().map(|changed| changed.remove(field));
        }
        changed["intervals"] = intervals;
        json!({"entries": [changed, spec["entries"][1]]})
    };
    let far = json!("9999-12-31T23:59:59Z");
    let resting = |until: Value| {
        let mut changed = first.clone();
        changed["state"] = json!("Resting");
        changed["restsUntil"] = until;
        json!({"entries": [changed, spec["entries"][1]]})
    };
    let pool = |base: Value, cidr: &str| json!({"pools": [{"base": base, "rails": [{"id": 0, "cidr": cidr}, {"id": 1, "cidr": cidr}]}]});
    vec![
        ("truncated", json!({"entries": [first]})),
        ("twice", json!({"entries": [first, first, first]})),
        ("base-at-the-end", entry("base", json!(u32::MAX))),
        ("base-unaligned", entry("base", json!(3))),
        ("base-negative", entry("base", json!(-1))),
        ("size-zero", entry("size", json!(0))),
        ("size-three", entry("size", json!(3))),
        ("size-all", entry("size", json!(u32::MAX))),
        ("vlan-4095", entry("vlan", json!(4095))),
        ("vlan-none", entry("vlan", Value::Null)),
        ("entry-from-the-future", entry("sequence", json!(i64::MAX))),
        ("no-namespace", owner("namespace", json!(""))),
        ("no-uid", owner("uid", json!(""))),
        ("a-path-as-owner", owner("name", json!("../../etc"))),
        ("state-empty", entry("state", json!(""))),
        ("rests-for-ever", resting(far)),
        ("rests-without-end", resting(Value::Null)),
        ("rests-until-nonsense", resting(json!("tomorrow"))),
        (
            "intervals-that-overlap",
            intervals(json!([{"base": 0, "size": 8}, {"base": 4, "size": 8}])),
        ),
        ("intervals-none", intervals(json!([]))),
        (
            "intervals-too-large",
            intervals(json!([{"base": u32::MAX, "size": u32::MAX}])),
        ),
        ("sequence-largest", json!({"sequence": i64::MAX})),
        ("sequence-beyond", json!({"sequence": u64::MAX})),
        ("sequence-zero", json!({"sequence": 0})),
        ("version-zero", json!({"version": 0})),
        ("version-largest", json!({"version": u32::MAX})),
        ("pool-everything", pool(json!(0), "0.0.0.0/0")),
        ("pool-nonsense", pool(json!(0), "日本")),
        ("pool-at-the-end", pool(json!(u32::MAX), "10.0.0.0/8")),
        ("pool-ipv6", pool(json!(0), "::/0")),
        ("recount-nonsense", json!({"recount": {"id": "", "why": "日本"}})),
    ]
}

fn patch(world: &World, who: &Identity, fabric: &str, spec: &Value) -> Result<bool> {
    let patch = json!({ "spec": spec }).to_string();
    let arguments = ["patch", "fabricledger", fabric, "--type", "merge", "--patch", &patch];
    let output = world.cluster.kubectl(who, &arguments)?;
    ensure!(
        !output.stderr.contains("InternalError") && !output.stderr.contains("panic"),
        "the API server failed: {}",
        output.stderr
    );
    Ok(output.success())
}

/// What slots and which VLAN a slice has.
fn held(slice: &Value) -> (u64, u64, u64) {
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    let spec = &slice["spec"];
    (
        number(&spec["base"]),
        number(&spec["capacity"]),
        number(&spec["rails"][0]["vlan"]),
    )
}

pub(crate) fn an_absurd_ledger_is_refused_or_answered_and_gives_nothing_twice(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    let namespace = cluster.namespace("spoilt")?;
    let names: Vec<&str> = edits(&json!({"entries": [{"owner": {}}, {}]}))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let fabric = |name: &str| format!("spoilt-{name}");
    let network = |name: &str, kind: &str| format!("{kind}-{name}");
    let fabrics: Vec<Value> = names.iter().map(|name| samples::fabric(&fabric(name))).collect();
    cluster.create(&admin, &fabrics)?;
    let of_kind = |kind: &str| -> Vec<Value> {
        let sample = |name: &&str| samples::network(&namespace, &network(name, kind), &fabric(name), 4);
        names.iter().map(sample).collect()
    };
    cluster.create(&admin, &of_kind("llama"))?;
    cluster.create(&admin, &of_kind("qwen"))?;
    let mut accepted = Vec::new();
    let mut backups = Vec::new();
    for (place, name) in names.iter().enumerate() {
        for kind in ["llama", "qwen"] {
            reserved(world, &namespace, &network(name, kind))?;
        }
        let spec = cluster.get("default", "fabricledger", &fabric(name))?["spec"].take();
        let (_, edit) = edits(&spec).into_iter().nth(place).context("an edit of each name")?;
        if patch(world, &world.operator_account, &fabric(name), &edit)? {
            accepted.push(*name);
        }
        backups.push((fabric(name), spec));
    }
    ensure!(
        accepted.len() > 10 && accepted.len() < names.len(),
        "{} of {} were accepted",
        accepted.len(),
        names.len()
    );
    cluster.create(&admin, &of_kind("mixtral"))?;
    eventually("every network says what became of it", || {
        for object in cluster.list(&namespace, "tnet")? {
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let reserved = conditions.iter().find(|said| said["type"] == "Reserved");
            ensure!(
                reserved.is_some_and(|said| said["status"] != "Unknown" && said["reason"] != "Pending"),
                "{} says {conditions:?}",
                object["metadata"]["name"]
            );
        }
        Ok(())
    })?;
    the_operator_lives(world, "sane-3")?;
    let slices = cluster.list(&namespace, "networkslice")?;
    for (place, one) in slices.iter().enumerate() {
        for other in &slices[place + 1..] {
            let same_fabric = one["spec"]["fabric"]["name"] == other["spec"]["fabric"]["name"];
            let (mine, theirs) = (held(one), held(other));
            let meet = mine.0 < theirs.0 + theirs.1 && theirs.0 < mine.0 + mine.1;
            ensure!(
                !same_fabric || (!meet && mine.2 != theirs.2),
                "two slices have slots or VLAN: {} and {}",
                one["spec"],
                other["spec"]
            );
        }
    }
    // Repaired, all of them go.
    for (fabric, spec) in &backups {
        let mut repaired = spec.clone();
        repaired["recount"] = Value::Null;
        ensure!(
            patch(world, &world.operator_account, fabric, &repaired)?,
            "{fabric} cannot be repaired"
        );
    }
    cluster.ok(&["delete", "tnet", "--all", "--namespace", &namespace, "--timeout=100s"])?;
    let arguments = [&["delete", "fabric", "--wait=false"], &fabrics_of(&backups)[..]].concat();
    cluster.ok(&arguments)?;
    Ok(())
}

fn fabrics_of(backups: &[(String, Value)]) -> Vec<&str> {
    backups.iter().map(|(fabric, _)| fabric.as_str()).collect()
}
