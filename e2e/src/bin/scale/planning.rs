//! The planner alone: what agents compute for a large job.

use std::time::Instant;

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use railhead_crds::{Nccl, NetworkSlice};
use railhead_planner::attachment::{self, ClaimOfPod, VfChoice};
use serde_json::{Value, json};

use crate::{shapes, verdict::Verdict};

/// Pods of one job.
const PODS: u32 = 16_384;
/// Milliseconds to plan all of them.
const PODS_MS: f64 = 100.0;

pub(crate) fn measure(verdict: &mut Verdict) -> Result<()> {
    let slice: NetworkSlice = serde_json::from_value(slice())?;
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
    let start = Instant::now();
    for (index, pod) in (0..).zip(&pods) {
        attachment::plan(&slice, pod, &claim, &Nccl::default(), index, "boot", &functions)?;
    }
    verdict.at_most(
        format!("planning {PODS} pods with {} rails", shapes::RAILS),
        start.elapsed().as_secs_f64() * 1000.0,
        PODS_MS,
        "ms",
    );
    Ok(())
}

/// A slice of that many pods.
fn slice() -> Value {
    let rails: Vec<Value> = (0..shapes::RAILS)
        .map(|rail| {
            let pool = format!("10.{}.0.0/14", 4 * rail);
            json!({"id": rail, "name": format!("rail{rail}"), "vlan": 100,
                "prefixes": [{"prefix": format!("10.{}.64.0/18", 4 * rail), "pool": pool}]})
        })
        .collect();
    json!({
        "apiVersion": "railhead.dev/v1alpha1", "kind": "NetworkSlice", "metadata": {"name": "large", "namespace": "team"},
        "spec": {
            "network": {"name": "large", "uid": "n"},
            "fabric": {"name": shapes::FABRIC, "uid": "f", "mtu": 9000, "linkType": "Ethernet", "softRoCE": "Never"},
            "pods": PODS, "base": 16_384, "capacity": PODS, "ledgerSequence": 1,
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
