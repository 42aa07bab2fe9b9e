//! CustomResourceDefinitions that are older than the operator, as after a plain `helm upgrade`.

use anyhow::{Context, Result, ensure};
use railhead_e2e::control_plane::chart;
use serde_json::Value;

use crate::World;
use crate::cluster::contains;
use crate::networks::reserved;
use crate::operator::Operator;
use crate::operators::{LEADER_PORT, replace_leader, stop_leader};
use crate::samples;
use crate::teardown::begin_anew;

/// The definition of slices without the fields that came after release 0.1.
fn older(world: &World) -> Result<Value> {
    let mut definition = world.cluster.get("default", "crd", "networkslices.railhead.dev")?;
    let metadata = definition["metadata"].as_object_mut().context("metadata")?;
    metadata.retain(|field, _| field == "name");
    definition.as_object_mut().context("an object")?.remove("status");
    let rail = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/rails/items";
    let rail = definition.pointer_mut(rail).context("rails")?;
    rail["properties"]
        .as_object_mut()
        .context("fields of a rail")?
        .remove("prefixes");
    rail.as_object_mut()
        .context("a rail")?
        .remove("x-kubernetes-validations");
    // What printed the first of them.
    let columns = definition
        .pointer_mut("/spec/versions/0/additionalPrinterColumns")
        .context("columns")?;
    columns
        .as_array_mut()
        .context("columns")?
        .retain(|column| column["name"] != "Prefix");
    Ok(definition)
}

pub(crate) fn definitions_that_are_older_are_said_and_nothing_is_reserved_by_halves(world: &World) -> Result<()> {
    let cluster = &world.cluster;
    let admin = cluster.admin();
    // Slices of other tests would lose what their definition lacks.
    begin_anew(cluster)?;
    stop_leader();
    cluster
        .feed(&admin, &["replace", "--filename", "-"], &[older(world)?])?
        .ok()?;
    // A kind that came with this release is not there at all.
    cluster.ok(&["delete", "crd", "networkquotas.railhead.dev"])?;
    let leader = Operator::start(
        cluster,
        &world.programs.operator,
        &world.operator_account,
        "operator-b",
        "railhead-operator",
        LEADER_PORT,
    )?;
    replace_leader(leader);
    let fabric = "old-definitions";
    let namespace = cluster.namespace(fabric)?;
    cluster.create(
        &admin,
        &[
            samples::fabric(fabric),
            samples::network(&namespace, "llama", fabric, 2),
        ],
    )?;
    let words = [
        "networkslices.railhead.dev (",
        "spec.rails[].prefixes",
        "networkquotas.railhead.dev (all of it)",
        "kubectl apply --server-side --force-conflicts -f charts/railhead/crds",
    ];
    let network = (&*namespace, "tnet", "llama");
    contains(&cluster.condition(network, "Reserved", "False", "SchemaOlder")?, &words)?;
    let object = ("default", "fabric", fabric);
    contains(
        &cluster.condition(object, "SchemasCurrent", "False", "SchemaOlder")?,
        &words,
    )?;
    cluster.event("default", fabric, "SchemaOlder")?;
    let ledger = cluster.ok(&["get", "fabricledger", fabric, "--ignore-not-found", "--output", "name"])?;
    ensure!(ledger.is_empty(), "something was reserved: {ledger}");
    // As the words say.
    let crds = chart().join("crds");
    let crds = crds.to_str().context("the clone's path is not UTF-8")?;
    cluster.ok(&["apply", "--server-side", "--force-conflicts", "--filename", crds])?;
    reserved(world, &namespace, "llama")?;
    cluster.condition(object, "SchemasCurrent", "True", "Current")?;
    cluster.ok(&["delete", "tnet", "llama", "--namespace", &namespace])?;
    cluster.ok(&["delete", "fabric", fabric])?;
    Ok(())
}
