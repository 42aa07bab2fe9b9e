//! Tenants stay apart: on the wire, and in what they may claim.

use anyhow::{Result, ensure};
use railhead_e2e::lab::RAILS;
use serde_json::json;

use crate::{
    jobs,
    pods::{Pod, ping, pods, rdma},
    world::{STEADY, TEAM_A, TEAM_B, World},
};

/// ARP, ping and RDMA, on every rail; within each network all of it works.
pub(crate) fn two_networks_on_the_same_nodes_cannot_reach_each_other(world: &World) -> Result<()> {
    let lab = &world.lab;
    let ours = world.steady()?;
    world.apply(TEAM_B, &jobs::network("other", 2))?;
    world.apply(TEAM_B, &jobs::job("other", 2))?;
    let theirs = pods(lab, TEAM_B, "other", 2)?;
    for network in [&ours, &theirs] {
        ping(lab, &network[0], &network[1])?;
        for rail in 0..RAILS {
            let answered = network[0].inside(lab, &arping(20, rail, &network[0], &network[1]))?;
            ensure!(answered.success(), "within the network: {answered}");
        }
    }
    let written = rdma(lab, "ib_write_bw", 0, &ours[0], &ours[1])?;
    ensure!(written.success(), "within the network: {written}");
    // One on the same node and one across the leaf.
    for peer in &theirs {
        for rail in 0..RAILS {
            let (name, address) = (&ours[0].rails[rail].name, peer.address(rail));
            for command in [
                format!("ping -c 1 -W 2 -I {name} {address}"),
                arping(2, rail, &ours[0], peer),
            ] {
                let answered = ours[0].inside(lab, &command)?;
                ensure!(!answered.success(), "{} answered: {answered}", peer.name);
            }
            // However late an answer came, the neighbour would be known by it.
            let neighbour = ours[0]
                .inside(lab, &format!("ip neigh show {address} dev {name}"))?
                .ok()?;
            ensure!(
                !neighbour.stdout.contains("lladdr"),
                "{} is known: {neighbour}",
                peer.name
            );
        }
    }
    for (rail, tool) in [(0, "ib_write_bw"), (1, "ib_send_bw")] {
        let written = rdma(lab, tool, rail, &ours[0], &theirs[1])?;
        // The programs found each other, and no path between the devices: nobody answers for the address.
        ensure!(
            !written.success() && written.stdout.contains("Unable to Connect the HCA's"),
            "RDMA to {}, of another network: {written}",
            theirs[1].name
        );
    }
    world.clear(TEAM_B)
}

fn arping(seconds: u32, rail: usize, from: &Pod, to: &Pod) -> String {
    format!(
        "arping -c 1 -w {seconds} -I {} {}",
        from.rails[rail].name,
        to.address(rail)
    )
}

/// Identity comes from the claim and its namespace: neither the copied claim nor a network of the same name helps.
pub(crate) fn a_claim_copied_from_another_namespace_gets_nothing(world: &World) -> Result<()> {
    let lab = &world.lab;
    world.steady()?;
    let original = lab.get(&["resourceclaimtemplate", "-n", TEAM_A, &format!("{STEADY}-rails")])?;
    let copy = json!({
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": "copied"},
        "spec": original["spec"],
    });
    world.apply(TEAM_B, &copy)?;
    world.apply(TEAM_B, &jobs::pod_with_template("thief", "copied"))?;
    let missing = format!("TrainingNetwork {TEAM_B}/{STEADY}");
    lab.wait_event(TEAM_B, "Pod", "thief", &[&missing])?;

    world.apply(TEAM_B, &jobs::network(STEADY, 1))?;
    world.apply(TEAM_B, &jobs::pod_with_template("namesake", "copied"))?;
    let other = format!("another TrainingNetwork {STEADY}");
    lab.wait_event(TEAM_B, "Pod", "namesake", &[&other])?;

    for pod in ["thief", "namesake"] {
        let phase = lab.get(&["pod", "-n", TEAM_B, pod])?["status"]["phase"].clone();
        ensure!(phase == "Pending", "{pod} is {phase}");
    }
    let attachments = lab.list(&["networkattachments", "-n", TEAM_B])?;
    ensure!(attachments.is_empty(), "they hold {attachments:?}");
    lab.kubectl(&["delete", "-n", TEAM_B, "resourceclaimtemplate/copied"])?
        .ok()?;
    world.clear(TEAM_B)
}
