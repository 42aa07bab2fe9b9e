//! Pods with and without the label, made one after the other: what their users wait for.

use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use railhead_e2e::{
    cluster::{NODE_LIMIT, PATIENCE_FLAG, text},
    lab::{Lab, Node},
};
use serde_json::Value;

use super::{
    NAMESPACE, NETWORK,
    times::{Times, table},
};

#[derive(Default)]
struct Started {
    running: Times,
    sandbox: Times,
}

/// `runs` pods of each kind on the first node, in turn. Each is gone before the next one is made.
pub(crate) fn measure(lab: &Lab, runs: u32) -> Result<String> {
    let node = lab.node(1)?;
    let (mut plain, mut labelled) = (Started::default(), Started::default());
    let mut add = Times::default();
    // The first of each kind finds caches cold, and is not counted.
    for run in 0..=runs {
        for (kind, started) in [("plain", &mut plain), ("labelled", &mut labelled)] {
            let name = format!("{kind}-{run}");
            let is_labelled = kind == "labelled";
            let start = Instant::now();
            lab.apply(NAMESPACE, &manifest(&name, &node, is_labelled))?;
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
        }
    }
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
    Ok(report)
}

/// One running labelled pod on each node, by UID, in the order of the nodes.
pub(crate) fn one_per_node(lab: &Lab) -> Result<Vec<String>> {
    let nodes = lab.nodes();
    for node in &nodes {
        lab.apply(NAMESPACE, &manifest(&format!("on-{}", node.name()), node, true))?;
    }
    nodes
        .iter()
        .map(|node| {
            let name = format!("on-{}", node.name());
            wait_running(lab, &name)?;
            uid(lab, &name)
        })
        .collect()
}

fn manifest(name: &str, node: &Node, labelled: bool) -> String {
    let labels = if labelled {
        format!("railhead.dev/network: {NETWORK}")
    } else {
        String::new()
    };
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
fn wait_running(lab: &Lab, name: &str) -> Result<()> {
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
