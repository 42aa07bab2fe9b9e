//! Indices: what stays with one, and how many there are.

use anyhow::{Result, ensure};
use railhead_e2e::cluster::text;

use crate::{
    jobs,
    pods::{ping, replaced},
    world::{STEADY, TEAM_B, World},
};

/// Addresses and MACs belong to the index, whichever pod and node has it.
pub(crate) fn an_index_keeps_its_addresses_on_another_pod_and_another_node(world: &World) -> Result<()> {
    let lab = &world.lab;
    let first = world.steady()?;
    let home = first[1].node.as_str();
    lab.kubectl(&["cordon", home])?.ok()?;
    let second = replaced(lab, STEADY, &first[1], 2);
    lab.kubectl(&["uncordon", home])?.ok()?;
    let second = second?;
    ensure!(second[1].node != home, "the pod is on {home} again");
    ensure!(
        second[1].identity() == first[1].identity(),
        "{:?} is not {:?}",
        second[1].rails,
        first[1].rails
    );
    ping(lab, &second[0], &second[1])?;

    // With both nodes open again the job spreads as before.
    let third = replaced(lab, STEADY, &second[1], 2)?;
    ensure!(third[1].node == home, "both pods are on {}", third[1].node);
    ensure!(
        third[1].identity() == first[1].identity(),
        "{:?} is not {:?}",
        third[1].rails,
        first[1].rails
    );
    ping(lab, &third[0], &third[1])
}

/// More pods than `pods`: the surplus waits with a reason.
pub(crate) fn a_pod_beyond_the_network_does_not_start_and_the_others_run(world: &World) -> Result<()> {
    let lab = &world.lab;
    // The other way round the Job would be refused.
    world.apply(TEAM_B, &jobs::job("small", 3))?;
    world.apply(TEAM_B, &jobs::network("small", 2))?;
    let network = ["tnet", "-n", TEAM_B, "small"];
    let surplus = "railhead.dev/network=small,batch.kubernetes.io/job-completion-index=2";
    let others = "railhead.dev/network=small,batch.kubernetes.io/job-completion-index in (0,1)";
    lab.running_pods(TEAM_B, others, 2)?;
    let pod = lab.list(&["pods", "-n", TEAM_B, "-l", surplus])?.remove(0);
    let name = text(&pod["metadata"]["name"]);
    lab.wait_event(TEAM_B, "Pod", &name, &["IndexOutOfRange", "index 2", "pods: 2"])?;
    lab.wait_reason(&network, "Attached", "False", "IndexOutOfRange")?;
    let pod = lab.get(&["pod", "-n", TEAM_B, &name])?;
    ensure!(
        pod["status"]["phase"] == "Pending",
        "the surplus pod is {}",
        pod["status"]["phase"]
    );
    world.clear(TEAM_B)
}
