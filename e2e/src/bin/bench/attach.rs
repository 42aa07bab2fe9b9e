//! ADD and DEL by themselves: the plugins' binaries run on the node as a runtime runs them, with the plan of a real pod.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};
use railhead_e2e::{lab::Node, limits::FLOOR_RATIO};

use super::{
    pods::Wired,
    standin,
    times::{Times, table},
};

/// Prints lines of a name and milliseconds.
const SCRIPT: &str = include_str!("attach.sh");
const LIMIT: Duration = Duration::from_mins(15);
/// Where the floor's program lies on the node.
const STANDIN: &str = "/run/standin";

/// Name in the script's output, and what it is called in the report; the first of each is what the others are compared with.
const TABLES: [(&str, &[(&str, &str)]); 5] = [
    (
        "ADD, one rail",
        &[
            ("floor-add-1", "the same kernel work alone, signal and GID seen"),
            ("add-1", "railhead, proven"),
        ],
    ),
    (
        "ADD, all rails",
        &[
            ("floor-add-all", "the same kernel work alone, signals and GIDs seen"),
            ("wait-all", "of that, the wait for the signals"),
            ("add-all", "railhead, proven"),
            ("cluster-add", "cluster network alone (ptp + host-local)"),
        ],
    ),
    (
        "DEL, one rail",
        &[("floor-del-1", "the same kernel work alone"), ("del-1", "railhead")],
    ),
    (
        "DEL, all rails",
        &[
            ("floor-del-all", "the same kernel work alone"),
            ("del-all", "railhead"),
            ("cluster-del", "cluster network alone (ptp + host-local)"),
        ],
    ),
    (
        "start of one process",
        &[
            ("true", "/bin/true"),
            ("unlabelled", "railhead ADD for a pod without the label"),
        ],
    ),
];
/// What has a limit, and its floor.
const LIMITED: [(&str, &str); 4] = [
    ("add-1", "floor-add-1"),
    ("add-all", "floor-add-all"),
    ("del-1", "floor-del-1"),
    ("del-all", "floor-del-all"),
];

/// What was measured on one node.
pub(crate) struct Attached {
    /// Milliseconds of ADD with all rails, without the wait for their signals.
    pub(crate) add_work: f64,
    /// Milliseconds of DEL with all rails.
    pub(crate) del: f64,
}

/// Runs ADD and DEL in turn and prints their times, also those from before one that failed; what is above a limit goes to `exceeded`. The pods lose their rails for it; nothing else may use them afterwards.
pub(crate) fn measure(node: &Node, pods: &Wired, runs: u32, exceeded: &mut Vec<String>) -> Result<Attached> {
    let program = standin::program();
    let program = fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let put = format!("cat > {STANDIN} && chmod +x {STANDIN}");
    node.exec_with_input(&put, program, LIMIT)?.ok()?;
    let command = format!("bash -s {runs} {STANDIN} {} {}", pods.one_rail, pods.all_rails);
    let output = node.exec_with_input(&command, SCRIPT.as_bytes().to_vec(), LIMIT)?;
    node.exec(&format!("rm -f {STANDIN}"), LIMIT)?.ok()?;
    let mut measured: BTreeMap<&str, Times> = BTreeMap::new();
    let printed = output.stdout.clone();
    for line in printed.lines() {
        let (name, ms) = line
            .split_once(' ')
            .with_context(|| format!("`{line}` is no measurement"))?;
        let ms: f64 = ms.parse().with_context(|| format!("`{line}` is no measurement"))?;
        measured.entry(name).or_default().add_ms(ms);
    }
    for (title, rows) in TABLES {
        let rows: Vec<(&str, Times)> = rows
            .iter()
            .map(|(name, called)| (*called, measured.get(name).cloned().unwrap_or_default()))
            .collect();
        print!(
            "{}",
            table(&format!("{}, {runs} runs in turn: {title}", node.name()), &rows)
        );
    }
    output.ok()?;
    let median = |name: &str| {
        let times = measured.get(name).and_then(Times::median);
        times.with_context(|| format!("{name} was not measured"))
    };
    for (name, floor) in LIMITED {
        let (ours, floor) = (median(name)?, median(floor)?);
        let ratio = ours / floor;
        if ratio > FLOOR_RATIO {
            exceeded.push(format!(
                "{name} on {}: {ours:.0} ms is {ratio:.2} times the floor of {floor:.0} ms; {FLOOR_RATIO} times is the limit",
                node.name()
            ));
        }
    }
    Ok(Attached {
        add_work: median("add-all")? - median("wait-all")?,
        del: median("del-all")?,
    })
}
