//! Pods with and without the label, made one after the other: what their users wait for.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result, anyhow, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, PATIENCE_FLAG, text},
    lab::{Lab, Node},
};
use serde_json::Value;

use super::{
    NAMESPACE, NETWORK, ONE_RAIL,
    times::{Times, table},
};

#[derive(Default)]
struct Started {
    running: Times,
    sandbox: Times,
}

/// What pods with the label cost on a node.
pub(crate) struct Claims {
    /// For people to read.
    pub(crate) report: String,
    /// Milliseconds of NodePrepareResources, as kubelet measures it.
    pub(crate) prepare: f64,
    /// Milliseconds of NodeUnprepareResources.
    pub(crate) unprepare: f64,
}

/// `runs` pods of each kind on the first node, in turn. Each is gone before the next one is made.
pub(crate) fn measure(lab: &Lab, runs: u32) -> Result<Claims> {
    let node = lab.node(1)?;
    let (mut plain, mut labelled) = (Started::default(), Started::default());
    let (mut add, mut prepare, mut unprepare) = (Times::default(), Times::default(), Times::default());
    // The first of each kind finds caches cold, and is not counted.
    for run in 0..=runs {
        for (kind, started) in [("plain", &mut plain), ("labelled", &mut labelled)] {
            let name = format!("{kind}-{run}");
            let is_labelled = kind == "labelled";
            let before = is_labelled.then(|| dra_calls(lab, &node)).transpose()?;
            let start = Instant::now();
            lab.apply(NAMESPACE, &manifest(&name, &node, is_labelled.then_some(NETWORK)))?;
            wait_running(lab, &name)?;
            let running = start.elapsed();
            let uid = uid(lab, &name)?;
            if run > 0 {
                started.running.add(running);
                started.sandbox.add_ms(sandbox_ms(&node, &uid)?);
                if is_labelled {
                    add.add_ms(wired_in_ms(&node, &uid)?);
                }
            }
            lab.kubectl(&["delete", "-n", NAMESPACE, "pod", &name, PATIENCE_FLAG])?
                .ok()?;
            if let Some(before) = before.filter(|_| run > 0) {
                let after = dra_calls(lab, &node)?;
                prepare.add_ms(between(&before, &after, "NodePrepareResources")?);
                unprepare.add_ms(between(&before, &after, "NodeUnprepareResources")?);
            }
        }
    }
    let missing = "kubelet measured no call of the driver";
    let (prepare_ms, unprepare_ms) = (prepare.median().context(missing)?, unprepare.median().context(missing)?);
    let mut report = table(
        &format!("{runs} pods of each kind on {}, from apply to Running", node.name()),
        &[
            ("without the label", plain.running),
            ("with two rails", labelled.running),
        ],
    );
    report.push_str(&table(
        "the same pods' sandboxes, by containerd's log",
        &[
            ("without the label", plain.sandbox),
            ("with two rails", labelled.sandbox),
        ],
    ));
    report.push_str(&table("ADD of the same pods, by its own record", &[("railhead", add)]));
    report.push_str(&table(
        "the driver's calls for the same pods, by kubelet's metrics",
        &[("Prepare", prepare), ("Unprepare", unprepare)],
    ));
    Ok(Claims {
        report,
        prepare: prepare_ms,
        unprepare: unprepare_ms,
    })
}

/// How often kubelet called the driver so far, and how many seconds that took, by method.
fn dra_calls(lab: &Lab, node: &Node) -> Result<BTreeMap<String, (f64, f64)>> {
    let path = format!("/api/v1/nodes/{}/proxy/metrics", node.name());
    Ok(calls_of(&lab.kubectl(&["get", "--raw", &path])?.ok()?.stdout))
}

/// Reads them from kubelet's metrics.
fn calls_of(metrics: &str) -> BTreeMap<String, (f64, f64)> {
    let mut calls: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in metrics.lines() {
        let Some(rest) = line.strip_prefix("dra_grpc_operations_duration_seconds_") else {
            continue;
        };
        let method = rest
            .split("method_name=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let value = rest.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        let (Some(method), Some(value)) = (method, value) else {
            continue;
        };
        let entry = calls
            .entry(method.rsplit('/').next().unwrap_or(method).to_owned())
            .or_default();
        // One line per status of the answer.
        if rest.starts_with("count{") {
            entry.0 += value;
        } else if rest.starts_with("sum{") {
            entry.1 += value;
        }
    }
    calls
}

/// Milliseconds of a call between two readings.
fn between(before: &BTreeMap<String, (f64, f64)>, after: &BTreeMap<String, (f64, f64)>, method: &str) -> Result<f64> {
    let (count, seconds) = before.get(method).copied().unwrap_or_default();
    let (count_after, seconds_after) = after.get(method).copied().unwrap_or_default();
    ensure!(count_after > count, "kubelet did not call {method}");
    Ok((seconds_after - seconds) * 1e3)
}

/// UIDs of the wired pods of a node.
pub(crate) struct Wired {
    pub(crate) one_rail: String,
    pub(crate) all_rails: String,
}

/// Two running labelled pods on each node, in the order of the nodes.
pub(crate) fn on_each_node(lab: &Lab) -> Result<Vec<Wired>> {
    let nodes = lab.nodes();
    let name = |node: &Node, network: &str| format!("{network}-on-{}", node.name());
    for node in &nodes {
        for network in [NETWORK, ONE_RAIL] {
            lab.apply(NAMESPACE, &manifest(&name(node, network), node, Some(network)))?;
        }
    }
    let running = |node: &Node, network: &str| {
        let name = name(node, network);
        wait_running(lab, &name)?;
        uid(lab, &name)
    };
    nodes
        .iter()
        .map(|node| {
            Ok(Wired {
                one_rail: running(node, ONE_RAIL)?,
                all_rails: running(node, NETWORK)?,
            })
        })
        .collect()
}

pub(crate) fn manifest(name: &str, node: &Node, network: Option<&str>) -> String {
    let labels = network.map_or_else(String::new, |network| format!("railhead.dev/network: {network}"));
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{labels}}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: {}}}
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers: [{{name: sleep, image: \"railhead/tools:dev\", command: [sleep, \"3600\"]}}]
",
        node.name()
    )
}

/// By a watch, so that the answer comes when it is so.
pub(crate) fn wait_running(lab: &Lab, name: &str) -> Result<()> {
    let waited = lab.kubectl(&[
        "wait",
        "-n",
        NAMESPACE,
        &format!("pod/{name}"),
        "--for=jsonpath={.status.phase}=Running",
        PATIENCE_FLAG,
    ])?;
    if waited.success() {
        return Ok(());
    }
    let events = lab.events(NAMESPACE, "Pod", name)?.join("\n");
    waited.ok().map(drop).context(events)
}

fn uid(lab: &Lab, name: &str) -> Result<String> {
    Ok(text(&lab.get(&["pod", "-n", NAMESPACE, name])?["metadata"]["uid"]))
}

/// What ADD says of itself.
fn wired_in_ms(node: &Node, uid: &str) -> Result<f64> {
    let file = format!("/run/railhead/attachments/{uid}/attachment.json");
    let record = node.exec(&format!("cat {file}"), NODE_LIMIT)?.ok()?;
    let record: Value = serde_json::from_str(&record.stdout).with_context(|| format!("{file} is no JSON"))?;
    record["wiredInMs"]
        .as_f64()
        .with_context(|| format!("{file} does not say how long ADD took"))
}

/// How long containerd took for the pod's sandbox: network namespace, the whole CNI chain, the pause container.
fn sandbox_ms(node: &Node, uid: &str) -> Result<f64> {
    let log = "/var/log/containerd.log";
    let lines = node
        .exec(&format!("grep {uid} {log} | grep 'RunPodSandbox for'"), NODE_LIMIT)?
        .ok()?;
    let when = |returned: bool| {
        lines
            .stdout
            .lines()
            .find(|line| line.contains("returns sandbox id") == returned)
            .and_then(seconds_of_day)
            .ok_or_else(|| anyhow!("{log} has no times of the sandbox of {uid}:\n{}", lines.stdout))
    };
    let took = when(true)? - when(false)?;
    // Midnight may have passed.
    Ok((if took < 0.0 { took + 86400.0 } else { took }) * 1e3)
}

/// Of a line that begins with `time="2026-01-31T12:34:56.789Z"`.
fn seconds_of_day(line: &str) -> Option<f64> {
    let (_, clock) = line.strip_prefix("time=\"")?.split_once('T')?;
    let (clock, _) = clock.split_once('"')?;
    let mut parts = clock.trim_end_matches('Z').split(':').map(str::parse::<f64>);
    let mut next = || parts.next()?.ok();
    Some(next()? * 3600.0 + next()? * 60.0 + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_measurements_are_told_apart_by_method_and_added_over_answers() {
        let line = |what: &str, method: &str, code: &str, value: &str| {
            format!(
                "dra_grpc_operations_duration_seconds_{what}{{driver_name=\"railhead.dev\",grpc_status_code=\"{code}\",\
                 method_name=\"/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin/{method}\"}} {value}\n"
            )
        };
        let metrics = [
            line("bucket", "NodePrepareResources", "OK", "9"),
            line("sum", "NodePrepareResources", "OK", "1.5"),
            line("sum", "NodePrepareResources", "Internal", "0.25"),
            line("count", "NodePrepareResources", "OK", "3"),
            line("count", "NodePrepareResources", "Internal", "1"),
            line("count", "NodeUnprepareResources", "OK", "2"),
        ]
        .concat();
        let calls = calls_of(&metrics);
        assert_eq!(calls["NodePrepareResources"], (4.0, 1.75));
        let ms = between(&BTreeMap::new(), &calls, "NodePrepareResources").unwrap();
        assert!((ms - 1750.0).abs() < 1e-6, "{ms}");
        assert!(between(&calls, &calls, "NodePrepareResources").is_err());
    }
}
