//! Running pods of a network, what they are wired to, and traffic between them.

use anyhow::{Context, Result, ensure};
use railhead_e2e::{
    cluster::{PATIENCE, text},
    evidence::{Perftest, RailInPod, rails_seen_by},
    lab::{Lab, Node, RAILS, run::Output},
};
use serde_json::Value;

/// A running pod, as seen from inside.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) node: String,
    /// Address in the cluster's own network.
    pub(crate) ip: String,
    pub(crate) rails: Vec<RailInPod>,
}

impl Pod {
    fn look_at(lab: &Lab, pod: &Value) -> Result<Self> {
        let mut seen = Self {
            namespace: text(&pod["metadata"]["namespace"]),
            name: text(&pod["metadata"]["name"]),
            uid: text(&pod["metadata"]["uid"]),
            node: text(&pod["spec"]["nodeName"]),
            ip: text(&pod["status"]["podIP"]),
            rails: Vec::new(),
        };
        seen.rails = rails_seen_by(&seen.name, |command| seen.inside(lab, command))?;
        ensure!(
            seen.rails.len() == RAILS,
            "{} runs with the rails {:?}",
            seen.name,
            seen.rails
        );
        Ok(seen)
    }

    /// The machine that it runs on.
    pub(crate) fn machine(&self, lab: &Lab) -> Result<Node> {
        let number = self.node.trim_start_matches("node").parse();
        lab.node(number.with_context(|| format!("{} is no node of the lab", self.node))?)
    }

    /// What belongs to its index: name, address and MAC of every rail.
    pub(crate) fn identity(&self) -> Vec<(&str, &str, &str)> {
        self.rails
            .iter()
            .map(|rail| (rail.name.as_str(), rail.address.as_str(), rail.mac.as_str()))
            .collect()
    }

    /// Its address on a rail, without the prefix length.
    pub(crate) fn address(&self, rail: usize) -> &str {
        self.rails[rail].address.split('/').next().unwrap_or_default()
    }

    /// Runs a shell command in all namespaces of its container, straight from the node: `kubectl exec` starts three programs
    /// and takes seconds under emulation.
    pub(crate) fn inside(&self, lab: &Lab, command: &str) -> Result<Output> {
        let enter = format!(
            "for p in $(grep -l {} /proc/[0-9]*/cgroup 2>/dev/null); do p=${{p%/cgroup}}; grep -q '^/busybox' $p/cmdline && continue; \
             exec nsenter -t ${{p#/proc/}} -m -u -i -n -p -C -- /bin/sh -c '{}'; done; echo no container of the pod runs >&2; exit 1",
            self.uid,
            command.replace('\'', "'\\''"),
        );
        self.machine(lab)?.exec(&enter, PATIENCE)
    }
}

/// Waits until `count` pods of a network run, and looks at them; by index.
pub(crate) fn pods(lab: &Lab, namespace: &str, network: &str, count: usize) -> Result<Vec<Pod>> {
    let selector = format!("railhead.dev/network={network}");
    let running = lab.running_pods(namespace, &selector, count)?;
    running.iter().map(|pod| Pod::look_at(lab, pod)).collect()
}

/// Deletes a pod and waits until the pods of its network run again without it.
pub(crate) fn replaced(lab: &Lab, network: &str, pod: &Pod, count: usize) -> Result<Vec<Pod>> {
    let deleted = lab.kubectl(&["delete", "pod", "-n", &pod.namespace, &pod.name, "--wait=false"])?;
    deleted.ok()?;
    let pods = pods(lab, &pod.namespace, network, count)?;
    ensure!(pods.iter().all(|other| other.uid != pod.uid), "{} still runs", pod.name);
    Ok(pods)
}

/// Pings on every rail.
pub(crate) fn ping(lab: &Lab, from: &Pod, to: &Pod) -> Result<()> {
    for rail in 0..RAILS {
        let command = format!("ping -c 1 -W 20 -I {} {}", from.rails[rail].name, to.address(rail));
        from.inside(lab, &command)?.ok()?;
    }
    Ok(())
}

/// RDMA from one pod to another over a rail. Addresses and keys are exchanged over the cluster's own network, so that only
/// the rail itself decides whether the data arrives. Answers with what the client printed.
pub(crate) fn rdma(lab: &Lab, tool: &str, rail: usize, client: &Pod, server: &Pod) -> Result<Output> {
    let perftest = Perftest {
        tool,
        flags: "-s 4096 -n 10",
        server: &server.rails[rail],
        client: &client.rails[rail],
        address: &server.ip,
    };
    perftest.run(
        |command| server.inside(lab, command),
        |command| client.inside(lab, command),
    )
}

/// The same by the connection manager, which finds the path by the rail's address.
pub(crate) fn rdma_cm(lab: &Lab, tool: &str, rail: usize, client: &Pod, server: &Pod) -> Result<Output> {
    let perftest = Perftest {
        tool,
        flags: "-R -s 4096 -n 10",
        server: &server.rails[rail],
        client: &client.rails[rail],
        address: server.address(rail),
    };
    perftest.run(
        |command| server.inside(lab, command),
        |command| client.inside(lab, command),
    )
}
