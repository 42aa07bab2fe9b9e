//! The node agents: how large they are, and what holds while they are away.

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, eventually, text},
    lab::Node,
    limits::{AGENT_RESIDENT, OPERATOR_RESIDENT},
};

use crate::{
    pods::{Pod, ping, pods},
    world::{STEADY, TEAM_A, World},
};

/// Resident memory while a job is attached.
pub(crate) fn operator_and_agents_stay_small(world: &World) -> Result<()> {
    world.steady()?;
    let (mut operators, mut agents) = (Vec::new(), Vec::new());
    for node in world.lab.nodes() {
        operators.extend(resident(&node, "/railhead-operator")?);
        agents.extend(resident(&node, "/railhead-agent")?);
    }
    println!("resident bytes: operator {operators:?}, agents {agents:?}");
    ensure!(
        operators.len() == 1 && agents.len() == 2,
        "operators {operators:?}, agents {agents:?}"
    );
    ensure!(
        operators.iter().all(|bytes| *bytes < OPERATOR_RESIDENT),
        "operator: {operators:?} bytes"
    );
    ensure!(
        agents.iter().all(|bytes| *bytes < AGENT_RESIDENT),
        "agents: {agents:?} bytes"
    );
    Ok(())
}

/// Resident bytes of every process of a program.
fn resident(node: &Node, program: &str) -> Result<Vec<u64>> {
    let command = format!(
        "for p in /proc/[0-9]*; do read -r -d '' program <$p/cmdline; [ \"$program\" = {program} ] && \
         sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' $p/status; done 2>/dev/null; true"
    );
    let output = node
        .exec(&format!("bash -c '{}'", command.replace('\'', "'\\''")), NODE_LIMIT)?
        .ok()?;
    let kilobytes = output.stdout.lines().map(|line| Ok(line.trim().parse::<u64>()? * 1024));
    kilobytes.collect::<Result<_>>().with_context(|| output.to_string())
}

/// The CNI binary takes a pod apart alone; what belongs to the claim waits for the agent.
pub(crate) fn pods_stay_wired_without_the_agents_and_a_deleted_one_is_given_back_when_they_return(
    world: &World,
) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let last = &before[1];
    world.without_agents(|| {
        ping(lab, &before[0], last)?;
        let deleted = lab.kubectl(&["delete", "pod", "-n", TEAM_A, &last.name, "--wait=false"])?;
        deleted.ok()?;
        eventually("the functions are back on the host", || {
            // The other pod may be on the same node.
            let journals = format!(
                "rdma link show; grep -l {} /run/railhead/journal/*.json; true",
                last.uid
            );
            let output = last.machine(lab)?.exec(&journals, NODE_LIMIT)?.ok()?;
            let left = |line: &&str| {
                line.contains("/journal/") || last.rails.iter().any(|rail| line.contains(&rail.rdma_device))
            };
            let left: Vec<&str> = output.stdout.lines().filter(left).collect();
            ensure!(left.is_empty(), "{} still has {left:?}", last.node);
            Ok(())
        })?;
        ensure!(
            holder(world, last)?.is_some(),
            "the index was given away while its node's agent was down"
        );
        Ok(())
    })?;
    eventually("the deleted pod's index is given back", || {
        let holder = holder(world, last)?;
        ensure!(holder.as_ref() != Some(&last.uid), "{} still holds it", last.name);
        Ok(())
    })?;
    let after = pods(lab, TEAM_A, STEADY, 2)?;
    ensure!(after[0].uid == before[0].uid, "the other pod was replaced too");
    ensure!(
        after[1].identity() == last.identity(),
        "{:?} is not {:?}",
        after[1].rails,
        last.rails
    );
    ping(lab, &after[0], &after[1])
}

/// UID of the pod that holds the index of `pod`.
fn holder(world: &World, pod: &Pod) -> Result<Option<String>> {
    let attachments = world.lab.list(&["networkattachments", "-n", &pod.namespace])?;
    let of_index = attachments.iter().find(|attachment| attachment["spec"]["index"] == 1);
    Ok(of_index.map(|attachment| text(&attachment["spec"]["podUID"])))
}
