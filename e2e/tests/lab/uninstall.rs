//! An uninstall gives everything back, or says what stands in its way.

use anyhow::{Result, ensure};
use railhead_e2e::{
    cluster::eventually,
    installation::{self, FABRIC_NAME},
};

use crate::{
    pods::ping,
    world::{TEAM_A, TEAM_B, World},
};

/// It says which pods, and changes nothing for them.
pub(crate) fn helm_uninstall_is_refused_while_pods_are_attached(world: &World) -> Result<()> {
    let lab = &world.lab;
    let pods = world.steady()?;
    let refused = installation::uninstall(lab)?;
    ensure!(!refused.success(), "it was not refused: {refused}");
    for pod in &pods {
        let told = refused.stdout.contains(&pod.name) || refused.stderr.contains(&pod.name);
        ensure!(told, "{} is not named: {refused}", pod.name);
    }
    ping(lab, &pods[0], &pods[1])?;
    let fabric = lab.get(&["fabric", FABRIC_NAME])?;
    ensure!(fabric["spec"]["teardown"] != true, "the fabric is being torn down");
    Ok(())
}

/// Chain entry, binary, functions, ports and files; the resources of the users stay.
pub(crate) fn helm_uninstall_leaves_the_nodes_as_they_were(world: &World) -> Result<()> {
    let lab = &world.lab;
    world.clear(TEAM_A)?;
    world.clear(TEAM_B)?;
    installation::uninstall(lab)?.ok()?;
    world.wait_nodes_as_before()?;
    let slices = lab.list(&["resourceslices"])?;
    ensure!(slices.is_empty(), "{} ResourceSlices are left", slices.len());
    lab.get(&["fabric", FABRIC_NAME])?;
    // Helm waits for the workloads that it deletes, not for their pods.
    eventually("the release's pods are gone", || {
        let pods = lab.list(&["pods", "-n", installation::NAMESPACE])?;
        ensure!(pods.is_empty(), "{} are left", pods.len());
        Ok(())
    })
}
