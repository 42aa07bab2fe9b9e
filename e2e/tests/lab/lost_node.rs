//! A node that nobody can ask, and what its pods had.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{PATIENCE_FLAG, eventually, text},
    installation,
    lab::{Lab, Node},
};

use crate::{
    jobs,
    pods::{Pod, pods},
    world::{TEAM_A, TEAM_B, World},
};

/// The namespace that is deleted.
const DOOMED: &str = "team-doomed";
const NETWORK: &str = "doomed";
/// How long it is looked whether anything is given away: several rounds of whatever collects.
const WATCHED: Duration = Duration::from_mins(1);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The dark node may still send with its pod's addresses. Neither its namespace's end nor a deletion by force gives them away; the
/// administrator's word that the node is out of service does.
pub(crate) fn what_pods_of_a_dark_node_hold_is_given_away_only_when_the_node_is_out_of_service(
    world: &World,
) -> Result<()> {
    let lab = &world.lab;
    world.clear(TEAM_A)?;
    world.clear(TEAM_B)?;
    installation::namespace(lab, DOOMED)?;
    world.apply(DOOMED, &jobs::network(NETWORK, 2))?;
    // Of no Job: its controller keeps pods that it has not counted, whatever force is used.
    for node in lab.nodes() {
        let pod = jobs::pod(&format!("on-{}", node.name()), Some(NETWORK), &node.name());
        world.apply(DOOMED, &pod)?;
    }
    let held = pods(lab, DOOMED, NETWORK, 2)?;
    let vlan = vlan(lab, DOOMED)?;
    let (dark, lit) = dark_and_lit(lab)?;
    let lost = held
        .iter()
        .find(|pod| pod.node == dark.name())
        .with_context(|| format!("no pod is on {}", dark.name()))?;

    dark.power_off()?;
    let told = delete_all_the_same(lab).and_then(|()| nothing_is_given_away(world, &held, lost, vlan, &lit));
    // Whatever came of it, the tests after this one need the node.
    let freed = told.and_then(|()| {
        out_of_service(lab, &dark, true)?;
        everything_is_free(lab)
    });
    dark.power_on()?;
    let back = out_of_service(lab, &dark, false).and_then(|()| installation::wait_offered(lab));
    freed?;
    back?;
    // The node's functions are other ones since its start.
    world.clear(TEAM_A)
}

/// The operator's node goes on, since nobody would give anything away without it.
fn dark_and_lit(lab: &Lab) -> Result<(Node, Node)> {
    let system = lab.list(&["pods", "-n", installation::NAMESPACE])?;
    let operator = system
        .iter()
        .find(|pod| text(&pod["metadata"]["name"]).starts_with("railhead-operator"))
        .context("there is no operator")?;
    let lit = text(&operator["spec"]["nodeName"]);
    let (lit, mut others): (Vec<Node>, Vec<Node>) = lab.nodes().into_iter().partition(|node| node.name() == lit);
    let lit = lit.into_iter().next().context("the operator has no node")?;
    Ok((others.pop().context("there is one node only")?, lit))
}

/// What administrators do when a namespace does not go.
fn delete_all_the_same(lab: &Lab) -> Result<()> {
    lab.kubectl(&["delete", "namespace", DOOMED, "--wait=false"])?.ok()?;
    let force = ["--all", "--force", "--grace-period=0", "--wait=false"];
    let deleted = lab.kubectl(&[&["delete", "pods", "-n", DOOMED], &force[..]].concat())?;
    deleted.ok().map(drop)
}

/// The attachment of the lost pod stays, and another network gets neither its addresses nor its VLAN.
fn nothing_is_given_away(world: &World, held: &[Pod], lost: &Pod, vlan: u64, lit: &Node) -> Result<()> {
    let lab = &world.lab;
    eventually("the pods are gone from the API server", || {
        let left = lab.list(&["pods", "-n", DOOMED])?;
        ensure!(left.is_empty(), "{} are left", left.len());
        Ok(())
    })?;
    thread::sleep(WATCHED);
    let attachments = lab.list(&["networkattachments", "-n", DOOMED])?;
    ensure!(
        attachments
            .iter()
            .any(|attachment| text(&attachment["spec"]["podUID"]) == lost.uid),
        "the lost pod's attachment is not among {attachments:?}"
    );
    let states = reserved(lab)?;
    ensure!(
        states == ["Held"],
        "the ledger let the network go while the dark node may run its pod: {states:?}"
    );
    world.apply(TEAM_A, &jobs::network("next", 2))?;
    for name in ["next-a", "next-b"] {
        world.apply(TEAM_A, &jobs::pod(name, Some("next"), &lit.name()))?;
    }
    let next = pods(lab, TEAM_A, "next", 2)?;
    ensure!(self::vlan(lab, TEAM_A)? != vlan, "VLAN {vlan} has two networks");
    for (new, old) in next.iter().flat_map(|new| held.iter().map(move |old| (new, old))) {
        for rail in 0..new.rails.len() {
            ensure!(
                new.address(rail) != old.address(rail) && new.rails[rail].mac != old.rails[rail].mac,
                "{} has what {} had: {:?}",
                new.name,
                old.name,
                new.rails[rail]
            );
        }
    }
    Ok(())
}

fn everything_is_free(lab: &Lab) -> Result<()> {
    lab.kubectl(&["wait", "namespace", DOOMED, "--for=delete", PATIENCE_FLAG])?
        .ok()?;
    let states = reserved(lab)?;
    // What was let go rests for five minutes before another network gets it.
    ensure!(
        states.iter().all(|state| state == "Resting"),
        "the ledger still has the network: {states:?}"
    );
    Ok(())
}

/// The states of the ledger's entries of the doomed network.
fn reserved(lab: &Lab) -> Result<Vec<String>> {
    let ledger = lab.get(&["fabricledger", installation::FABRIC_NAME])?;
    let entries = ledger["spec"]["entries"]
        .as_array()
        .context("a ledger without entries")?;
    let doomed = entries
        .iter()
        .filter(|entry| text(&entry["owner"]["namespace"]) == DOOMED);
    Ok(doomed.map(|entry| text(&entry["state"])).collect())
}

fn vlan(lab: &Lab, namespace: &str) -> Result<u64> {
    let slices = lab.list(&["networkslices", "-n", namespace])?;
    let slice = slices.first().context("there is no slice")?;
    slice["spec"]["rails"][0]["vlan"]
        .as_u64()
        .context("the slice has no VLAN")
}

fn out_of_service(lab: &Lab, node: &Node, is: bool) -> Result<()> {
    let sign = if is { "=nodeshutdown:NoExecute" } else { "-" };
    let taint = format!("{OUT_OF_SERVICE}{sign}");
    lab.kubectl(&["taint", "node", &node.name(), &taint])?.ok().map(drop)
}
