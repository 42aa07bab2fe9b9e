//! Sandboxes that are lost and made again, as the runtime does when a pause process dies.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, eventually, text},
    lab::{Lab, Node},
};
use serde_json::Value;

use crate::{
    pods::{Pod, ping, pods, replaced},
    world::{STEADY, TEAM_A, World},
};

/// How long a container that must not run is watched.
const WATCH: Duration = Duration::from_secs(15);

/// The claim is not prepared again: the same attachment is used.
pub(crate) fn a_sandbox_made_again_is_wired_as_before(world: &World) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let pod = &before[0];
    let attachment = attachment(lab, pod)?;
    kill_sandbox(lab, pod)?;
    wait_restarted(lab, pod)?;
    let after = pods(lab, TEAM_A, STEADY, 2)?;
    ensure!(after[0].uid == pod.uid, "the pod was replaced, its sandbox was to be");
    ensure!(after[0].ip != pod.ip, "the sandbox is the old one");
    ensure!(
        after[0].identity() == pod.identity(),
        "{:?} is not {:?}",
        after[0].rails,
        pod.rails
    );
    ensure!(attachment == self::attachment(lab, pod)?, "the index was taken anew");
    ping(lab, &after[1], &after[0])
}

/// A damaged file is named with what to do, and costs nothing but this pod.
pub(crate) fn a_plan_cut_in_half_stops_the_sandbox_and_the_pod_can_be_deleted(world: &World) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let pod = &before[1];
    let node = pod.machine(lab)?;
    let plan = format!("/run/railhead/plans/{}.json", pod.uid);
    node.exec(&format!("truncate -s $(($(stat -c %s {plan}) / 2)) {plan}"), NODE_LIMIT)?
        .ok()?;
    kill_sandbox(lab, pod)?;
    lab.wait_event(TEAM_A, "Pod", &pod.name, &[&plan, "damaged", "delete the pod"])?;
    let after = replaced(lab, STEADY, pod, 2)?;
    ensure!(
        after[1].identity() == pod.identity(),
        "{:?} is not {:?}",
        after[1].rails,
        pod.rails
    );
    let gone = node.exec(&format!("test ! -e {plan}"), NODE_LIMIT)?;
    ensure!(gone.success(), "{plan} is still on {}", node.name());
    ping(lab, &after[0], &after[1])
}

/// The runtime loses the chain entry: it takes the old sandbox away without DEL and makes a new one without rails. The agent
/// gives back what the old one held, no container runs in the new one, and no new pod comes.
pub(crate) fn a_sandbox_that_nobody_wired_runs_no_container(world: &World) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let pod = &before[1];
    let node = pod.machine(lab)?;
    let started = container(lab, pod)?["state"]["running"]["startedAt"].clone();
    without_entry(&node, || {
        kill_sandbox(lab, pod)?;
        eventually("the container is not started", || {
            let container = container(lab, pod)?;
            ensure!(
                container["state"].to_string().contains("/run/railhead"),
                "its container: {}",
                container["state"]
            );
            Ok(())
        })?;
        let start = std::time::Instant::now();
        while start.elapsed() < WATCH {
            let state = &container(lab, pod)?["state"];
            let again = &state["running"]["startedAt"];
            ensure!(
                again.is_null() || *again == started,
                "a container runs without rails: {state}"
            );
            std::thread::sleep(Duration::from_secs(1));
        }
        let node_network = ["nodenet", pod.node.as_str()];
        lab.wait_condition(&node_network, "ChainReady", "False")?;
        eventually("the node's ports take no new pod", || {
            let slice = lab.get(&["resourceslice", &format!("railhead-{}", pod.node)])?;
            let taints = &slice["spec"]["devices"][0]["taints"];
            let mut keys = taints.as_array().into_iter().flatten().map(|taint| &taint["key"]);
            ensure!(
                keys.any(|key| key == "railhead.dev/chain-not-ready"),
                "taints: {taints}"
            );
            Ok(())
        })
    })?;
    lab.wait_condition(&["nodenet", &pod.node], "ChainReady", "True")?;
    let after = replaced(lab, STEADY, pod, 2)?;
    ensure!(
        after[1].identity() == pod.identity(),
        "{:?} is not {:?}",
        after[1].rails,
        pod.rails
    );
    ping(lab, &after[0], &after[1])
}

/// Does something while the node's runtime sees no chain entry: an empty folder is mounted over the entry's, which the
/// agent's own mount does not show.
fn without_entry(node: &Node, work: impl FnOnce() -> Result<()>) -> Result<()> {
    // The runtime watches the folder above only.
    let notice = "echo > /etc/cni/net.d/.notice; rm /etc/cni/net.d/.notice; sleep 2";
    let folder = "/etc/cni/net.d/pod";
    let hide = format!("mkdir -p /run/no-entry && mount --bind /run/no-entry {folder} && {{ {notice}; }}");
    node.exec(&hide, NODE_LIMIT)?.ok()?;
    let result = work();
    node.exec(
        &format!("umount {folder} && rmdir /run/no-entry && {{ {notice}; }}"),
        NODE_LIMIT,
    )?
    .ok()?;
    result
}

/// Kills the process that holds a pod's sandbox.
fn kill_sandbox(lab: &Lab, pod: &Pod) -> Result<()> {
    let find = format!(
        "for p in /proc/[0-9]*; do grep -q {} $p/cgroup && grep -q '^/busybox' $p/cmdline && kill -9 ${{p#/proc/}} && echo killed; \
         done 2>/dev/null; true",
        pod.uid
    );
    let output = pod.machine(lab)?.exec(&find, NODE_LIMIT)?.ok()?;
    ensure!(
        output.stdout.trim() == "killed",
        "the pause process of {}: {output}",
        pod.name
    );
    Ok(())
}

fn wait_restarted(lab: &Lab, pod: &Pod) -> Result<()> {
    eventually(&format!("{} runs again", pod.name), || {
        let container = container(lab, pod)?;
        let restarted = container["restartCount"].as_u64().is_some_and(|count| count > 0);
        ensure!(
            restarted && !container["state"]["running"].is_null(),
            "its container: {container}"
        );
        Ok(())
    })
}

fn container(lab: &Lab, pod: &Pod) -> Result<Value> {
    let found = lab.get(&["pod", "-n", &pod.namespace, &pod.name])?;
    let container = found["status"]["containerStatuses"].get(0).cloned();
    container.with_context(|| format!("{} has no container status", pod.name))
}

/// UID of the pod's attachment.
fn attachment(lab: &Lab, pod: &Pod) -> Result<String> {
    let attachments = lab.list(&["networkattachments", "-n", &pod.namespace])?;
    let its = attachments
        .iter()
        .find(|attachment| attachment["spec"]["podUID"] == pod.uid.as_str());
    let its = its.with_context(|| format!("{} has no attachment", pod.name))?;
    Ok(text(&its["metadata"]["uid"]))
}
