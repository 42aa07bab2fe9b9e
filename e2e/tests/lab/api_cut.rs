//! An API server that falls silent: connections stay open, requests are taken, answers never come.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    jobs,
    pods::pods,
    world::{TEAM_B, World},
};

const NETWORK: &str = "silence";
const SILENCE: Duration = Duration::from_mins(3);
/// As many as the lab's functions carry: four per port and two nodes, without those of others.
const WIRED: u32 = 8;
/// And others, so that twenty start.
const PLAIN: u32 = 12;

/// None needs a hand, no index is given out twice, and no agent was ended for it.
pub(crate) fn pods_that_start_while_the_api_server_is_silent_run_when_it_speaks_again(world: &World) -> Result<()> {
    let lab = &world.lab;
    world.clear_all()?;
    let agents = agent_restarts(world)?;
    world.apply(TEAM_B, &jobs::network(NETWORK, WIRED))?;
    lab.wait_condition(&["tnet", "-n", TEAM_B, NETWORK], "Reserved", "True")?;
    world.apply(TEAM_B, &jobs::job(NETWORK, WIRED))?;
    world.apply(TEAM_B, &jobs::plain_job("plain", PLAIN))?;
    // All are bound and some are being prepared.
    thread::sleep(Duration::from_secs(6));
    {
        let _silent = lab.silence_api_server()?;
        thread::sleep(SILENCE);
    }
    let wired = pods(lab, TEAM_B, NETWORK, WIRED as usize)?;
    let addresses: BTreeSet<&str> = wired.iter().map(|pod| pod.address(0)).collect();
    ensure!(addresses.len() == wired.len(), "addresses: {addresses:?}");
    lab.running_pods(TEAM_B, "batch.kubernetes.io/job-name=plain", PLAIN as usize)?;
    let after = agent_restarts(world)?;
    ensure!(after == agents, "agents were started again: {agents:?}, then {after:?}");
    world.clear_all()
}

/// How often the containers of the agents were started again.
fn agent_restarts(world: &World) -> Result<Vec<u64>> {
    let selector = "app.kubernetes.io/component=agent";
    let pods = world
        .lab
        .list(&["pods", "-n", railhead_e2e::installation::NAMESPACE, "-l", selector])?;
    ensure!(!pods.is_empty(), "no pod has the label {selector}");
    Ok(pods
        .iter()
        .map(|pod| {
            pod["status"]["containerStatuses"][0]["restartCount"]
                .as_u64()
                .unwrap_or_default()
        })
        .collect())
}
