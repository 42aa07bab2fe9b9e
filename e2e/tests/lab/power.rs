//! A node that loses its power.

use std::time::Duration;

use anyhow::{Result, ensure};
use railhead_e2e::cluster::eventually;

use crate::{
    pods::{ping, pods},
    world::{STEADY, TEAM_A, World},
};

/// Long enough that nothing of the node is on its way any more, short enough that nobody evicts its pods (five minutes).
const DARK: Duration = Duration::from_secs(10);

/// Nobody does anything but switch it on: same pods, same addresses, and they reach each other.
pub(crate) fn a_node_that_lost_its_power_brings_the_same_pod_back_with_the_same_addresses(world: &World) -> Result<()> {
    let lab = &world.lab;
    let node = lab.node(2)?;
    let before = world.steady()?;
    ensure!(
        before.iter().any(|pod| pod.node == node.name()),
        "no pod is on {}",
        node.name()
    );
    node.power_off()?;
    std::thread::sleep(DARK);
    node.power_on()?;
    eventually("the pods reach each other again", || {
        let after = pods(lab, TEAM_A, STEADY, 2)?;
        for (before, after) in before.iter().zip(&after) {
            ensure!(
                after.uid == before.uid,
                "{} was replaced by {}",
                before.name,
                after.name
            );
            ensure!(
                after.identity() == before.identity(),
                "{:?} is not {:?}",
                after.rails,
                before.rails
            );
        }
        ping(lab, &after[0], &after[1])
    })
}
