//! The objects of `examples/quickstart`, and everything they promise.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Context, Result, ensure};
use railhead_crds::Bandwidth;
use railhead_e2e::{
    cluster::{PATIENCE_FLAG, text},
    evidence::nothing_left,
    installation::{JOB, NETWORK},
    lab::{Lab, RAILS},
    report::{self, SeenPod},
};
use serde_json::Value;

use crate::{
    claim_status,
    world::{TEAM_A, World},
};

/// What the lab's default class says.
const PRIORITY: u8 = 3;
const DSCP: u8 = 26;
const GUARANTEED: Bandwidth = Bandwidth::from_mbps(200);
const MAXIMUM_MBPS: u64 = 400;
const MTU: u64 = 9000;

/// Slice, VLAN, address, MTU, GID, rates, spoof check, NCCL settings, environment, claim, conditions, traffic; then nothing.
pub(crate) fn the_quickstart_job_gets_what_the_objects_declare_and_gives_it_back(world: &World) -> Result<()> {
    let lab = &world.lab;
    let network = ["tnet", "-n", TEAM_A, "llama"];
    lab.apply(TEAM_A, NETWORK)?;
    lab.wait_condition(&network, "Ready", "True")?;
    lab.apply(TEAM_A, JOB)?;
    lab.wait_condition(&network, "Attached", "True")?;
    let running = lab.running_pods(TEAM_A, "railhead.dev/network=llama", 2)?;
    let pods: Vec<SeenPod> = running
        .iter()
        .map(|pod| report::look_at(lab, pod))
        .collect::<Result<_>>()?;
    ensure!(pods[0].node != pods[1].node, "both pods are on node{}", pods[0].node);
    let slices = lab.list(&["networkslices", "-n", TEAM_A])?;
    ensure!(slices.len() == 1, "{} slices", slices.len());
    let rails = slices[0]["spec"]["rails"]
        .as_array()
        .context("the slice has no rails")?;

    for (index, pod) in pods.iter().enumerate() {
        inside(pod, index, rails).with_context(|| pod.name.clone())?;
        told(lab, pod, index).with_context(|| pod.name.clone())?;
        claim_status::wait_told(lab, TEAM_A, &pod.name, &pod.rails)?;
    }
    let seen = report::traffic(lab, TEAM_A, &pods[0], &pods[1])?;
    for (rail, seen) in seen.iter().enumerate() {
        let vlan = u16::try_from(rails[rail]["vlan"].as_u64().context("a rail without VLAN")?)?;
        for (kind, frames) in [("ping", &seen.ping), ("RDMA", &seen.rdma)] {
            ensure!(
                frames.vlans == BTreeSet::from([vlan]),
                "{kind} on VLANs {:?}, not {vlan}",
                frames.vlans
            );
            let priorities = BTreeSet::from([PRIORITY]);
            ensure!(
                frames.priorities == priorities,
                "{kind} with priorities {:?}",
                frames.priorities
            );
        }
        ensure!(
            seen.rdma.dscps == BTreeSet::from([DSCP]),
            "RDMA with DSCPs {:?}",
            seen.rdma.dscps
        );
        ensure!(
            seen.ping.longest >= 9000,
            "the longest ping has {} bytes",
            seen.ping.longest
        );
        ensure!(seen.bandwidth > 0.0, "RDMA moved nothing");
    }
    let degraded = &["tnet", "-n", TEAM_A, "llama"];
    lab.wait_reason(degraded, "Degraded", "True", "QosNotEnforced")?;

    let deleted = lab.kubectl(&["delete", "-n", TEAM_A, "job/llama", "tnet/llama", PATIENCE_FLAG])?;
    deleted.ok()?;
    nothing_left(lab, &world.recorded)
}

/// What kernel and scheduler say about a pod's rails.
fn inside(pod: &SeenPod, index: usize, slice: &[Value]) -> Result<()> {
    ensure!(
        pod.rails.len() == RAILS && slice.len() == RAILS,
        "its rails are {:?}",
        pod.rails
    );
    for (rail, declared) in pod.rails.iter().zip(slice) {
        let name = &rail.name;
        ensure!(declared["name"] == name.as_str(), "{name} is not {}", declared["name"]);
        let prefix = text(&declared["prefixes"][0]["prefix"]);
        let base: Ipv4Addr = prefix.split('/').next().unwrap_or_default().parse()?;
        let wanted = Ipv4Addr::from(u32::from(base) + u32::try_from(index)?);
        ensure!(
            rail.address == format!("{wanted}/16"),
            "{name} has {}, not {wanted}",
            rail.address
        );
        ensure!(rail.mtu == MTU, "{name} has the MTU {}", rail.mtu);

        let enforced = &pod.enforced[name].enforced;
        let says = |key: &str| enforced.get(key).cloned().unwrap_or_default();
        ensure!(says("spoofchk") == "true", "{name}: the port says {enforced:?}");
        let rate: Value = serde_json::from_str(&says("rate")).with_context(|| format!("{name}: {enforced:?}"))?;
        ensure!(rate["max_tx"] == MAXIMUM_MBPS, "{name}: the port enforces {rate}");
        let counted = pod.guarantees.get(name).cloned().unwrap_or_default();
        ensure!(
            Bandwidth::from_quantity(&counted) == Some(GUARANTEED),
            "{name}: the claim counts {counted}"
        );
    }
    Ok(())
}

/// What the pod's programs are told.
fn told(lab: &Lab, pod: &SeenPod, index: usize) -> Result<()> {
    let told = lab
        .exec(TEAM_A, &pod.name, "cat /etc/nccl.conf && echo && echo --- && env")?
        .ok()?
        .stdout;
    let (conf, environment) = told
        .split_once("\n---\n")
        .context("no mark between file and environment")?;
    let devices: Vec<&str> = pod.rails.iter().map(|rail| rail.rdma_device.as_str()).collect();
    for (line, place) in [
        (format!("NCCL_IB_HCA=={}", devices.join(",")), conf),
        (format!("NCCL_IB_TC={}", DSCP << 2), conf),
        ("RAILHEAD_NETWORK=llama".to_owned(), environment),
        (format!("RAILHEAD_INDEX={index}"), environment),
        ("RAILHEAD_PODS=2".to_owned(), environment),
    ] {
        ensure!(place.lines().any(|found| found == line), "{line} is not in:\n{place}");
    }
    Ok(())
}
