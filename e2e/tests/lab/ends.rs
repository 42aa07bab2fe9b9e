//! How a network ends.

use anyhow::{Result, ensure};
use railhead_e2e::cluster::{PATIENCE_FLAG, text};

use crate::{
    pods::ping,
    world::{STEADY, TEAM_A, World},
};

/// Condition and event name the pods, which go on; when they end the network goes.
pub(crate) fn a_network_deleted_under_its_pods_waits_for_them(world: &World) -> Result<()> {
    let lab = &world.lab;
    let pods = world.steady()?;
    let network = ["tnet", "-n", TEAM_A, STEADY];
    lab.kubectl(&["delete", "-n", TEAM_A, "tnet", STEADY, "--wait=false"])?
        .ok()?;
    let ready = lab.wait_reason(&network, "Ready", "False", "DeletingWaitingForPods")?;
    for pod in &pods {
        ensure!(
            text(&ready["message"]).contains(&pod.name),
            "{ready} does not name {}",
            pod.name
        );
    }
    let parts = ["DeletingWaitingForPods", pods[0].name.as_str()];
    lab.wait_event(TEAM_A, "TrainingNetwork", STEADY, &parts)?;
    ping(lab, &pods[0], &pods[1])?;
    let slices = lab.list(&["networkslices", "-n", TEAM_A])?;
    ensure!(slices.len() == 1, "{} slices while pods are attached", slices.len());
    lab.kubectl(&["delete", "-n", TEAM_A, "job", STEADY, PATIENCE_FLAG])?
        .ok()?;
    lab.kubectl(&["wait", "-n", TEAM_A, "tnet", STEADY, "--for=delete", PATIENCE_FLAG])?
        .ok()?;
    world.clear_all()
}
