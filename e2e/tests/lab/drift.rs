//! What happens to a pod's rails while it runs is said.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, eventually, text},
    lab::Lab,
};

use crate::{
    claim_status::{device, ready},
    pods::{Pod, ping, pods, replaced},
    world::{STEADY, TEAM_A, World},
};

/// Within what an attachment says that it is not as planned any more.
const SAID: Duration = Duration::from_mins(1);
/// What the API server, kubectl and an emulated node may add to that.
const ALLOWANCE: Duration = Duration::from_secs(15);

/// And it is taken back when the cable is plugged again.
pub(crate) fn a_pulled_cable_under_a_running_pod_is_said_within_a_minute(world: &World) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let pod = &before[0];
    let node = pod.machine(lab)?;
    let pulled = Instant::now();
    node.cable(0, false)?;
    let said = said(lab, pod, pulled, &pod.rails[0].name);
    // The claim is written right after the attachment.
    let claimed = said
        .as_ref()
        .is_ok()
        .then(|| wait_ready(lab, pod, 0, "False", "RailDown"));
    node.cable(0, true)?;
    let said = said?;
    ensure!(said.contains("carrier"), "it says {said}");
    let claimed = claimed.transpose()?.unwrap_or_default();
    ensure!(claimed.contains("carrier"), "the claim says {claimed}");
    eventually("the attachment is as planned again", || {
        let degraded = degraded(lab, pod)?;
        ensure!(!degraded.contains("carrier"), "it says {degraded}");
        Ok(())
    })?;
    wait_ready(lab, pod, 0, "True", "Wired")?;
    // The other rail has had its signal all the time.
    let other = device(lab, &pod.namespace, &pod.name, &pod.rails[1].name)?;
    ensure!(ready(&other).0 == "True", "the claim says {other}");
    ping(lab, &before[0], &before[1])
}

/// The pod is lost to its network, and a new one gets all of it.
pub(crate) fn functions_that_are_removed_under_a_running_pod_are_said_within_a_minute(world: &World) -> Result<()> {
    let lab = &world.lab;
    let before = world.steady()?;
    let pod = &before[0];
    let removed = Instant::now();
    let remove = "echo 0 > /sys/class/net/eth1/device/sriov_numvfs";
    pod.machine(lab)?.exec(remove, NODE_LIMIT)?.ok()?;
    said(lab, pod, removed, &pod.rails[0].name)?;
    let after = replaced(lab, STEADY, pod, 2)?;
    ensure!(
        after[0].identity() == pod.identity(),
        "{:?} is not {:?}",
        after[0].rails,
        pod.rails
    );
    let after = pods(lab, TEAM_A, STEADY, 2)?;
    ping(lab, &after[0], &after[1])
}

/// Waits until the pod's claim says so of the rail, and answers with `reason: message`.
fn wait_ready(lab: &Lab, pod: &Pod, rail: usize, status: &str, reason: &str) -> Result<String> {
    let name = &pod.rails[rail].name;
    eventually(&format!("the claim of {} says {reason} of {name}", pod.name), || {
        let device = device(lab, &pod.namespace, &pod.name, name)?;
        let (found, why) = ready(&device);
        ensure!(found == status && why.starts_with(reason), "it says {device}");
        Ok(why)
    })
}

/// Waits until the pod's attachment is degraded and names the rail.
fn said(lab: &Lab, pod: &Pod, since: Instant, rail: &str) -> Result<String> {
    let said = eventually(&format!("the attachment of {} names {rail}", pod.name), || {
        let degraded = degraded(lab, pod)?;
        ensure!(degraded.contains(rail), "it says {degraded}");
        Ok(degraded)
    })?;
    let took = since.elapsed();
    ensure!(took < SAID + ALLOWANCE, "it took {} s", took.as_secs());
    Ok(said)
}

/// What the pod's attachment says is wrong with it; empty where all is as planned. That igb guarantees no rate is so from the beginning.
fn degraded(lab: &Lab, pod: &Pod) -> Result<String> {
    let attachments = lab.list(&["networkattachments", "-n", &pod.namespace])?;
    let its = attachments
        .iter()
        .find(|attachment| attachment["spec"]["podUID"] == pod.uid.as_str())
        .with_context(|| format!("{} has no attachment", pod.name))?;
    let conditions = its["status"]["conditions"].as_array().context("it has no conditions")?;
    let wrong = conditions.iter().filter(|condition| {
        let healthy = if condition["type"] == "Degraded" {
            "False"
        } else {
            "True"
        };
        condition["status"] != healthy && condition["reason"] != "QosNotEnforced"
    });
    let wrong: Vec<String> = wrong
        .map(|condition| format!("{}: {}", text(&condition["reason"]), text(&condition["message"])))
        .collect();
    Ok(wrong.join("; "))
}
