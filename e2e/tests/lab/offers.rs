//! What the nodes offer to the scheduler.

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, eventually, text},
    lab::Node,
};

use crate::world::World;

/// A function that a host service took by giving it an address is not offered, and is again when the address goes.
pub(crate) fn a_function_with_an_address_is_left_out(world: &World) -> Result<()> {
    let node = &world.lab.nodes()[0];
    let find = "for n in /sys/class/net/*/device/physfn; do n=${n%/device/physfn}; echo ${n##*/}; done";
    let functions = node.exec(find, NODE_LIMIT)?.ok()?.stdout;
    let function = functions.lines().next().context("no function is on the host")?;
    let before = offered(world, node)?;
    node.exec(&format!("ip address add 192.0.2.7/24 dev {function}"), NODE_LIMIT)?
        .ok()?;
    let fewer = eventually("one function fewer is offered", || expect(world, node, before - 1));
    node.exec(&format!("ip address del 192.0.2.7/24 dev {function}"), NODE_LIMIT)?
        .ok()?;
    fewer?;
    eventually("it is offered again", || expect(world, node, before))
}

fn expect(world: &World, node: &Node, wanted: u64) -> Result<()> {
    let offered = offered(world, node)?;
    ensure!(offered == wanted, "{offered} functions are offered, not {wanted}");
    Ok(())
}

/// Functions of all ports in the node's ResourceSlice.
fn offered(world: &World, node: &Node) -> Result<u64> {
    let slice = world
        .lab
        .get(&["resourceslice", &format!("railhead-{}", node.name())])?;
    let devices = slice["spec"]["devices"].as_array().context("no devices")?;
    devices
        .iter()
        .map(|device| Ok(text(&device["capacity"]["vfs"]["value"]).parse::<u64>()?))
        .sum()
}
