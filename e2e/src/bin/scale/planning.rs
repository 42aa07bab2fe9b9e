//! The planner alone: what agents compute for a large job, and the operator for many networks.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use railhead_crds::{
    Bandwidth, Fabric, FabricLedgerSpec, LedgerEntry, LedgerOwner, LedgerTakes, NetworkSlice, TrainingNetworkSpec,
};
use railhead_planner::{
    attachment::{self, ClaimOfPod, VfChoice},
    ledger::{self, Request, Wanted},
    pools::Written,
    quota::Bounds,
};
use serde_json::{Value, json};

use crate::{shapes, verdict::Verdict};

/// Pods of one job.
const PODS: u32 = 16_384;
/// Milliseconds to plan all of them.
const PODS_MS: f64 = 100.0;
/// Networks of 64 pods that fill the fabric; every second one goes again.
const FULL: u32 = 4000;
/// Networks that come then.
const NETWORKS: u32 = 1000;
/// As many as the operator plans for at a time.
const BATCH: usize = 128;
/// Milliseconds to plan all of them.
const NETWORKS_MS: f64 = 1000.0;

pub(crate) fn measure(verdict: &mut Verdict) -> Result<()> {
    pods(verdict)?;
    networks(verdict)
}

/// 1,000 networks on a fabric that is half full, in blocks that lie between those of others.
fn networks(verdict: &mut Verdict) -> Result<()> {
    let fabric: Fabric = serde_json::from_value(shapes::fabric())?;
    let written = Arc::new(Written::of_fabric(&fabric, Vec::new()));
    let request = |number: u32, pods: u32| Request {
        owner: LedgerOwner::new(
            "team",
            format!("n{number}"),
            format!("00000000-0000-4000-8000-{number:012}"),
        ),
        wanted: Wanted::Block {
            pods,
            takes: LedgerTakes::new(pods, 8, Bandwidth::from_mbps(10_000)),
            written: Arc::clone(&written),
        },
    };
    let nobody: [NetworkSlice; 0] = [];
    let full: Vec<Request> = (0..FULL).map(|number| request(number, 64)).collect();
    let mut held = ledger::reserve(&ledger::empty(), &nobody, &full, &Bounds::default()).ledger;
    let mut is_second = false;
    held.entries.retain(|_| {
        is_second = !is_second;
        is_second
    });
    let slices: Vec<NetworkSlice> = held
        .entries
        .iter()
        .map(|entry| Ok(serde_json::from_value(slice_of(entry)?)?))
        .collect::<Result<_>>()?;
    let new: Vec<Request> = (FULL..FULL + NETWORKS)
        .map(|number| request(number, 2 << (number % 5)))
        .collect();
    let batches = |size: usize| -> Result<f64> {
        let mut ledger = held.clone();
        let start = Instant::now();
        for batch in new.chunks(size) {
            let outcome = ledger::reserve(&ledger, &slices, batch, &Bounds::default());
            if let Some(Err(refused)) = outcome.results.into_iter().find(Result::is_err) {
                return Err(refused.into());
            }
            ledger = outcome.ledger;
        }
        let took = start.elapsed().as_secs_f64() * 1000.0;
        disjoint(&ledger)?;
        Ok(took)
    };
    verdict.at_most(
        format!("planning {NETWORKS} networks on a fabric half full, {BATCH} at a time"),
        batches(BATCH)?,
        NETWORKS_MS,
        "ms",
    );
    verdict.note(format!("the same one at a time: {:.0} ms", batches(1)?));
    Ok(())
}

/// What is fast and wrong is worth nothing.
fn disjoint(ledger: &FabricLedgerSpec) -> Result<()> {
    let mut blocks: Vec<(u32, u32)> = ledger.entries.iter().map(block).collect::<Result<_>>()?;
    blocks.sort_unstable();
    let overlap = blocks.windows(2).find(|two| two[0].0 + two[0].1 > two[1].0);
    overlap.map_or(Ok(()), |two| Err(anyhow!("two networks have the same slots: {two:?}")))
}

fn block(entry: &LedgerEntry) -> Result<(u32, u32)> {
    let interval = entry.intervals.first().context("an entry without slots")?;
    Ok((interval.base, interval.size))
}

fn slice_of(entry: &LedgerEntry) -> Result<Value> {
    let (base, size) = block(entry)?;
    let mut slice = slice(base, size);
    slice["spec"]["network"] = json!({"name": entry.owner.name, "uid": entry.owner.uid});
    for rail in slice["spec"]["rails"].as_array_mut().into_iter().flatten() {
        rail["vlan"] = json!(entry.vlan);
    }
    Ok(slice)
}

fn pods(verdict: &mut Verdict) -> Result<()> {
    let slice: NetworkSlice = serde_json::from_value(slice(PODS, PODS))?;
    let pods: Vec<Pod> = (0..PODS)
        .map(|index| {
            Ok(serde_json::from_value(shapes::pod(
                "team",
                "large",
                usize::try_from(index)?,
                None,
            ))?)
        })
        .collect::<Result<_>>()?;
    let functions: Vec<VfChoice> = (0..shapes::RAILS).map(function).collect::<Result<_>>()?;
    let claim = ClaimOfPod {
        name: "claim".to_owned(),
        uid: "claim".to_owned(),
    };
    let network: TrainingNetworkSpec = serde_json::from_value(json!({"pods": PODS}))?;
    let start = Instant::now();
    for (index, pod) in (0..).zip(&pods) {
        attachment::plan(&slice, pod, &claim, &network, index, "boot", &functions)?;
    }
    verdict.at_most(
        format!("planning {PODS} pods with {} rails", shapes::RAILS),
        start.elapsed().as_secs_f64() * 1000.0,
        PODS_MS,
        "ms",
    );
    Ok(())
}

/// A slice of that many pods from that slot on.
fn slice(base: u32, pods: u32) -> Value {
    let rails: Vec<Value> = (0..shapes::RAILS)
        .map(|rail| {
            let pool = format!("10.{}.0.0/14", 4 * rail);
            let [_, _, third, fourth] = base.to_be_bytes();
            let second = 4 * rail + usize::from(base.to_be_bytes()[1]);
            let prefix = format!("10.{second}.{third}.{fourth}/{}", 32 - pods.ilog2());
            json!({"id": rail, "name": format!("rail{rail}"), "vlan": 100,
                "prefixes": [{"prefix": prefix, "pool": pool}]})
        })
        .collect();
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice", "metadata": {"name": "large", "namespace": "team"},
        "spec": {
            "network": {"name": "large", "uid": "n"},
            "fabric": {"name": shapes::FABRIC, "uid": "f", "mtu": 9000, "linkType": "Ethernet", "softRoCE": "Never"},
            "pods": pods, "base": base, "capacity": pods, "ledgerSequence": 1,
            "qos": {"className": shapes::CLASS, "dscp": 26, "priority": 3, "guaranteed": "50G", "trust": false, "spoofCheck": true},
            "rails": rails,
        },
    })
}

fn function(rail: usize) -> Result<VfChoice> {
    let pci = |function: u8| format!("0000:{:02x}:00.{function}", 0x18 + 0x10 * rail).parse();
    Ok(VfChoice {
        rail: u32::try_from(rail)?,
        vf_pci: pci(1).map_err(|error| anyhow!("{error}"))?,
        pf_pci: pci(0).map_err(|error| anyhow!("{error}"))?,
        vf_index: 0,
        rdma_device: Some(format!("mlx5_{rail}").parse().map_err(|error| anyhow!("{error}"))?),
        min_rate: true,
    })
}
