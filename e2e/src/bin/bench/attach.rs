//! ADD and DEL by themselves: the plugins' binaries run on the node as a runtime runs them, with the plan of a real pod.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use railhead_e2e::lab::Node;

use super::times::{Times, table};

/// Prints lines of a name and milliseconds.
const SCRIPT: &str = include_str!("attach.sh");
const LIMIT: Duration = Duration::from_mins(10);

/// Name in the script's output, and what it is called in the report.
const ADD: [(&str, &str); 4] = [
    ("cluster-add", "cluster network alone (ptp + host-local)"),
    ("add", "railhead, all rails, proven"),
    ("floor-add", "ip -batch: move, rename, MTU, up, address"),
    (
        "floor-signal",
        "ip -batch: the same, and the wait for the ports' signal",
    ),
];
const DEL: [(&str, &str); 3] = [
    ("cluster-del", "cluster network alone (ptp + host-local)"),
    ("del", "railhead, all rails"),
    ("floor-del", "ip -batch: the same moves back"),
];
const UNLABELLED: [(&str, &str); 2] = [
    ("true", "/bin/true"),
    ("unlabelled", "railhead ADD for a pod without the label"),
];

/// Runs ADD and DEL in turn. The pod loses its rails for it; nothing else may use it afterwards.
pub(crate) fn measure(node: &Node, pod_uid: &str, runs: u32) -> Result<String> {
    let command = format!("bash -s {runs} {pod_uid}");
    let output = node
        .exec_with_input(&command, SCRIPT.as_bytes().to_vec(), LIMIT)?
        .ok()?;
    let mut measured: BTreeMap<&str, Times> = BTreeMap::new();
    for line in output.stdout.lines() {
        let (name, ms) = line
            .split_once(' ')
            .with_context(|| format!("`{line}` is no measurement"))?;
        let ms: f64 = ms.parse().with_context(|| format!("`{line}` is no measurement"))?;
        measured.entry(name).or_default().add_ms(ms);
    }
    let rows = |names: &[(&str, &'static str)]| -> Vec<(&str, Times)> {
        names
            .iter()
            .map(|(name, called)| (*called, measured.get(name).cloned().unwrap_or_default()))
            .collect()
    };
    Ok([
        table(&format!("{}, {runs} runs in turn: ADD", node.name()), &rows(&ADD)),
        table("DEL", &rows(&DEL)),
        table("start of one process", &rows(&UNLABELLED)),
    ]
    .concat())
}
