//! Railhead in the lab: installed with Helm as anybody would, with the lab's values.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::{
    cluster::{NODE_LIMIT, PATIENCE_FLAG, eventually},
    lab::{
        DEFAULT_NAME, Lab,
        progress::{say, step},
        run::{Output, tail},
    },
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

/// A new lab with `nodes` nodes, Railhead and the lab's fabric, in place of the one that is up. `before_install` sees the lab
/// when its nodes are Ready and Railhead is not there yet; what it returns is handed on.
///
/// The kernel of an emulated node can hang for good while it makes virtual functions. So where this fails and a node has
/// stopped answering, all of it is done once more. Every other failure is returned as it is, and so is that of a boot, which
/// has been tried twice by then.
pub fn start_lab<T>(nodes: usize, before_install: impl Fn(&Lab) -> Result<T>) -> Result<(Lab, T)> {
    Lab::down(DEFAULT_NAME)?;
    let attempt = || {
        let lab = step(&format!("starting Kubernetes and {nodes} nodes"), || {
            Lab::up(DEFAULT_NAME, nodes)
        });
        let lab = lab.map_err(Failure::Other)?;
        let with_railhead = || {
            let before = before_install(&lab)?;
            step("helm install railhead charts/railhead", || install(&lab))?;
            step("kubectl apply -f fabric.yaml", || apply_fabric(&lab))?;
            anyhow::Ok(before)
        };
        match with_railhead() {
            Ok(before) => Ok((lab, before)),
            Err(error) => Err(match hung_nodes(&lab) {
                Some(report) => Failure::NodeHung(error.context(report)),
                None => Failure::Other(error),
            }),
        }
    };
    twice_at_most(attempt, |hung| {
        say(format!("{hung:#}\nstarting the lab again, once"));
        Lab::down(DEFAULT_NAME)
    })
}

/// Why an attempt came to nothing.
enum Failure {
    /// A node stopped answering; the error begins with which.
    NodeHung(anyhow::Error),
    Other(anyhow::Error),
}

impl From<Failure> for anyhow::Error {
    fn from(failure: Failure) -> Self {
        let (Failure::NodeHung(error) | Failure::Other(error)) = failure;
        error
    }
}

/// A second attempt where a node hung in the first one, after `clear` was told so.
fn twice_at_most<T>(
    attempt: impl Fn() -> std::result::Result<T, Failure>,
    clear: impl FnOnce(&anyhow::Error) -> Result<()>,
) -> Result<T> {
    match attempt() {
        Err(Failure::NodeHung(hung)) => {
            clear(&hung)?;
            Ok(attempt()?)
        }
        outcome => Ok(outcome?),
    }
}

/// What to say of the nodes that do not answer, if there are any.
fn hung_nodes(lab: &Lab) -> Option<String> {
    let nodes = lab.nodes();
    let hung = nodes
        .iter()
        .filter(|node| !node.exec("true", NODE_LIMIT).is_ok_and(|output| output.success()));
    let reports: Vec<String> = hung
        .map(|node| {
            // The second start writes its own console log in the same place.
            let log = node.keep_console_log().unwrap_or_else(|error| {
                say(format!("{error:#}"));
                node.console_log()
            });
            format!(
                "{} stopped answering (its kernel hung; see {}, which ends with:\n{}\n)",
                node.name(),
                log.display(),
                tail(&log, 25)
            )
        })
        .collect();
    (!reports.is_empty()).then(|| reports.join("\n"))
}

/// What one wants to read after a failure: the ends of the logs of operator, agents and lab, and the objects as they are.
pub fn show_logs(lab: &Lab) {
    for workload in ["deployment/railhead-operator", "daemonset/railhead-agent"] {
        let logs = ["logs", "-n", NAMESPACE, workload, "--tail=60", "--all-pods", "--prefix"];
        if let Ok(output) = lab.kubectl(&logs) {
            eprintln!("--- end of the log of {workload}\n{}{}", output.stdout, output.stderr);
        }
    }
    for objects in ["nodes,pods", "fabric,nodenet,tnet,nslice,natt"] {
        if let Ok(output) = lab.kubectl(&["get", objects, "-A", "-o", "wide"]) {
            eprintln!("--- kubectl get {objects}\n{}{}", output.stdout, output.stderr);
        }
    }
    lab.show_logs();
}

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
        let ready = lab.kubectl(&["rollout", "status", "-n", NAMESPACE, workload, PATIENCE_FLAG])?;
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
        // Longer than the hook waits: its words are lost otherwise.
        "6m",
    ])
}

/// Applies the lab's fabric and waits until every node offers its ports.
pub fn apply_fabric(lab: &Lab) -> Result<()> {
    lab.apply("default", FABRIC)?;
    lab.wait_condition(&["fabric", FABRIC_NAME], "Ready", "True")?;
    wait_offered(lab)
}

/// Waits until every node offers its ports: kubelet wipes what a node offers while its agent is away.
pub fn wait_offered(lab: &Lab) -> Result<()> {
    eventually("every node offers two rails", || {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;

    use super::*;

    /// The outcome and the number of attempts, where the first `failures` of them fail.
    fn outcome(failures: u32, failure: fn(anyhow::Error) -> Failure) -> (Result<u32>, u32) {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            if attempts.get() > failures {
                return Ok(attempts.get());
            }
            Err(failure(anyhow!("failure {}", attempts.get())))
        };
        (twice_at_most(attempt, |_| Ok(())), attempts.get())
    }

    #[test]
    fn only_a_lab_with_a_node_that_hangs_is_started_again_and_only_once() {
        assert_eq!(outcome(0, Failure::NodeHung).0.unwrap(), 1);
        assert_eq!(outcome(1, Failure::NodeHung).0.unwrap(), 2);

        let (result, attempts) = outcome(1, Failure::Other);
        assert_eq!(result.unwrap_err().to_string(), "failure 1");
        assert_eq!(attempts, 1, "a failure that is none of the lab's was tried again");

        let (result, attempts) = outcome(2, Failure::NodeHung);
        assert_eq!(result.unwrap_err().to_string(), "failure 2");
        assert_eq!(attempts, 2);
    }
}
