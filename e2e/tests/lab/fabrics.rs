//! Fabrics that come and go.

use anyhow::{Result, ensure};
use railhead_e2e::{
    cluster::{PATIENCE_FLAG, eventually, text},
    installation::{self, FABRIC_NAME},
};
use serde_json::json;

use crate::world::{World, node_state};

const ELSEWHERE: &str = "elsewhere";

/// A deleted fabric leaves the nodes as they were before the install, without an uninstall: nobody may remember it then. Of
/// one whose ports they have not, they say what is missing beside what there is, and no port is touched.
pub(crate) fn nodes_without_a_fabric_or_without_its_ports_are_left_as_they_were(world: &World) -> Result<()> {
    let lab = &world.lab;
    world.clear_all()?;
    lab.kubectl(&["delete", "fabric", FABRIC_NAME, PATIENCE_FLAG])?.ok()?;
    world.wait_nodes_as_before()?;
    let rail = |id: usize, netdev| {
        json!({
            "id": id,
            "name": format!("rail{id}"),
            "ports": [{"netdev": netdev}],
            "pools": [{"cidr": format!("10.{}.0.0/16", 100 + id)}],
        })
    };
    let fabric = json!({
        "apiVersion": "railhead.dev/v1alpha1",
        "kind": "Fabric",
        "metadata": {"name": ELSEWHERE},
        "spec": {
            "management": {"vfs": "Managed"},
            "vlan": {"range": {"min": 1000, "max": 1099}},
            "rails": [rail(0, "eth8"), rail(1, "eth9")],
        },
    });
    lab.apply("default", &fabric.to_string())?;
    for node in lab.nodes() {
        let node_network = ["nodenet", &node.name()];
        let ready = lab.wait_reason(&node_network, "Ready", "False", "PortMissing")?;
        let message = text(&ready["message"]);
        ensure!(message.contains("eth8") && message.contains("(eth1)"), "{ready}");
    }
    eventually("the fabric names the port that is missing", || {
        let ready = lab.condition(&["fabric", ELSEWHERE], "Ready")?;
        ensure!(text(&ready["message"]).contains("eth8"), "{ready}");
        Ok(())
    })?;
    // They say so to the scheduler too.
    eventually("every node publishes", || {
        let slices = lab.list(&["resourceslices"])?;
        ensure!(slices.len() == lab.node_count(), "{} slices", slices.len());
        Ok(())
    })?;
    for slice in lab.list(&["resourceslices"])? {
        let devices = slice["spec"]["devices"].as_array().map_or(0, Vec::len);
        ensure!(devices == 0, "{devices} ports are offered: {slice}");
    }
    for (node, before) in lab.nodes().iter().zip(&world.before) {
        let ports = |state: &str| state.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        let after = ports(&node_state(node)?);
        ensure!(after == ports(before), "{}: {after:?}", node.name());
    }
    lab.kubectl(&["delete", "fabric", ELSEWHERE, PATIENCE_FLAG])?.ok()?;
    world.wait_nodes_as_before()?;
    installation::apply_fabric(lab)
}
