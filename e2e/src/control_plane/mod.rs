//! Railhead on a control plane without nodes: the chart as Helm installs it, the operator as a process with the rights of its
//! account, and the API server as its users meet it.

pub mod cluster;
pub mod hollow;
pub mod operator;
pub mod programs;
mod reader;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::eventually;
use cluster::{Cluster, SYSTEM};

/// The repository's own folder.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The chart's folder.
pub fn chart() -> PathBuf {
    repository().join("charts/railhead")
}

/// Values of the release. The images do not exist: one replica that waits for a node for ever is enough.
const VALUES: &str = "image.repository=railhead,image.tag=test,operator.replicas=1,operator.nodeSelector.nowhere=yes";

/// Runs Helm on the chart, as a user does.
pub fn helm_release(cluster: &Cluster, verb: &str, more: &[&str]) -> Result<()> {
    let chart = chart();
    let chart = chart.to_str().context("the clone's path is not UTF-8")?;
    let release = [verb, "railhead", chart, "--namespace", SYSTEM, "--set", VALUES];
    cluster.lab.helm(&[&release[..], more].concat())?.ok()?;
    Ok(())
}

/// Installs the chart, and waits until its policies are in force.
pub fn install(cluster: &Cluster) -> Result<()> {
    helm_release(cluster, "install", &["--create-namespace"])?;
    eventually("the policies are in force", || {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "probe", "namespace": "default", "labels": {"railhead.dev/network": "probe"}},
            "spec": {"hostNetwork": true, "containers": [{"name": "train", "image": "train"}]},
        });
        let output = cluster.feed(
            &cluster.admin(),
            &["create", "--dry-run=server", "--filename", "-"],
            &[pod],
        )?;
        cluster::expect_refusal(&output, &["railhead-pods"])?;
        let ledger = json!({
            "apiVersion": "railhead.dev/v1alpha1", "kind": "FabricLedger", "metadata": {"name": "probe"},
            "spec": {"version": 1, "sequence": 0},
        });
        let output = cluster.feed(
            &cluster.admin(),
            &["create", "--dry-run=server", "--filename", "-"],
            &[ledger],
        )?;
        cluster::expect_refusal(&output, &["railhead-records"])
    })
}
