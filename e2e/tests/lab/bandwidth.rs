//! Guaranteed bandwidth is admitted, never oversold.

use anyhow::{Result, ensure};

use crate::{
    pods::pods,
    world::{TEAM_A, TEAM_B, World},
};

const GREEDY: &str = include_str!("../../lab/manifests/greedy.yaml");

/// The event tells rail, asked and free; when the first network is gone the pod runs.
pub(crate) fn a_pod_that_would_oversell_a_port_waits_until_there_is_room(world: &World) -> Result<()> {
    let lab = &world.lab;
    let mut steady = world.steady()?;
    if steady[0].node == steady[1].node {
        // An earlier test may have brought them together; a job spreads when it begins.
        world.clear(TEAM_A)?;
        steady = world.steady()?;
    }
    ensure!(steady[0].node != steady[1].node, "a node is without load");
    lab.apply(TEAM_B, GREEDY)?;
    let parts = ["BandwidthUnavailable", "rail0 asks 900M", "800M of 1G"];
    lab.wait_event(TEAM_B, "Pod", "greedy", &parts)?;
    let pod = lab.get(&["pod", "-n", TEAM_B, "greedy"])?;
    ensure!(
        pod["status"]["phase"] == "Pending",
        "the pod is {}",
        pod["status"]["phase"]
    );
    world.clear(TEAM_A)?;
    pods(lab, TEAM_B, "greedy", 1)?;
    world.clear_all()
}
