//! Tenants stay apart: on the wire, and in what they may claim.

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::NODE_LIMIT,
    lab::{Lab, RAILS, run::Output},
};
use serde_json::json;

use crate::{
    jobs,
    pods::{Pod, ping, pods, rdma, rdma_cm},
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

/// In shared mode every pod sees every RDMA device of the node in sysfs; it can open its own, and its libraries find that one.
pub(crate) fn rdma_cm_works_over_a_pods_own_device_and_the_device_of_another_tenant_cannot_be_opened(
    world: &World,
) -> Result<()> {
    let lab = &world.lab;
    let ours = world.steady()?;
    ensure!(ours[0].node != ours[1].node, "both pods are on {}", ours[0].node);
    world.apply(TEAM_B, &jobs::network("other", 3))?;
    for (name, node) in [("near", &ours[0].node), ("far", &ours[1].node)] {
        world.apply(TEAM_B, &jobs::pod(name, Some("other"), node))?;
    }
    let theirs = pods(lab, TEAM_B, "other", 2)?;
    let at = |node: &str| {
        let pod = theirs.iter().find(|pod| pod.node == node);
        pod.with_context(|| format!("no pod of the other network runs on {node}"))
    };
    let (near, far) = (at(&ours[0].node)?, at(&ours[1].node)?);
    for (pod, peer) in [(&ours[0], &ours[1]), (near, far)] {
        for rail in 0..RAILS {
            by_connection_manager(lab, rail, pod, peer)?;
        }
    }
    for (pod, stranger) in [(&ours[0], near), (near, &ours[0])] {
        for rail in 0..RAILS {
            let own = open(lab, pod, pod, rail)?;
            ensure!(own.success(), "{} cannot open its own device: {own}", pod.name);
            let foreign = open(lab, pod, stranger, rail)?;
            ensure!(
                !foreign.success() && foreign.stderr.contains("not permitted"),
                "{} opens the device of {}: {foreign}",
                pod.name,
                stranger.name
            );
        }
    }
    // Devices that come and go beside it do not matter.
    world.apply(TEAM_B, &jobs::pod("third", Some("other"), &ours[0].node))?;
    by_connection_manager(lab, 0, &ours[0], &ours[1]).context("while a pod starts beside it")?;
    pods(lab, TEAM_B, "other", 3)?;
    by_connection_manager(lab, 0, &ours[0], &ours[1]).context("beside another pod")?;
    lab.kubectl(&["delete", "-n", TEAM_B, "pod/third", "--wait=false"])?
        .ok()?;
    by_connection_manager(lab, 0, &ours[0], &ours[1]).context("while a pod ends beside it")?;
    world.clear(TEAM_B)
}

/// The pod's libraries list its device, and the connection manager finds a path over it.
fn by_connection_manager(lab: &Lab, rail: usize, pod: &Pod, peer: &Pod) -> Result<()> {
    let device = &pod.rails[rail].rdma_device;
    let listed = pod.inside(lab, "ibv_devices")?.ok()?;
    ensure!(
        listed.stdout.contains(device.as_str()),
        "{}: {device} is not in {listed}",
        pod.name
    );
    let written = rdma_cm(lab, "ib_write_bw", rail, pod, peer)?;
    ensure!(
        written.success(),
        "{} to {} over {device}: {written}",
        pod.name,
        peer.name
    );
    Ok(())
}

/// What comes of it when a container of `pod` opens the character device of `of` on a rail, under a name that it makes itself:
/// what counts is the device's number. In the container's own control group, so by `kubectl exec`.
fn open(lab: &Lab, pod: &Pod, of: &Pod, rail: usize) -> Result<Output> {
    let device = &of.rails[rail].rdma_device;
    let find = format!(
        "for u in /sys/class/infiniband_verbs/uverbs*; do [ \"$(cat $u/ibdev)\" = {device} ] && cat $u/dev; done; true"
    );
    let found = of.machine(lab)?.exec(&find, NODE_LIMIT)?.ok()?.stdout;
    let number = found.trim().split_once(':');
    let (major, minor) = number.with_context(|| format!("{device} has no character device: {found:?}"))?;
    let command = format!("rm -f /verbs && mknod /verbs c {major} {minor} && exec 3<>/verbs && rm /verbs");
    lab.exec(&pod.namespace, &pod.name, &command)
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
