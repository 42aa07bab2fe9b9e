//! What a network gave back rests before another gets it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use railhead_e2e::control_plane::operator::REST_SECONDS;
use serde_json::json;

use crate::World;
use crate::networks::{ledger_is_empty, reserved};
use crate::samples;

pub(crate) fn a_vlan_that_was_given_back_rests_before_another_network_gets_it(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "resting";
    let namespace = cluster.namespace(fabric)?;
    let mut one_vlan = samples::fabric(fabric);
    one_vlan["spec"]["vlan"]["range"] = json!({"min": 30, "max": 30});
    let admin = cluster.admin();
    cluster.create(&admin, &[one_vlan, samples::network(&namespace, "llama", fabric, 2)])?;
    reserved(world, &namespace, "llama")?;
    cluster.create(&admin, &[samples::network(&namespace, "qwen", fabric, 2)])?;
    let waits = (&*namespace, "tnet", "qwen");
    cluster.condition(waits, "Reserved", "False", "VlanExhausted")?;
    let start = Instant::now();
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    reserved(world, &namespace, "qwen")?;
    ensure!(
        start.elapsed() >= Duration::from_secs(REST_SECONDS),
        "qwen had llama's VLAN after {:?}",
        start.elapsed()
    );
    cluster.ok(&["delete", "tnet", "qwen", "--namespace", &namespace])?;
    ledger_is_empty(world, fabric)
}

pub(crate) fn what_rests_does_so_for_a_fabric_that_is_applied_anew(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let fabric = "applied-anew";
    let namespace = cluster.namespace(fabric)?;
    let mut one_vlan = samples::fabric(fabric);
    one_vlan["spec"]["vlan"]["range"] = json!({"min": 31, "max": 31});
    let admin = cluster.admin();
    cluster.create(
        &admin,
        &[one_vlan.clone(), samples::network(&namespace, "llama", fabric, 2)],
    )?;
    reserved(world, &namespace, "llama")?;
    let start = Instant::now();
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.ok(&["delete", "fabric", fabric])?;
    cluster.create(&admin, &[one_vlan, samples::network(&namespace, "qwen", fabric, 2)])?;
    reserved(world, &namespace, "qwen")?;
    ensure!(
        start.elapsed() >= Duration::from_secs(REST_SECONDS),
        "qwen had llama's VLAN after {:?}",
        start.elapsed()
    );
    // When nothing rests any more, nothing stays of a Fabric that is gone.
    cluster.ok(&["delete", "tnet", "qwen", "--namespace", &namespace])?;
    cluster.ok(&["delete", "fabric", fabric])?;
    cluster.get("default", "fabricledger", fabric)?;
    cluster.gone("default", "fabricledger", fabric)
}
