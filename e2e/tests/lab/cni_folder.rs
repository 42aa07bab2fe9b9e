//! Distributions whose CNI folder is a symlink that an upgrade points elsewhere.

use anyhow::{Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, eventually},
    lab::Node,
};

use crate::{
    jobs,
    pods::{ping, pods},
    world::{TEAM_B, World},
};

const NETWORK: &str = "moved-folder";

/// The agent puts the binary where the runtime looks now; pods of both kinds start, and one that ran before ends.
pub(crate) fn a_cni_folder_that_is_a_symlink_may_move(world: &World) -> Result<()> {
    let node = &world.lab.nodes()[0];
    world.apply(TEAM_B, &jobs::network(NETWORK, 2))?;
    world.apply(TEAM_B, &jobs::pod("before", Some(NETWORK), "node1"))?;
    world.wait_running(TEAM_B, "before")?;
    run(node, "cd /opt/cni && mv bin bin-1 && ln -s bin-1 bin")?;
    // The upgrade of the distribution, which knows nothing of other people's binaries.
    let upgrade = "cd /opt/cni && cp -a bin-1 bin-2 && rm -f bin-2/railhead && ln -sfn bin-2 bin";
    let result = run(node, upgrade).and_then(|()| after_the_move(world, node));
    run(
        node,
        "cd /opt/cni && if [ -d bin-2 ]; then rm -rf bin && mv bin-2 bin && rm -rf bin-1; fi",
    )?;
    result?;
    eventually("the binary is in the folder that came back", || binary_is_there(node))?;
    world.lab.wait_condition(&["nodenet", "node1"], "ChainReady", "True")?;
    world.clear(TEAM_B)
}

fn after_the_move(world: &World, node: &Node) -> Result<()> {
    let lab = &world.lab;
    eventually("the binary is where the runtime looks", || binary_is_there(node))?;
    lab.wait_condition(&["nodenet", "node1"], "ChainReady", "True")?;
    world.apply(TEAM_B, &jobs::pod("plain", None, "node1"))?;
    world.apply(TEAM_B, &jobs::pod("after", Some(NETWORK), "node1"))?;
    world.wait_running(TEAM_B, "plain")?;
    let wired = pods(lab, TEAM_B, NETWORK, 2)?;
    ping(lab, &wired[0], &wired[1])?;
    world.delete_pod(TEAM_B, "before")?;
    world.delete_pod(TEAM_B, "plain")
}

fn binary_is_there(node: &Node) -> Result<()> {
    let found = node.exec("test -x /opt/cni/bin/railhead", NODE_LIMIT)?;
    ensure!(found.success(), "it is not there");
    Ok(())
}

fn run(node: &Node, command: &str) -> Result<()> {
    node.exec(command, NODE_LIMIT)?.ok().map(drop)
}
