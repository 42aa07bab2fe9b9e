//! Railhead in the lab: installed with Helm as anybody would, with the lab's values.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    cluster::eventually,
    lab::{Lab, run::Output},
};

/// The release and its namespace.
pub const RELEASE: &str = "railhead";
/// The namespace of the release.
pub const NAMESPACE: &str = "railhead-system";
/// The lab's fabric.
pub const FABRIC: &str = include_str!("../lab/manifests/fabric.yaml");
/// Name of the lab's fabric.
pub const FABRIC_NAME: &str = "backend";
/// The quickstart's six lines.
pub const NETWORK: &str = include_str!("../../examples/quickstart/network.yaml");
/// The quickstart's Job.
pub const JOB: &str = include_str!("../../examples/quickstart/job.yaml");

const READY: Duration = Duration::from_mins(3);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `helm install` and the wait until operator and agents are ready.
pub fn install(lab: &Lab) -> Result<()> {
    let chart = workspace().join("charts/railhead");
    let values = workspace().join("e2e/lab/manifests/values.yaml");
    let (chart, values) = (chart.display().to_string(), values.display().to_string());
    lab.helm(&[
        "install",
        RELEASE,
        &chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--values",
        &values,
    ])?
    .ok()?;
    for workload in ["deployment/railhead-operator", "daemonset/railhead-agent"] {
        let ready = lab.kubectl(&["rollout", "status", "-n", NAMESPACE, workload, "--timeout", "180s"])?;
        if !ready.success() {
            let pods = lab.kubectl(&["describe", "pods", "-n", NAMESPACE])?;
            return ready
                .ok()
                .map(drop)
                .with_context(|| format!("{workload} is not ready:\n{}", pods.stdout));
        }
    }
    Ok(())
}

/// `helm uninstall`, which may be refused.
pub fn uninstall(lab: &Lab) -> Result<Output> {
    lab.helm(&[
        "uninstall",
        RELEASE,
        "--namespace",
        NAMESPACE,
        "--wait",
        "--timeout",
        "4m",
    ])
}

/// Applies the lab's fabric and waits until every node offers its ports.
pub fn apply_fabric(lab: &Lab) -> Result<()> {
    lab.apply("default", FABRIC)?;
    lab.wait_condition(&["fabric", FABRIC_NAME], "Ready", "True", READY)?;
    eventually("every node offers two rails", READY, || {
        let slices = lab.list(&["resourceslices"])?;
        let devices: usize = slices
            .iter()
            .filter(|slice| slice["spec"]["driver"] == "railhead.dev")
            .map(|slice| slice["spec"]["devices"].as_array().map_or(0, Vec::len))
            .sum();
        ensure!(devices == 2 * lab.node_count(), "{devices} devices are published");
        Ok(())
    })
}

/// Makes a namespace, if it is not there.
pub fn namespace(lab: &Lab, name: &str) -> Result<()> {
    let manifest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n");
    lab.apply("default", &manifest)
}
