//! What operator and agents hold in memory, as the nodes' kernels count it: without pods, with as many as a node's VFs carry, and what
//! that means for a node with more.
//!
//! igb makes at most seven VFs per port, and the lab's nodes have two ports: 64 VFs and 32 pods are reckoned from what each pod of the
//! lab adds, not seen.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{NODE_LIMIT, PATIENCE_FLAG},
    lab::Lab,
    limits::{AGENT_RESIDENT, FULL_AGENT_RESIDENT, OPERATOR_RESIDENT},
};

use super::{NAMESPACE, NETWORK, pods, sizes::row};

/// How many pods a node's VFs carry in the lab.
pub(crate) const PODS_PER_NODE: usize = 4;
/// A node with eight ports of eight VFs each, two VFs a pod.
const FULL_PODS: u64 = 32;
/// The agent's status of the last pods is written by then.
const SETTLED: Duration = Duration::from_secs(15);

/// Makes the pods, reads memory before and with them, and takes them away again; what is too much goes to `exceeded`. Once before
/// that: what a process touches for its first pods comes to no later ones.
pub(crate) fn measure(lab: &Lab, exceeded: &mut Vec<String>) -> Result<String> {
    with_pods(lab, || Ok(()))?;
    thread::sleep(SETTLED);
    let before = resident(lab)?;
    let with = with_pods(lab, || {
        thread::sleep(SETTLED);
        resident(lab)
    })?;

    let mut text = String::new();
    for (program, with) in &with {
        let before = *before
            .get(program)
            .with_context(|| format!("{program} did not run before the pods came"))?;
        let is_agent = program.starts_with("agent");
        row(&mut text, &format!("{program}, no pod"), before);
        row(&mut text, &format!("{program}, {PODS_PER_NODE} pods a node"), *with);
        check(
            exceeded,
            program,
            *with,
            if is_agent { AGENT_RESIDENT } else { OPERATOR_RESIDENT },
        );
        if is_agent {
            let per_pod = with.saturating_sub(before) / PODS_PER_NODE as u64;
            let full = before + FULL_PODS * per_pod;
            row(
                &mut text,
                &format!("{program}, {FULL_PODS} pods with {} VFs, reckoned", 2 * FULL_PODS),
                full,
            );
            check(
                exceeded,
                &format!("{program}, reckoned for {FULL_PODS} pods,"),
                full,
                FULL_AGENT_RESIDENT,
            );
        }
    }
    Ok(text)
}

/// Does something while every node has [`PODS_PER_NODE`] wired pods.
fn with_pods<T>(lab: &Lab, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut names = Vec::new();
    for node in lab.nodes() {
        for number in 0..PODS_PER_NODE {
            let name = format!("memory-{}-{number}", node.name());
            lab.apply(NAMESPACE, &pods::manifest(&name, &node, Some(NETWORK)))?;
            names.push(name);
        }
    }
    for name in &names {
        pods::wait_running(lab, name)?;
    }
    let done = work()?;
    lab.kubectl(&["delete", "-n", NAMESPACE, "pod", "--all", PATIENCE_FLAG])?
        .ok()?;
    Ok(done)
}

fn check(exceeded: &mut Vec<String>, name: &str, bytes: u64, limit: u64) {
    if bytes >= limit {
        exceeded.push(format!("{name} holds {bytes} bytes in memory; {limit} are too many"));
    }
}

/// Resident bytes of operator and agents by what they are and where.
fn resident(lab: &Lab) -> Result<BTreeMap<String, u64>> {
    let mut resident = BTreeMap::new();
    for node in lab.nodes() {
        let processes = node.exec("ps -eo rss=,comm=", NODE_LIMIT)?.ok()?;
        for line in processes.stdout.lines() {
            let mut words = line.split_whitespace();
            let (Some(kibibytes), Some(program)) = (words.next(), words.next()) else {
                continue;
            };
            // The kernel keeps 15 characters of a program's name.
            let program = match program {
                "railhead-agent" => "agent",
                "railhead-operat" => "operator",
                _ => continue,
            };
            resident.insert(
                format!("{program} on {}", node.name()),
                kibibytes.parse::<u64>()? * 1024,
            );
        }
    }
    ensure!(!resident.is_empty(), "no node runs an operator or agent");
    Ok(resident)
}
