//! Clusters whose network says an old version of the CNI protocol, as many do.

use anyhow::Result;
use railhead_e2e::{cluster::NODE_LIMIT, lab::Node};

use crate::{
    jobs,
    pods::{ping, pods},
    world::{TEAM_B, World},
};

const CONFLIST: &str = "/etc/cni/net.d/10-pod.conflist";
const NETWORK: &str = "old-list";

/// Both kinds of pods, started and ended under it, started before it and ended after it.
pub(crate) fn pods_start_and_end_under_a_conflist_of_version_0_3_0(world: &World) -> Result<()> {
    let lab = &world.lab;
    let node = &lab.nodes()[0];
    world.apply(TEAM_B, &jobs::network(NETWORK, 2))?;
    world.apply(TEAM_B, &jobs::pod("before", None, "node1"))?;
    world.wait_running(TEAM_B, "before")?;
    under_version(node, "0.3.0", || {
        for (name, network) in [("plain", None), ("rails-a", Some(NETWORK)), ("rails-b", Some(NETWORK))] {
            world.apply(TEAM_B, &jobs::pod(name, network, "node1"))?;
        }
        world.wait_running(TEAM_B, "plain")?;
        let wired = pods(lab, TEAM_B, NETWORK, 2)?;
        ping(lab, &wired[0], &wired[1])?;
        lab.wait_condition(&["nodenet", "node1"], "ChainReady", "True")?;
        for name in ["before", "plain", "rails-a"] {
            world.delete_pod(TEAM_B, name)?;
        }
        Ok(())
    })?;
    world.clear(TEAM_B)
}

/// Does something while the node's list says this version.
fn under_version(node: &Node, version: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = node.exec(&format!("jq -r .cniVersion {CONFLIST}"), NODE_LIMIT)?.ok()?;
    let set = |version: &str| {
        // As an installer writes it: whole, under its final name. The runtime looks by itself.
        let write = format!(
            "jq '.cniVersion=\"{version}\"' {CONFLIST} > /etc/cni/net.d/.new && mv /etc/cni/net.d/.new {CONFLIST} && sleep 2"
        );
        node.exec(&write, NODE_LIMIT)?.ok().map(drop)
    };
    set(version)?;
    let result = work();
    set(before.stdout.trim())?;
    result
}
